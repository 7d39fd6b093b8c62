"""What can serve: bundles opened, engines proved, batchers running, under their names.

Deployments that would compute the same share one batcher, so their requests
share batches; those of one bundle share its tables.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import takewhile

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.cache_evaluation import read_beside
from ranking_models.manifest import Gate, ModelManifest
from service.batching.batcher import Batcher
from service.cache import ScoreCache, SlateKey, slate_key
from service.cache.slate_worth import SlateWorth
from service.deployments.segment_rows import SegmentRows
from service.engines import EngineInfo
from service.engines.chain import EngineChain
from service.engines.link import IN_USE
from service.engines.loaded_chains import LoadedChains
from service.engines.loading import LoadedEngines
from service.engines.state import EngineState, total
from service.features import FeatureSource, RequestRows
from service.messages import (
    CacheModesReport,
    DeploymentReport,
    EngineReport,
    GateReport,
    ModelRef,
)
from service.no_folders import without_folders
from service.settings import DeploymentSettings
from service.slate import PopularityOrder

POPULARITY = "popularity"


class Deployment(Struct, frozen=True, kw_only=True, weakref=True):
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
    loaded: LoadedChains | None = None
    """Who loaded the chains and closes them; None where somebody else does."""
    segments: SegmentRows | None = None
    """What the segment modes need; None where the bundle has no segments or popularity ranks."""
    cache: ScoreCache | None = None
    """None: every request is computed. Whether it is asked says the mode, of the settings or of an
    experiment's variant."""
    slate_worth: SlateWorth | None = None
    """Whether rank requests ask it; None: they do."""

    @property
    def engines(self) -> tuple[EngineState, ...]:
        """The engines in the order of the chain, all instances added up."""
        return total(chain.states() for chain in self.chains)

    @property
    def serving(self) -> EngineInfo | None:
        """The engine that calls go to now; None: none is well, or popularity ranks."""
        return next((s.engine for s in self.engines if s.status in IN_USE), None)

    @property
    def model(self) -> ModelRef:
        """What serves when nothing fails."""
        if not self.chains:
            return self.popularity_model
        return self.served_by(self.chains[0].first)

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

    def key(self, rows: RequestRows, epoch: int, arm: str = "") -> SlateKey:
        """Where the cache holds the scores of these rows."""
        return slate_key(
            score_hash=self.score_hash,
            epoch=epoch,
            user=rows.user,
            context=rows.context,
            items=rows.items,
            overrides=rows.overrides,
            arm=arm,
            digests=rows.digests,
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
    """All deployments of the settings, by name. For one event loop.

    Under a name another deployment may serve from one moment to the next, when
    a model's default version moves. So a request looks its deployment up once
    and keeps it to its end.
    """

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._serve({deployment.name: deployment for deployment in deployments})
        self._followers: list[Callable[[], None]] = []

    def __getitem__(self, name: str) -> Deployment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def replace(self, others: Iterable[Deployment]) -> None:
        """Let these serve in place of those of the same names, from the next request on."""
        self._serve({**self._by_name, **{other.name: other for other in others}})
        for follow in self._followers:
            follow()

    def on_change(self, follow: Callable[[], None]) -> None:
        """Have this called whenever deployments were replaced."""
        self._followers.append(follow)

    def _serve(self, by_name: dict[str, Deployment]) -> None:
        # Worked out here, as every request asks.
        self._by_name = by_name
        served = by_name.values()
        found = {id(d.batcher): d.batcher for d in served if d.batcher is not None}
        self.batchers = tuple(found.values())
        """Each batcher once, however many deployments share it."""
        self.wait_for_engines_only = all(
            d.batcher is not None and (d.cache is None or d.settings.cache == "off") for d in served
        )
        """No deployment asks a cache or ranks by popularity."""
        self._worths = [d.slate_worth for d in served if d.slate_worth is not None]

    @property
    def some_wait_for_engines_only(self) -> bool:
        """Whether some requests ask no cache now."""
        return self.wait_for_engines_only or any(worth.declines for worth in self._worths)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Each bundle once."""
        return tuple({d.bundle.path: d.bundle for d in self.values()}.values())

    def reports(self, surfaces: Mapping[str, str]) -> tuple[DeploymentReport, ...]:
        """Every deployment with its figures.

        Args:
            surfaces: Surface to deployment, from the settings.
        """
        return tuple(_report(deployment, surfaces) for deployment in self.values())

    def summary(self) -> str:
        """The deployments in a few words, for the start page."""
        return ", ".join(f"{name} ({_in_words(d)})" for name, d in sorted(self.items()))

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
        """Score what is queued, then refuse, and close the engines."""
        for batcher in self.batchers:
            await batcher.stop()
        for loaded in {id(d.loaded): d.loaded for d in self.values()}.values():
            if loaded is not None:
                loaded.close()


def _in_words(deployment: Deployment) -> str:
    """What serves now, and the engines before it that do not."""
    serving = deployment.serving
    model = deployment.model if serving is None else deployment.served_by(serving)
    passed_by = takewhile(lambda state: state.status not in IN_USE, deployment.engines)
    absent = "".join(f"; {_called(state.engine)} is {state.status}" for state in passed_by)
    return f"{model.name}@{model.version} {model.precision} on {model.engine}{absent}"


def _called(engine: EngineInfo) -> str:
    return f"the shared {engine.name}" if engine.shared else engine.name


def _report(deployment: Deployment, surfaces: Mapping[str, str]) -> DeploymentReport:
    bundle, batcher = deployment.bundle, deployment.batcher
    manifest = bundle.manifest
    serving = manifest.precisions.get(deployment.model.precision)  # none: popularity ranks
    lineage = manifest.lineage if serving else None
    return DeploymentReport(
        name=deployment.name,
        model=deployment.model,
        cache="off" if deployment.cache is None else deployment.settings.cache,
        surfaces=tuple(sorted(s for s, name in surfaces.items() if name == deployment.name)),
        engines=_engines(deployment),
        queue_rows=batcher.waiting_rows if batcher else 0,
        items=len(bundle.item_ids),
        users=len(bundle.user_ids),
        quality=manifest.quality if batcher else None,
        gate=_gate(serving.gate if serving else None),
        lineage_gate=_gate(lineage.gate if lineage else None),
        data=manifest.data,
        cache_modes=_cache_modes(manifest) if batcher else None,
        cache_evaluation=read_beside(bundle.path, f"{manifest.name}@{manifest.version}"),
    )


def _cache_modes(manifest: ModelManifest) -> CacheModesReport | None:
    segments = manifest.segments
    if segments is None or segments.modes is msgspec.UNSET:
        return None
    on = segments.modes_on
    return CacheModesReport(measured_on=None if on is msgspec.UNSET else on, modes=segments.modes)


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


def _engines(deployment: Deployment) -> tuple[EngineReport, ...]:
    chains = deployment.loaded
    return tuple(
        _engine(state, None if chains is None else chains.loaded(place))
        for place, state in enumerate(deployment.engines)
    )


def _engine(state: EngineState, loaded: LoadedEngines | None) -> EngineReport:
    return EngineReport(
        name=state.engine.name,
        precision=state.engine.precision,
        status=state.status,
        since=state.since,
        opened=state.opened,
        best_batch_rows=state.engine.best_batch_rows,
        split=state.engine.split,
        shared=state.engine.shared,
        predicted_bytes=loaded.predicted_bytes if loaded else 0,
        used_bytes=loaded.used_bytes if loaded else 0,
        calls=state.calls,
        rows=state.rows,
        failed_calls=state.failed_calls,
        invalid_rows=state.invalid_rows,
        last_error=None if state.last_error is None else without_folders(state.last_error),
    )
