"""From settings to deployments: bundles opened, engines proved, everything shared that can be."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

import ranking_models
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.errors import InputError
from service.batching.batcher import Batcher
from service.cache import ScoreCache
from service.cache.rows import RowLevels
from service.cache.slate_worth import SlateWorth
from service.clock import Clock
from service.deployments.activations import Activations
from service.deployments.deployment import POPULARITY, Deployment, score_hash
from service.deployments.segment_rows import (
    SEGMENT_MODES,
    SegmentRows,
    no_segments,
    segment_rows,
)
from service.engines.host.client import EngineClient
from service.engines.loaded_chains import EngineChoice, LoadedChains, choices
from service.engines.loading import ON_THE_CPU, EngineLoader
from service.errors import StartupError
from service.features import BundleFeatures
from service.settings import PLANS, BatchPolicy, DeploymentSettings, LoadedSettings
from service.slate import PopularityOrder
from service.telemetry import Telemetry

ON_A_DEVICE_INSTANCES = 2
"""While one batch is on the device, the next one is on its way to it."""
_log = logging.getLogger(__name__)


def bundle_directory(loaded: LoadedSettings) -> Path:
    """Where bundles are looked for: the configured directory, else the demonstration's."""
    configured = loaded.settings.models.directory
    if configured is not None:
        return loaded.path(configured)
    return Path(ranking_models.__file__).parent / "demo"


class _Tables(Struct, frozen=True):
    """What all deployments of one bundle share."""

    bundle: Bundle
    features: BundleFeatures
    popularity: PopularityOrder


class _Computation(Struct, frozen=True):
    """What makes scores: deployments that agree in it share batches."""

    bundle: Path
    engines: tuple[EngineChoice, ...]


class Scoring(Struct, frozen=True):
    """A batcher and the engines behind it."""

    batcher: Batcher
    loaded: LoadedChains


class DeploymentLoader:
    """Loads everything once and shares it. One caller at a time.

    Args:
        loaded: The settings.
        state: The state directory: compiled plans, and what was made the default.
        cache: For deployments that cache.
        rows: Where those of the segment modes keep score rows.
        telemetry: Told of every batch.
        clock: The batchers' and the engines'.
        shared: The way to the engine process, where there is one.
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        state: Path,
        *,
        cache: ScoreCache,
        rows: RowLevels,
        telemetry: Telemetry,
        clock: Clock,
        shared: EngineClient | None = None,
    ) -> None:
        settings = loaded.settings
        plans = settings.engine.plan_directory
        plan_directory = state / PLANS if plans is None else loaded.path(plans)
        self.engines = EngineLoader(settings.engine, plan_directory, clock, shared=shared)
        self.activations = Activations(state)
        self.directory = bundle_directory(loaded)
        self._policy, self._slates = settings.batching, settings.cache.slates
        self._cache, self._rows = cache, rows
        self._telemetry, self._clock = telemetry, clock
        self._tables: dict[Path, _Tables] = {}
        self._chains: dict[_Computation, LoadedChains] = {}
        self._batchers: dict[_Computation, Batcher] = {}

    def deployment(
        self, name: str, chosen: DeploymentSettings, version: str | None = None
    ) -> Deployment:
        """Open a deployment; what was prepared is not loaded again. On the event loop's thread.

        Args:
            name: Its own.
            chosen: What the settings say of it.
            version: Of its model, where the settings name none; without it the
                version that was activated, else the newest.

        Raises:
            StartupError: the bundle or every engine is not fit to serve; names it.
        """
        tables = self._opened(name, chosen, version)
        bundle, engines = tables.bundle, self._engines(chosen)
        computation = _Computation(bundle.path, engines)
        scoring = self._scoring(computation, bundle) if engines else None
        first = engines[0] if engines else EngineChoice(POPULARITY, chosen.precision)
        named = score_hash(bundle, first.precision, first.name)
        return Deployment(
            name=name,
            settings=chosen,
            bundle=bundle,
            features=tables.features,
            popularity=tables.popularity,
            score_hash=named,
            batcher=scoring.batcher if scoring else None,
            chains=scoring.loaded.chains if scoring else (),
            loaded=scoring.loaded if scoring else None,
            segments=self._segments(name, chosen, tables, scoring, named) if scoring else None,
            cache=self._cache if scoring else None,
            slate_worth=SlateWorth(self._slates) if scoring else None,
        )

    def _segments(
        self, name: str, chosen: DeploymentSettings, tables: _Tables, scoring: Scoring, named: str
    ) -> SegmentRows | None:
        rows = segment_rows(
            tables.bundle,
            tables.features,
            scoring.batcher,
            self._rows,
            name=name,
            score_hash=named,
            clock=self._clock,
        )
        if rows is None and chosen.cache in SEGMENT_MODES:
            raise StartupError(f"deployment {name!r}: {no_segments(chosen.cache, tables.bundle)}")
        return rows

    def prepare(self, name: str, chosen: DeploymentSettings, version: str) -> None:
        """Do all of `deployment` that takes long, slow engines included; from any thread.

        Raises:
            StartupError: as `deployment`.
        """
        tables = self._opened(name, chosen, version)
        engines = self._engines(chosen)
        if engines:
            computation = _Computation(tables.bundle.path, engines)
            self._loaded_chains(computation, tables.bundle).wait()

    def forget(self, in_use: Iterable[Deployment]) -> tuple[Scoring, ...]:
        """Share no more what none of these deployments uses.

        Returns:
            What is left over, for somebody to stop and close.
        """
        deployments = list(in_use)
        bundles = {deployment.bundle.path for deployment in deployments}
        kept = {id(deployment.loaded) for deployment in deployments}
        left = [c for c, loaded in self._chains.items() if id(loaded) not in kept]
        self._tables = {path: t for path, t in self._tables.items() if path in bundles}
        unused = []
        for computation in left:
            loaded, batcher = self._chains.pop(computation), self._batchers.pop(computation, None)
            if batcher is None:
                loaded.close()  # it was only prepared: nobody ever scored with it
            else:
                unused.append(Scoring(batcher, loaded))
        return tuple(unused)

    def _opened(self, name: str, chosen: DeploymentSettings, version: str | None) -> _Tables:
        try:
            path = find_bundle(self.directory, self._reference(chosen.model, version))
            if path not in self._tables:
                bundle = Bundle.open(path)
                order = PopularityOrder(bundle.popularity)
                self._tables[path] = _Tables(bundle, BundleFeatures(bundle), order)
            self._tables[path].bundle.graph(chosen.precision)
        except InputError as error:
            raise StartupError(f"deployment {name!r}: {error}") from error
        return self._tables[path]

    def _reference(self, model: str, version: str | None) -> str:
        if "@" in model:
            return model
        if version is None:
            version = self.activations.version(model)
            if version is not None and not (self.directory / model / version).is_dir():
                gone = f"{model}@{version}, which {self.activations.file} makes the default"
                _log.warning("%s, is gone: the newest version serves", gone)
                version = None
        return model if version is None else f"{model}@{version}"

    def _scoring(self, computation: _Computation, bundle: Bundle) -> Scoring:
        loaded = self._loaded_chains(computation, bundle)
        if computation not in self._batchers:
            waits = self._waits(computation.engines)
            policy = settled(self._policy, instances=len(loaded.chains), waits=waits)
            self._batchers[computation] = Batcher(
                loaded.chains,
                policy,
                self._clock,
                on_batch=self._telemetry.batch,
                trace=self._telemetry.batch_trace,
            )
        return Scoring(self._batchers[computation], loaded)

    def _loaded_chains(self, computation: _Computation, bundle: Bundle) -> LoadedChains:
        if computation not in self._chains:
            instances = self._policy.instances or self._fitting_instances(computation.engines)
            self._chains[computation] = LoadedChains(
                self.engines, bundle, computation.engines, instances, self._clock
            )
        return self._chains[computation]

    def _fitting_instances(self, engines: Sequence[EngineChoice]) -> int:
        if self._policy.execution == "inline" or not self._waits(engines):
            return 1
        return ON_A_DEVICE_INSTANCES

    def _waits(self, engines: Sequence[EngineChoice]) -> bool:
        """Whether scoring means to wait for a device, another process or another server."""
        if any(engine.shared for engine in engines):
            return True
        names = [engine.name for engine in engines if engine.name not in ON_THE_CPU]
        return any(self.engines.absent(name) is None for name in names)

    def _engines(self, chosen: DeploymentSettings) -> tuple[EngineChoice, ...]:
        """None where popularity ranks.

        Raises:
            StartupError: popularity is asked for among engines.
        """
        if chosen.engines == (POPULARITY,):
            return ()
        if POPULARITY in chosen.engines:
            alone = f'engines = ["{POPULARITY}"] stands alone'
            raise StartupError(f"{alone}: it is no engine, and answers by itself when none does")
        return choices(chosen.engines, chosen.precision, shared=self.engines.shares)


def settled(policy: BatchPolicy, *, instances: int, waits: bool) -> BatchPolicy:
    """What the settings leave to the engines, filled in.

    Args:
        policy: Of the settings.
        instances: Chains that there are.
        waits: Whether scoring means to wait for a device or another server.
    """
    execution = policy.execution
    if execution == "auto":
        execution = "thread" if waits or instances > 1 else "inline"
    return msgspec.structs.replace(policy, instances=instances, execution=execution)
