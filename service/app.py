"""The composition root: everything is built, started and stopped here, and nowhere else."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
)
from functools import partial
from importlib.metadata import version

import msgspec
from litestar import Request
from litestar.types import ASGIApp
from msgspec import Struct

from ranking_models.schema import FeatureSchema
from service.api.access import Access
from service.api.application import application
from service.api.dashboard.samples import SAMPLES, Sampler
from service.api.dashboard.watching import Sources, Watching
from service.api.draining import Draining
from service.api.given import CacheParts, RankingParts
from service.api.open_inference import OpenInference
from service.cache.opening import score_store
from service.cache.rows import RowLevels
from service.cache.slates import SlateCache, lifetimes
from service.clock import Clock, SystemClock
from service.deployments import DeploymentLoader, Deployments, Models
from service.deployments.changes import ModelChanges
from service.deployments.recovery import looked_after
from service.deployments.reports import ModelReports
from service.engines.host.client import EngineClient
from service.engines.host.keeper import shared_engines
from service.express.lane import RankLane
from service.express.protocol import express_protocol
from service.express.shared import SharedLane
from service.feature_names import FeatureNames
from service.feedback import Feedback, open_feedback
from service.fleet import Alone, Fleet
from service.gauges import watch_breakers, watch_experiments, watch_gpu_memory
from service.health import Health
from service.heap import settled
from service.oip.inference import Inference
from service.oip.models import ServedModels
from service.oip.statistics import Statistics
from service.probes import Probe, experiments_health, probes, watch
from service.processes.figures import FIGURES, Reporter
from service.processes.handover import Handover
from service.ranker import Ranker
from service.rollouts.opening import Rollouts, open_rollouts
from service.rollouts.reporting import ExperimentReports
from service.routing import Router
from service.scoring import SlateScorer
from service.settings import LoadedSettings, Settings, otel_variables
from service.shadow.scorer import ShadowScorer
from service.stores import (
    Stores,
    cache_problems,
    embedded_stores,
    place_of,
    redacted,
)
from service.telemetry import Telemetry, configure_logging, create_telemetry, export_settings
from service.telemetry.gpu import gpu_figures
from service.warming.inspection import Inspector
from service.warming.opening import open_cache_server
from service.warming.server import CacheServer
from service.warming.warmer import Warmer

_log = logging.getLogger(__name__)


class Podium(Struct, frozen=True, kw_only=True):
    """A running service."""

    asgi: ASGIApp
    http: type[asyncio.Protocol]
    """The connections, which answer plain ranking requests without ASGI."""
    deployments: Deployments
    health: Health
    stores_summary: str
    """In words, without credentials."""
    reporter: Reporter


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a worker shares with others."""

    fleet: Fleet
    stores: Stores
    """They run already, and are somebody else's to stop."""
    probes: dict[str, Probe]
    """What else says how this service is."""
    handover: Handover | None = None
    """The way to the other workers; None where there are none."""
    service: str | None = None
    """The name of this run of the service; None where this is its only process."""
    consumer: str | None = None
    """What the event server is to call this process; None for any name."""
    engines: socket.socket | None = None
    """The way to the engine process; None where every worker owns its engines."""
    number: int = 0
    """Which of several workers this is."""


class _Parts(Struct, frozen=True, kw_only=True):
    """Everything that runs, and what it is made of."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    around: Surroundings
    cache: SlateCache
    cache_server: CacheServer
    scorer: SlateScorer
    models: Models
    rollouts: Rollouts
    feedback: Feedback
    shadow: ShadowScorer
    sampler: Sampler


@asynccontextmanager
async def running(
    loaded: LoadedSettings, around: Surroundings | None = None
) -> AsyncIterator[Podium]:
    """Build and start everything; stop it in reverse order.

    Events and exposures stop after the rankings that make them, telemetry and
    the stores last.

    Args:
        loaded: The settings.
        around: What is shared with other processes; None where this is the only one.

    Raises:
        StartupError, ExperimentInvalid: something is not fit to serve; one line.
    """
    settings, clock = loaded.settings, SystemClock()
    async with AsyncExitStack() as stack:
        telemetry = _telemetry(settings, clock)
        stack.callback(telemetry.shutdown)
        if around is None:
            own = await stack.enter_async_context(embedded_stores(loaded))
            way = stack.enter_context(
                shared_engines(
                    loaded,
                    settings.server.drain_timeout_s,
                    telemetry.metrics.engine_process_ended,
                )
            )
            telemetry.metrics.collect_from(
                stack.enter_context(gpu_figures(triton_names=settings.telemetry.triton_names))
            )
            around = Surroundings(fleet=Alone(), stores=own, probes={}, engines=way)
        stores = around.stores
        cache = await stack.enter_async_context(_cache(stores, settings, telemetry, clock))
        cache_server = await stack.enter_async_context(
            open_cache_server(stores.cache_url, settings.redis)
        )
        shared = stack.enter_context(_engine_client(around, settings))
        models = _models(loaded, cache, telemetry, clock, shared)
        stack.push_async_callback(models.stop)
        feedback = await stack.enter_async_context(_feedback(loaded, around, telemetry, clock))
        await stack.enter_async_context(
            looked_after(
                models.deployments,
                clock,
                stop_limit_s=settings.server.drain_timeout_s,
                purge=lambda: cache_server.purge(beyond=cache.epoch),
            )
        )
        shadow = ShadowScorer(
            models.deployments, clock, telemetry.metrics, tell=feedback.sink.record
        )
        await shadow.start()
        stack.push_async_callback(shadow.stop)
        await models.catch_up()
        rollouts = await stack.enter_async_context(
            open_rollouts(
                loaded, stores.events_url, models.deployments, clock, service=around.service
            )
        )
        scorer = SlateScorer(telemetry=telemetry, clock=clock)
        stack.push_async_callback(scorer.stop)
        sampler = Sampler(telemetry.metrics.families, clock)
        stack.callback(asyncio.create_task(sampler.run(), name="live page's samples").cancel)
        podium = _podium(
            _Parts(
                settings=settings,
                clock=clock,
                telemetry=telemetry,
                around=around,
                cache=cache,
                cache_server=cache_server,
                scorer=scorer,
                models=models,
                rollouts=rollouts,
                feedback=feedback,
                shadow=shadow,
                sampler=sampler,
            )
        )
        with settled():
            yield podium


def _podium(parts: _Parts) -> Podium:
    settings, telemetry, feedback = parts.settings, parts.telemetry, parts.feedback
    state = Health(
        probes(
            parts.cache,
            feedback,
            parts.models.deployments,
            parts.around.stores,
            allow_degraded=settings.allow_degraded,
        )
        | parts.around.probes
        | {"experiments": partial(experiments_health, parts.rollouts.live)}
    )
    reporter = Reporter(telemetry.metrics.families)
    parts.around.fleet.on(FIGURES, reporter.answer)
    parts.around.fleet.on(SAMPLES, parts.sampler.answer)
    watch(
        telemetry.metrics, parts.cache, feedback, parts.models.deployments, engine=settings.engine
    )
    _watch_more(parts)
    telemetry.metrics.watch_cache_renewals(lambda: msgspec.structs.asdict(parts.scorer.renewals))
    telemetry.metrics.watch_shadow(lambda: msgspec.structs.asdict(parts.shadow.counts))
    names = _feature_names(parts.models.deployments)
    scorer = parts.scorer
    router = Router(parts.rollouts.live, settings.surfaces, next(iter(parts.models.deployments)))
    ranking = RankingParts(
        ranker=_ranker(parts, names, router, scorer),
        feature_names=names,
        access=Access(settings.auth),
        telemetry=telemetry,
        clock=parts.clock,
        body_limit=settings.server.max_body_bytes,
        force_tokens=feedback.force_tokens,
    )
    caching = _cache_parts(parts, names, router, scorer)
    given = {
        "parts": ranking,
        "access": ranking.access,
        "cache_parts": caching,
        "v2": _open_inference(parts, ranking.access, state),
    }
    app = application(given | _dependencies(parts, state), settings.server)
    return Podium(
        asgi=telemetry.middleware(
            Draining(app, state),
            may_force=lambda scope: ranking.access.allows(Request(scope), "admin"),
        ),
        http=express_protocol(_lane(parts, ranking, state)),
        deployments=parts.models.deployments,
        health=state,
        stores_summary=_summary(settings, parts.around.stores),
        reporter=reporter,
    )


def _watch_more(parts: _Parts) -> None:
    metrics, settings, around = parts.telemetry.metrics, parts.settings, parts.around
    deployments = parts.models.deployments
    watch_breakers(metrics, parts.cache, parts.feedback.log.breaker, deployments)
    watch_experiments(metrics, parts.rollouts, settings.experiments.price_per_hour)
    holder = f"worker-{around.number}" if around.engines is None else "engine-process"
    watch_gpu_memory(metrics, parts.models, holder)


def _lane(parts: _Parts, ranking: RankingParts, state: Health) -> RankLane | SharedLane:
    lane, deployments = RankLane(ranking, state), parts.models.deployments
    handover = parts.around.handover
    if handover is None:
        return lane
    parts.telemetry.metrics.watch_handover(lambda: msgspec.structs.asdict(handover.counts))
    return SharedLane(lane, handover, parts.telemetry, partial(_waiting_rows, deployments))


def _dependencies(parts: _Parts, state: Health) -> dict[str, object]:
    """What else handlers can ask for, by the name of their parameter."""
    models = ModelReports(parts.models, parts.settings.surfaces, parts.around.fleet)
    experiments = ExperimentReports(
        parts.rollouts.live,
        parts.rollouts.changes,
        parts.feedback.statistics,
        parts.clock,
        price_per_hour=parts.settings.experiments.price_per_hour,
    )
    watching = Watching(
        Sources(
            fleet=parts.around.fleet,
            models=models,
            live=parts.rollouts.live,
            reports=experiments,
            health=state,
            clock=parts.clock,
        )
    )
    return {
        "changes": ModelChanges(parts.models, parts.around.fleet),
        "reports": models,
        "source": parts.rollouts.live,
        "experiment_changes": parts.rollouts.changes,
        "experiment_reports": experiments,
        "watching": watching,
        "force_tokens": parts.feedback.force_tokens,
        "intake": parts.feedback.intake,
        "telemetry": parts.telemetry,
        "health": state,
        "fleet": parts.around.fleet,
        "clock": parts.clock,
        "body_limit": parts.settings.server.max_body_bytes,
        "tensor_limit": parts.settings.server.max_tensor_bytes,
    }


def _open_inference(parts: _Parts, access: Access, state: Health) -> OpenInference:
    batching, models = parts.settings.batching, parts.models
    served = ServedModels(models.deployments, lambda: models.standing_by, batching)
    statistics = Statistics(served, parts.around.fleet)
    return OpenInference(
        models=served,
        inference=Inference(
            statistics,
            parts.telemetry,
            parts.clock,
            most_rows=batching.max_waiting_rows,
            most_json_bytes=parts.settings.server.max_body_bytes,
        ),
        statistics=statistics,
        access=access,
        health=state,
        clock=parts.clock,
    )


def _cache_parts(
    parts: _Parts, names: FeatureNames, router: Router, scorer: SlateScorer
) -> CacheParts:
    settings, deployments = parts.settings.cache, parts.models.deployments
    warmer = Warmer(
        router=router,
        deployments=deployments,
        feature_names=names,
        scorer=scorer,
        server=parts.cache_server,
        waiting_rows=partial(_waiting_rows, deployments),
        clock=parts.clock,
    )
    inspector = Inspector(
        cache=parts.cache,
        server=parts.cache_server,
        warmer=warmer,
        deployments=deployments,
        lifetimes=lifetimes(settings),
        fleet=parts.around.fleet,
        clock=parts.clock,
    )
    return CacheParts(warmer=warmer, inspector=inspector, feature_names=names)


def _waiting_rows(deployments: Deployments) -> int:
    return sum(batcher.waiting_rows for batcher in deployments.batchers)


def _ranker(parts: _Parts, names: FeatureNames, router: Router, scorer: SlateScorer) -> Ranker:
    settings, feedback = parts.settings, parts.feedback
    return Ranker(
        router=router,
        deployments=parts.models.deployments,
        feature_names=names,
        scorer=scorer,
        slates=feedback.slates,
        tokens=feedback.tokens,
        token_ttl_s=settings.events.token_ttl_s,
        exposures=feedback.sink,
        telemetry=parts.telemetry,
        clock=parts.clock,
        allow_degraded=settings.allow_degraded,
        shadow=parts.shadow,
    )


@contextmanager
def _engine_client(around: Surroundings, settings: Settings) -> Iterator[EngineClient | None]:
    if around.engines is None:
        yield None
        return
    client = EngineClient(around.engines, max_execution_s=settings.engine.max_execution_s)
    with closing(client):
        yield client


def _models(
    loaded: LoadedSettings,
    cache: SlateCache,
    telemetry: Telemetry,
    clock: Clock,
    shared: EngineClient | None,
) -> Models:
    rows = RowLevels.over(cache.store, loaded.settings.cache, clock)
    telemetry.metrics.watch_score_rows(rows.counts)
    loader = DeploymentLoader(
        loaded,
        loaded.state_directory,
        cache=cache,
        rows=rows,
        telemetry=telemetry,
        clock=clock,
        shared=shared,
    )
    return Models(loader, loaded.settings.deployments)


def _feature_names(deployments: Deployments) -> FeatureNames:
    """The names that requests may carry, kept up to date."""

    def schemas() -> list[FeatureSchema]:
        return [bundle.schema for bundle in deployments.bundles]

    names = FeatureNames.of(schemas())
    deployments.on_change(lambda: names.learn(schemas()))
    return names


def _telemetry(settings: Settings, clock: Clock) -> Telemetry:
    configure_logging(settings.telemetry.log_level)
    return create_telemetry(
        sample_ratio=settings.telemetry.sample_ratio,
        context_ids=settings.telemetry.context_ids,
        export=export_settings(otel_variables()),
        surfaces=settings.surfaces,
        version=version("podium"),
        clock=clock,
        triton_names=settings.telemetry.triton_names,
    )


@asynccontextmanager
async def _cache(
    stores: Stores, settings: Settings, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[SlateCache]:
    for problem in await cache_problems(stores.cache_url, settings.redis):
        _log.warning("%s", problem)
    address, port, database = place_of(stores.cache_url, settings.redis)
    calls = telemetry.store("cache", address=address, port=port, database=database)
    store = score_store(
        stores.cache_url,
        cache=settings.cache,
        redis=settings.redis,
        clock=clock,
        watched=calls.call,
    )
    await store.start()
    try:
        yield SlateCache(store, settings=settings.cache, clock=clock)
    finally:
        await store.stop()


def _feedback(
    loaded: LoadedSettings, around: Surroundings, telemetry: Telemetry, clock: Clock
) -> AbstractAsyncContextManager[Feedback]:
    return open_feedback(
        around.stores.events_url,
        redis=loaded.settings.redis,
        settings=loaded.settings.events,
        directory=loaded.state_directory,
        telemetry=telemetry,
        clock=clock,
        consumer=around.consumer,
    )


def _summary(settings: Settings, stores: Stores) -> str:
    redis = settings.redis
    if redis.url is None:
        return "embedded Valkey; set redis.url for a server of your own"
    return f"{redacted(stores.cache_url)} for the cache, {redacted(stores.events_url)} for events"
