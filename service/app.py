"""The composition root: everything is built, started and stopped here, and nowhere else."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from litestar.types import ASGIApp
from msgspec import Struct

from experiments.assignment import Assigner
from experiments.source import FixedExperiments
from service.api.access import Access
from service.api.application import application
from service.api.draining import Draining
from service.cache.redis import RedisScoreCache
from service.clock import Clock, SystemClock
from service.definitions import load_experiments
from service.deployments import Deployments, load_deployments
from service.deployments.recovery import looked_after
from service.feature_names import FeatureNames
from service.feedback import Feedback, open_feedback
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


class _Parts(Struct, frozen=True, kw_only=True):
    """Everything that runs, and what it is made of."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    stores: EmbeddedStores
    cache: RedisScoreCache
    deployments: Deployments
    experiments: FixedExperiments
    feedback: Feedback


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
        cache = await stack.enter_async_context(_cache(stores, settings, telemetry, clock))
        deployments = load_deployments(loaded, cache=cache, telemetry=telemetry, clock=clock)
        source = FixedExperiments(_experiments(loaded))
        feedback = await stack.enter_async_context(_feedback(loaded, stores, telemetry, clock))
        await stack.enter_async_context(
            looked_after(deployments, clock, stop_limit_s=settings.server.drain_timeout_s)
        )
        yield _podium(
            _Parts(
                settings=settings,
                clock=clock,
                telemetry=telemetry,
                stores=stores,
                cache=cache,
                deployments=deployments,
                experiments=source,
                feedback=feedback,
            )
        )


def _podium(parts: _Parts) -> Podium:
    settings, telemetry, feedback = parts.settings, parts.telemetry, parts.feedback
    state = Health(
        probes(
            parts.cache,
            feedback,
            parts.deployments,
            parts.stores,
            allow_degraded=settings.allow_degraded,
        )
    )
    watch(telemetry.metrics, parts.cache, feedback, parts.deployments)
    app = application(_dependencies(parts, state), settings.server)
    return Podium(
        asgi=telemetry.middleware(Draining(app, state)),
        deployments=parts.deployments,
        health=state,
        stores_summary=_summary(settings, parts.stores),
    )


def _dependencies(parts: _Parts, state: Health) -> dict[str, object]:
    """What handlers can ask for, by the name of their parameter."""
    names = FeatureNames.of([bundle.schema for bundle in parts.deployments.bundles])
    return {
        "ranker": _ranker(parts, names),
        "feature_names": names,
        "deployments": parts.deployments,
        "surfaces": parts.settings.surfaces,
        "source": parts.experiments,
        "intake": parts.feedback.intake,
        "statistics": parts.feedback.statistics,
        "telemetry": parts.telemetry,
        "health": state,
        "access": Access(parts.settings.auth),
        "clock": parts.clock,
        "body_limit": parts.settings.server.max_body_bytes,
    }


def _ranker(parts: _Parts, names: FeatureNames) -> Ranker:
    settings, feedback = parts.settings, parts.feedback
    return Ranker(
        router=Router(parts.experiments, settings.surfaces, next(iter(parts.deployments))),
        deployments=parts.deployments,
        feature_names=names,
        scorer=SlateScorer(telemetry=parts.telemetry, clock=parts.clock),
        slates=feedback.slates,
        tokens=feedback.tokens,
        token_ttl_s=settings.events.token_ttl_s,
        exposures=feedback.sink,
        telemetry=parts.telemetry,
        clock=parts.clock,
        allow_degraded=settings.allow_degraded,
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
    stores: EmbeddedStores, settings: Settings, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[RedisScoreCache]:
    client = cache_client(stores.cache_url, settings.redis)
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


def _feedback(
    loaded: LoadedSettings, stores: EmbeddedStores, telemetry: Telemetry, clock: Clock
) -> AbstractAsyncContextManager[Feedback]:
    return open_feedback(
        stores.events_url,
        redis=loaded.settings.redis,
        settings=loaded.settings.events,
        directory=state_directory(loaded),
        telemetry=telemetry,
        clock=clock,
    )


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
