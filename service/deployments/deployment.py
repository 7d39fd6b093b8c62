"""What can serve: bundles opened, engines proved, batchers running, under their names.

Deployments that would compute the same share one batcher, so their requests
share batches; those of one bundle share its tables.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.manifest import Gate
from ranking_models.schema import FeatureValue
from service.batching.batcher import Batcher
from service.cache import ScoreCache, SlateKey, slate_key
from service.engines import EngineInfo
from service.engines.chain import EngineChain
from service.engines.state import EngineState, total
from service.features import FeatureSource, RequestRows
from service.messages import DeploymentReport, EngineReport, GateReport, ModelRef, ModelsReply
from service.settings import DeploymentSettings
from service.slate import PopularityOrder

POPULARITY = "popularity"


class Deployment(Struct, frozen=True, kw_only=True):
    """One way of serving: a model in a precision, its engines, and a cache."""

    name: str
    settings: DeploymentSettings
    bundle: Bundle
    features: FeatureSource
    popularity: PopularityOrder
    score_hash: str
    """Stands for all that makes the scores of its first engine; see `score_hash`."""
    batcher: Batcher | None
    """None: this deployment ranks by popularity."""
    chains: tuple[EngineChain, ...] = ()
    """One per instance of the batcher."""
    cache: ScoreCache | None = None
    """None: every request is computed."""

    @property
    def engines(self) -> tuple[EngineState, ...]:
        """The engines in the order of the chain, all instances added up."""
        return total(chain.states() for chain in self.chains)

    @property
    def model(self) -> ModelRef:
        """What serves when nothing fails."""
        if not self.chains:
            return self.popularity_model
        return self.served_by(self.chains[0].engines[0].info)

    @property
    def popularity_model(self) -> ModelRef:
        """What serves when no engine does."""
        manifest = self.bundle.manifest
        return ModelRef(
            name=manifest.name, version=manifest.version, precision="none", engine=POPULARITY
        )

    def served_by(self, engine: EngineInfo) -> ModelRef:
        """What served, by the precision that really ran: a fallback's may be another."""
        manifest = self.bundle.manifest
        return ModelRef(
            name=manifest.name,
            version=manifest.version,
            precision=engine.precision,
            engine=engine.name,
        )

    def key(
        self,
        rows: RequestRows,
        overrides: Mapping[str, Mapping[str, FeatureValue]],
        epoch: int,
    ) -> SlateKey:
        """Where the cache holds the scores of these rows."""
        return slate_key(
            score_hash=self.score_hash,
            epoch=epoch,
            user=rows.user,
            context=rows.context,
            items=rows.item_ids,
            overrides=overrides,
        )

    def candidates_of(self, anchor: str) -> tuple[str, ...] | None:
        """The precomputed candidates beside an item; None if the catalogue lacks it."""
        position = self.features.position(anchor)
        if position < 0:
            return None
        candidates = self.bundle.candidates[position]
        return tuple(self.bundle.item_ids[candidates[candidates >= 0]].tolist())


def score_hash(bundle: Bundle, precision: str, engine: str) -> str:
    """Names everything that makes scores: the bundle, the precision, and the engine.

    Two engines round differently, so they share no cache entries; a deployment's
    entries are those of its first engine, whatever comes after it in the chain.

    Raises:
        BundleError: the bundle has no such precision.
    """
    return sha256(f"{bundle.score_hash(precision)} {engine}".encode()).hexdigest()


class Deployments(Mapping[str, Deployment]):
    """All deployments of the settings, by name. Started and stopped as one."""

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self._by_name = {deployment.name: deployment for deployment in deployments}

    def __getitem__(self, name: str) -> Deployment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def batchers(self) -> tuple[Batcher, ...]:
        """Each batcher once, however many deployments share it."""
        found = {id(d.batcher): d.batcher for d in self.values() if d.batcher is not None}
        return tuple(found.values())

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Each bundle once."""
        return tuple({d.bundle.path: d.bundle for d in self.values()}.values())

    def describe(self, surfaces: Mapping[str, str]) -> ModelsReply:
        """Every deployment with its figures.

        Args:
            surfaces: Surface to deployment, from the settings.
        """
        return ModelsReply(
            deployments=tuple(_describe(deployment, surfaces) for deployment in self.values())
        )

    def summary(self) -> str:
        """The deployments in a few words, for the start page."""
        return ", ".join(f"{name} ({_named(d.model)})" for name, d in sorted(self.items()))

    def example_request(self, base_url: str) -> str:
        """A curl line that works as printed: a known user and items that are popular."""
        bundle = next(iter(self.values())).bundle
        items = [str(bundle.item_ids[at]) for at in bundle.popularity[:5]]
        body: dict[str, object] = {"candidates": items, "k": 3}
        if len(bundle.user_ids):
            body["user"] = {"id": str(bundle.user_ids[0])}
        text = json.dumps(body).replace("'", "'\\''")
        return f"curl -s {base_url}/v1/rank -H 'Content-Type: application/json' -d '{text}'"

    async def stop(self) -> None:
        """Score what is queued, then refuse."""
        for batcher in self.batchers:
            await batcher.stop()


def _named(model: ModelRef) -> str:
    return f"{model.name}@{model.version} {model.precision} on {model.engine}"


def _describe(deployment: Deployment, surfaces: Mapping[str, str]) -> DeploymentReport:
    bundle, batcher = deployment.bundle, deployment.batcher
    manifest = bundle.manifest
    serving = manifest.precisions.get(deployment.model.precision)  # none: popularity ranks
    lineage = manifest.lineage if serving else None
    return DeploymentReport(
        name=deployment.name,
        model=deployment.model,
        cache="off" if deployment.cache is None else deployment.settings.cache,
        surfaces=tuple(sorted(s for s, name in surfaces.items() if name == deployment.name)),
        engines=tuple(_engine(state) for state in deployment.engines),
        queue_rows=batcher.waiting_rows if batcher else 0,
        items=len(bundle.item_ids),
        users=len(bundle.user_ids),
        quality=manifest.quality if batcher else None,
        gate=_gate(serving.gate if serving else None),
        lineage_gate=_gate(lineage.gate if lineage else None),
        data=manifest.data,
    )


def _gate(gate: Gate | None) -> GateReport | None:
    if gate is None:
        return None
    return GateReport(
        verdict="passed" if gate.passed else "failed",
        forced=gate.forced,
        failures=gate.failures,
        reference=gate.reference,
        evidence=gate.evidence,
        figures=gate.figures,
    )


def _engine(state: EngineState) -> EngineReport:
    return EngineReport(
        name=state.engine.name,
        status="failing" if state.failures_in_a_row else "ready",
        calls=state.calls,
        rows=state.rows,
        failed_calls=state.failed_calls,
        invalid_rows=state.invalid_rows,
        last_error=state.last_error,
    )
