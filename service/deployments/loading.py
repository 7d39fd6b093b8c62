"""From settings to deployments: bundles opened, engines proved, everything shared that can be."""

from pathlib import Path

import ranking_models
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.errors import InputError
from service.batching.batcher import Batcher
from service.cache import ScoreCache
from service.clock import Clock
from service.deployments.deployment import POPULARITY, Deployment, Deployments, score_hash
from service.engines.chain import EngineChain
from service.engines.loading import load_chain
from service.errors import StartupError
from service.features import BundleFeatures
from service.settings import DeploymentSettings, LoadedSettings, Settings
from service.slate import PopularityOrder
from service.telemetry import Telemetry


def load_deployments(
    loaded: LoadedSettings, *, cache: ScoreCache, telemetry: Telemetry, clock: Clock
) -> Deployments:
    """Open the bundles, prove the engines and build the batchers.

    Raises:
        StartupError: a bundle or an engine is not fit to serve; names it.
    """
    loader = _Loader(loaded, cache, telemetry, clock)
    names = loaded.settings.deployments
    return Deployments([loader.load(name, chosen) for name, chosen in names.items()])


def bundle_directory(loaded: LoadedSettings) -> Path:
    """Where bundles are looked for: the configured directory, else the demonstration's."""
    configured = loaded.settings.models.directory
    if configured is not None:
        return loaded.path(configured)
    return Path(ranking_models.__file__).parent / "demo"


class _Loader:
    """Loads everything once and shares it."""

    def __init__(
        self, loaded: LoadedSettings, cache: ScoreCache, telemetry: Telemetry, clock: Clock
    ) -> None:
        self._settings: Settings = loaded.settings
        self._directory = bundle_directory(loaded)
        self._cache, self._telemetry, self._clock = cache, telemetry, clock
        self._bundles: dict[Path, tuple[Bundle, BundleFeatures, PopularityOrder]] = {}
        self._batchers: dict[object, tuple[Batcher, tuple[EngineChain, ...]]] = {}

    def load(self, name: str, chosen: DeploymentSettings) -> Deployment:
        try:
            bundle, features, popularity = self._bundle(chosen.model)
            hashed = score_hash(bundle, chosen.precision, chosen.engines[0])
        except InputError as error:
            raise StartupError(f"deployment {name!r}: {error}") from error
        ranks_by_popularity = chosen.engines == (POPULARITY,)
        batcher, chains = (None, ()) if ranks_by_popularity else self._batcher(bundle, chosen)
        return Deployment(
            name=name,
            settings=chosen,
            bundle=bundle,
            features=features,
            popularity=popularity,
            score_hash=hashed,
            batcher=batcher,
            chains=chains,
            cache=self._cache if chosen.cache == "exact" and batcher is not None else None,
        )

    def _bundle(self, reference: str) -> tuple[Bundle, BundleFeatures, PopularityOrder]:
        path = find_bundle(self._directory, reference)
        if path not in self._bundles:
            bundle = Bundle.open(path)
            order = PopularityOrder(bundle.popularity)
            self._bundles[path] = (bundle, BundleFeatures(bundle), order)
        return self._bundles[path]

    def _batcher(
        self, bundle: Bundle, chosen: DeploymentSettings
    ) -> tuple[Batcher, tuple[EngineChain, ...]]:
        same = (bundle.path, chosen.precision, chosen.engines)
        if same not in self._batchers:
            policy = self._settings.batching
            chains = tuple(
                load_chain(
                    bundle, chosen.precision, chosen.engines, self._settings.engine, self._clock
                )
                for _ in range(policy.instances)
            )
            batcher = Batcher(chains, policy, self._clock, on_batch=self._telemetry.batch)
            self._batchers[same] = (batcher, chains)
        return self._batchers[same]
