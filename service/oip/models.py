"""What there is under which name, and what the protocol says of it.

Every deployment with engines is a model under its own name, and its versions
are those of its bundle: the one that serves, by default, and those that stand
by. A graph is a model under the name that it has in a Triton repository, such
as ``movielens-1c9fa2a1-fp16``: of several deployments that serve it, the first
answers. So one Podium asks another as it asks a Triton server. A name that is a
deployment's is no graph's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ranking_models.triton.border import OUTPUT, inputs_of, model_name
from ranking_models.triton.config import (
    TYPES,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    TensorConfig,
)
from service.deployments import Deployment, Deployments
from service.deployments.recovery import can_score
from service.errors import UnknownModel, UnknownVersion
from service.settings import BatchPolicy

GRAPH_VERSION = "1"
"""Of a graph under its own name, which says its version already."""
PLATFORM = "podium"
PRIORITIES = 3
"""High, normal and low, which is 1 to 3."""
ANY = -1


class Served(Struct, frozen=True, kw_only=True):
    """A model under one of its names."""

    name: str
    version: str
    versions: tuple[str, ...]
    """All that there are under this name, the default first."""
    deployment: Deployment

    @property
    def is_ready(self) -> bool:
        """Whether an engine can score."""
        return can_score(self.deployment)


class ServedModels:
    """Finds models by name. For one event loop.

    Args:
        deployments: All that serve.
        standing_by: Gives those that are loaded besides.
        policy: How batches leave.
    """

    def __init__(
        self,
        deployments: Deployments,
        standing_by: Callable[[], Sequence[Deployment]],
        policy: BatchPolicy,
    ) -> None:
        self._deployments, self._standing_by, self._policy = deployments, standing_by, policy

    def find(self, name: str, version: str | None = None) -> Served:
        """One model.

        Raises:
            UnknownModel, UnknownVersion: there is none; says what there is.
        """
        default = self._deployments.get(name)
        if default is None or default.batcher is None:
            found = self._graph(name)
        else:
            found = _of_deployment(default, self._standing_by())
        if version is None:
            return found[0]
        for served in found:
            if served.version == version:
                return served
        there = ", ".join(found[0].versions)
        raise UnknownVersion(f"model {name!r} has no version {version[:80]!r}, but {there}")

    def all(self) -> Iterator[Served]:
        """Every version of every model."""
        serving = [d for d in self._deployments.values() if d.batcher is not None]
        standing_by = self._standing_by()
        for deployment in serving:
            yield from _of_deployment(deployment, standing_by)
        graphs = {_graph_name(d): d for d in reversed([*serving, *standing_by])}
        for name, deployment in sorted(graphs.items()):
            if name not in self._deployments:
                yield _of_graph(name, deployment)

    def metadata(self, served: Served) -> dict[str, Any]:
        """What the model takes and gives."""
        schema = served.deployment.bundle.schema
        inputs = [_declared(t.name, t.datatype, (ANY, t.width)) for t in inputs_of(schema)]
        return {
            "name": served.name,
            "versions": served.versions,
            "platform": PLATFORM,
            "inputs": inputs,
            "outputs": [_declared(OUTPUT, "FP32", (ANY,))],
        }

    def config(self, served: Served) -> dict[str, Any]:
        """How the model runs, in the words of Triton's ``/config``."""
        deployment, policy = served.deployment, self._policy
        chain = deployment.chains[0]
        most = policy.max_batch_rows or chain.best_batch_rows
        preferred = min(policy.preferred_batch_rows or most, most, chain.max_batch_rows)
        inputs = inputs_of(deployment.bundle.schema)
        config = ModelConfig(
            name=served.name,
            backend=PLATFORM,
            max_batch_size=chain.max_batch_rows,
            input=tuple(TensorConfig(t.name, TYPES[t.datatype], (t.width,)) for t in inputs),
            output=(TensorConfig(OUTPUT, TYPES["FP32"], ()),),
            instance_group=(InstanceGroup(_kind(chain.first.name), len(deployment.chains)),),
            dynamic_batching=DynamicBatching(
                preferred_batch_size=(preferred,),
                max_queue_delay_microseconds=round(policy.max_queue_delay_s * 1e6),
                preserve_ordering=policy.preserve_ordering,
                priority_levels=PRIORITIES,
                default_priority_level=2,
            ),
        )
        return {"platform": PLATFORM, **msgspec.to_builtins(config)}

    def _graph(self, name: str) -> tuple[Served, ...]:
        candidates = (*self._deployments.values(), *self._standing_by())
        for deployment in candidates:
            if deployment.batcher is not None and _graph_name(deployment) == name:
                return (_of_graph(name, deployment),)
        names = sorted({served.name for served in self.all()})
        raise UnknownModel(
            f"there is no model {name[:80]!r} that an engine serves; there are: "
            f"{', '.join(names) or 'none'}"
        )


def _of_deployment(deployment: Deployment, standing_by: Sequence[Deployment]) -> tuple[Served, ...]:
    """The versions of a deployment, the one that serves first."""
    others = (d for d in standing_by if d.name == deployment.name and d.batcher is not None)
    by_version = {d.bundle.manifest.version: d for d in (deployment, *others)}
    versions = tuple(by_version)
    return tuple(
        Served(name=deployment.name, version=version, versions=versions, deployment=d)
        for version, d in by_version.items()
    )


def _of_graph(name: str, deployment: Deployment) -> Served:
    return Served(
        name=name, version=GRAPH_VERSION, versions=(GRAPH_VERSION,), deployment=deployment
    )


def _graph_name(deployment: Deployment) -> str:
    return model_name(deployment.bundle.manifest, deployment.settings.precision)


def _declared(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _kind(engine: str) -> str:
    """Where an engine runs; of another server's, only that server knows."""
    if engine == "triton":
        return "KIND_AUTO"
    return "KIND_GPU" if engine in ("tensorrt", "onnxruntime-cuda") else "KIND_CPU"
