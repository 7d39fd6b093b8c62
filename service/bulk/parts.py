"""What fills the cache apart from a running service: no HTTP, no events, no experiments."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from msgspec import Struct

from experiments.assignment import Assigner
from experiments.source import FixedExperiments
from service.cache.opening import score_store
from service.cache.rows import RowLevels
from service.cache.slates import SlateCache
from service.clock import SystemClock
from service.deployments import DeploymentLoader, Models
from service.deployments.recovery import looked_after
from service.errors import StartupError
from service.feature_names import FeatureNames
from service.routing import Router
from service.scoring import SlateScorer
from service.settings import LoadedSettings
from service.telemetry import create_telemetry, export_settings
from service.warming.opening import open_cache_server
from service.warming.server import CacheServer
from service.warming.warmer import Warmer

_UNTRACED = {"OTEL_TRACES_EXPORTER": "none"}


class Parts(Struct, frozen=True):
    """A warmer and its way to the cache server."""

    warmer: Warmer
    server: CacheServer


@asynccontextmanager
async def warming_parts(loaded: LoadedSettings) -> AsyncIterator[Parts]:
    """Load what the settings deploy, and connect to their cache server.

    Raises:
        StartupError: no cache server that others reach, or a model cannot be loaded.
    """
    settings, clock, url = loaded.settings, SystemClock(), loaded.settings.redis.url
    if url is None:
        raise StartupError(
            "redis.url is not set: Podium's embedded cache server is for one service alone; "
            "name the cache server that the replicas share"
        )
    telemetry = create_telemetry(
        sample_ratio=0.0,
        export=export_settings(_UNTRACED),
        surfaces=settings.surfaces,
        version=version("podium"),
        clock=clock,
    )
    async with AsyncExitStack() as stack:
        stack.callback(telemetry.shutdown)
        store = score_store(url, cache=settings.cache, redis=settings.redis, clock=clock)
        await store.start()
        stack.push_async_callback(store.stop)
        server = await stack.enter_async_context(open_cache_server(url, settings.redis))
        cache = SlateCache(store, settings=settings.cache, clock=clock)
        loader = DeploymentLoader(
            loaded,
            loaded.state_directory,
            cache=cache,
            rows=RowLevels.over(store, settings.cache, clock),
            telemetry=telemetry,
            clock=clock,
        )
        models = Models(loader, settings.deployments)
        stack.push_async_callback(models.stop)
        deployments = models.deployments
        await stack.enter_async_context(
            looked_after(
                deployments,
                clock,
                stop_limit_s=settings.server.drain_timeout_s,
                purge=lambda: server.purge(beyond=cache.epoch),
            )
        )
        await models.catch_up()
        scorer = SlateScorer(telemetry=telemetry, clock=clock)
        stack.push_async_callback(scorer.stop)
        warmer = Warmer(
            router=Router(
                FixedExperiments(Assigner(())), settings.surfaces, next(iter(deployments))
            ),
            deployments=deployments,
            feature_names=FeatureNames.of([bundle.schema for bundle in deployments.bundles]),
            scorer=scorer,
            server=server,
            waiting_rows=lambda: sum(one.waiting_rows for one in deployments.batchers),
            clock=clock,
        )
        yield Parts(warmer, server)
