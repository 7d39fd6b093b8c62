"""The composition root: everything is built, started and stopped here, and nowhere else."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp
from msgspec import Struct

from experiments.assignment import Assigner
from experiments.source import FixedExperiments
from service.api import dashboard, events, experiments, health, items, models, rank
from service.api.access import Access
from service.api.openapi import openapi_config
from service.api.problems import HANDLERS
from service.cache.redis import RedisScoreCache
from service.clock import Clock, SystemClock
from service.definitions import load_experiments
from service.deployments import Deployments, load_deployments
from service.feature_names import FeatureNames
from service.feedback import open_feedback
from service.health import Health
from service.probes import probes, watch
from service.ranker import Ranker
from service.routing import Router
from service.scoring import SlateScorer
from service.settings import LoadedSettings, Settings, default_state_directory, otel_variables
from service.stores import (
    EmbeddedStores,
    address_of,
    cache_client,
    cache_server_problems,
    redacted,
)
from service.telemetry import Telemetry, configure_logging, create_telemetry, export_settings

_log = logging.getLogger(__name__)


class Podium(Struct, frozen=True, kw_only=True):
    """A running service."""

    asgi: ASGIApp
    deployments: Deployments
    health: Health
    stores_summary: str
    """In words, without credentials."""


@asynccontextmanager
async def running(loaded: LoadedSettings) -> AsyncIterator[Podium]:
    """Build and start everything; stop it in reverse order.

    Events and exposures stop after the rankings that make them, telemetry and
    the stores last.

    Raises:
        StartupError, ExperimentInvalid: something is not fit to serve; one line.
    """
    settings, clock = loaded.settings, SystemClock()
    async with AsyncExitStack() as stack:
        telemetry = _telemetry(settings, clock)
        stack.callback(telemetry.shutdown)
        stores = await stack.enter_async_context(_stores(loaded))
        cache = await stack.enter_async_context(
            _cache(stores.cache_url, settings, telemetry, clock)
        )
        deployments = load_deployments(loaded, cache=cache, telemetry=telemetry, clock=clock)
        source = FixedExperiments(_experiments(loaded))
        feedback = await stack.enter_async_context(
            open_feedback(
                stores.events_url,
                redis=settings.redis,
                settings=settings.events,
                directory=state_directory(loaded),
                telemetry=telemetry,
                clock=clock,
            )
        )
        stack.push_async_callback(deployments.stop)
        state = Health(probes(cache, feedback.log, deployments, stores))
        watch(telemetry.metrics, cache, feedback.log, deployments)
        names = FeatureNames.of([bundle.schema for bundle in deployments.bundles])
        ranker = Ranker(
            router=Router(source, settings.surfaces, next(iter(deployments))),
            deployments=deployments,
            feature_names=names,
            scorer=SlateScorer(telemetry=telemetry, clock=clock),
            slates=feedback.slates,
            tokens=feedback.tokens,
            token_ttl_s=settings.events.token_ttl_s,
            exposures=feedback.sink,
            telemetry=telemetry,
            clock=clock,
            allow_degraded=settings.allow_degraded,
        )
        dependencies = {
            "ranker": ranker,
            "feature_names": names,
            "deployments": deployments,
            "surfaces": settings.surfaces,
            "source": source,
            "intake": feedback.intake,
            "statistics": feedback.statistics,
            "telemetry": telemetry,
            "health": state,
            "access": Access(settings.auth),
            "clock": clock,
            "body_limit": settings.server.max_body_bytes,
        }
        yield Podium(
            asgi=telemetry.middleware(_litestar(dependencies, settings)),
            deployments=deployments,
            health=state,
            stores_summary=_summary(settings, stores),
        )


def _litestar(dependencies: dict[str, object], settings: Settings) -> Litestar:
    def provide(value: object) -> Provide:
        return Provide(lambda: value, use_cache=True, sync_to_thread=False)

    return Litestar(
        route_handlers=[
            rank.rank,
            items.recommendations,
            events.events,
            experiments.experiments,
            experiments.experiment,
            experiments.report,
            models.models,
            health.live,
            health.ready,
            health.metrics,
            dashboard.page,
            dashboard.script,
            dashboard.style,
        ],
        dependencies={name: provide(value) for name, value in dependencies.items()},
        exception_handlers=HANDLERS,
        openapi_config=openapi_config(version("podium")),
        request_max_body_size=settings.server.max_body_bytes,
        logging_config=None,
    )


def _telemetry(settings: Settings, clock: Clock) -> Telemetry:
    configure_logging(settings.telemetry.log_level)
    return create_telemetry(
        sample_ratio=settings.telemetry.sample_ratio,
        export=export_settings(otel_variables()),
        surfaces=settings.surfaces,
        version=version("podium"),
        clock=clock,
    )


def state_directory(loaded: LoadedSettings) -> Path:
    """Where embedded servers, the signing key and the spool are."""
    configured = loaded.settings.state_directory
    return default_state_directory() if configured is None else loaded.path(configured)


def _stores(loaded: LoadedSettings) -> EmbeddedStores:
    settings = loaded.settings
    return EmbeddedStores(
        state_directory(loaded), redis=settings.redis, max_memory_mb=settings.cache.max_memory_mb
    )


@asynccontextmanager
async def _cache(
    url: str, settings: Settings, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[RedisScoreCache]:
    client = cache_client(url, settings.redis)
    async with client:
        for problem in await cache_server_problems(client):
            _log.warning("%s", problem)
        address, port, database = address_of(client)
        calls = telemetry.store("cache", address=address, port=port, database=database)
        cache = RedisScoreCache(
            client, cache=settings.cache, redis=settings.redis, clock=clock, watched=calls.call
        )
        await cache.start()
        try:
            yield cache
        finally:
            await cache.stop()


def _experiments(loaded: LoadedSettings) -> Assigner:
    file = loaded.settings.experiments.file
    if file is None:
        return Assigner(())
    return load_experiments(loaded.path(file), loaded.settings.deployments)


def _summary(settings: Settings, stores: EmbeddedStores) -> str:
    redis = settings.redis
    if redis.url is None:
        return "embedded Valkey; set redis.url for a server of your own"
    return f"{redacted(stores.cache_url)} for the cache, {redacted(stores.events_url)} for events"
