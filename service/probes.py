"""How each part is: for ``/health/ready``, and for the gauges of ``/metrics``."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from service.batching.batcher import Batcher
from service.cache import ScoreCache
from service.deployments import Deployment, Deployments
from service.deployments.recovery import can_score
from service.deployments.segment_rows import SEGMENT_MODES
from service.engines.chain import EngineChain
from service.engines.loading import prepared_sizes
from service.engines.state import EngineState, total
from service.events.aggregation import Aggregator
from service.events.event_log import EventLog
from service.events.spool import Spool
from service.feedback import Feedback
from service.health import ComponentHealth
from service.messages import EngineStatus
from service.processes.board import Board
from service.rollouts.live import LiveExperiments
from service.settings import EngineSettings
from service.stores import Stores
from service.telemetry import names
from service.telemetry.metrics import Metrics

Probe = Callable[[], ComponentHealth]

OK = ComponentHealth(status="ok")


def probes(
    cache: ScoreCache,
    feedback: Feedback,
    deployments: Deployments,
    stores: Stores,
    *,
    allow_degraded: bool,
) -> dict[str, Probe]:
    """Component name to what says how it is; none of them does I/O."""
    return {
        "cache": partial(cache_health, cache),
        "events": partial(events_health, feedback.log),
        "spool": partial(spool_health, feedback.log.spool),
        "aggregation": partial(aggregation_health, feedback.aggregator),
        "stores": partial(stores_health, stores),
        **{
            f"deployment:{name}": partial(_deployment_health, deployments, name, allow_degraded)
            for name in deployments
        },
    }


def watch(
    metrics: Metrics,
    cache: ScoreCache,
    feedback: Feedback,
    deployments: Deployments,
    *,
    engine: EngineSettings,
) -> None:
    """Let the gauges ask the components whenever the metrics are read."""
    metrics.watch_store("cache", lambda: _condition(cache.status().state == "connected"))
    metrics.watch_cache_failures(partial(_cache_failures, cache))
    metrics.watch_cache_in_process(
        lambda: cache.status().first_level.bytes, lambda: cache.status().first_level.entries
    )
    _watch_feedback(metrics, feedback)
    watch_deployments(metrics, deployments, engine)
    deployments.on_change(partial(watch_deployments, metrics, deployments, engine))


def watch_deployments(metrics: Metrics, deployments: Deployments, settings: EngineSettings) -> None:
    """Show the deployments that serve now, and none that served before."""
    metrics.forget_models()
    for deployment in deployments.values():
        _watch_deployment(metrics, deployment, settings)


def _watch_feedback(metrics: Metrics, feedback: Feedback) -> None:
    log, spool = feedback.log, feedback.log.spool
    metrics.watch_store("events", lambda: _condition(not log.breaker.is_open))
    metrics.watch_events_kept(lambda: msgspec.structs.asdict(log.counts))
    metrics.watch_exposures_kept(lambda: msgspec.structs.asdict(feedback.sink.counts))
    metrics.watch_spool(
        lambda: log.waiting_events,
        lambda: spool.counts.waiting_bytes,
        spool.max_bytes,
        partial(_spool_counts, spool),
    )
    metrics.watch_aggregation(lambda: msgspec.structs.asdict(feedback.aggregator.counts))


def _watch_deployment(metrics: Metrics, deployment: Deployment, settings: EngineSettings) -> None:
    # The gauges get its chains and not the deployment: a forgotten gauge holds itself, what it
    # holds stays until Python collects, and a version that left waits for nobody to hold it.
    manifest, precision = deployment.bundle.manifest, deployment.model.precision
    model = f"{manifest.name}@{manifest.version}"
    engines = [state.engine.name for state in deployment.engines]
    metrics.model_loaded(manifest.name, manifest.version, precision, engines)
    if deployment.batcher is None:
        return
    metrics.watch_queue(
        model,
        precision,
        partial(_waiting_rows, deployment.batcher),
        partial(_waiting_jobs, deployment.batcher),
    )
    for place, state in enumerate(deployment.engines):
        sizes = prepared_sizes(state.engine, settings)
        metrics.engine_pads(manifest.name, manifest.version, state.engine.name, sizes)
        condition = partial(_engine_condition, deployment.chains, place)
        metrics.watch_engine(model, precision, state.engine.name, condition)
        status = partial(_engine_status, deployment.chains, place)
        metrics.watch_engine_status(model, precision, state.engine.name, status)
    if deployment.segments is not None and deployment.settings.cache in SEGMENT_MODES:
        worth = deployment.segments.rows.worth
        metrics.watch_row_worth(
            deployment.name,
            lambda: worth.report().lookup_row_s or 0.0,
            lambda: worth.report().scoring_row_s or 0.0,
            lambda: float(worth.report().fetching),
        )
    if deployment.slate_worth is not None and deployment.settings.cache == "exact":
        slates = deployment.slate_worth
        metrics.watch_slate_worth(
            deployment.name,
            lambda: slates.report().lookup_s or 0.0,
            lambda: slates.report().scoring_s or 0.0,
            lambda: float(slates.report().declined),
        )


def cache_health(cache: ScoreCache) -> ComponentHealth:
    status = cache.status()
    if status.state != "connected":
        why = status.problem or "it keeps failing"
        detail = f"left alone, every slate is computed: {why}"
    elif status.writes_problem is not None:
        detail = f"lookups are answered, but nothing is stored: {status.writes_problem}"
    else:
        return OK
    return ComponentHealth(status="degraded", detail=detail)


def events_health(log: EventLog) -> ComponentHealth:
    if not log.breaker.is_open:
        return OK
    if log.spool.is_failing:
        detail = "the event server is away and the spool cannot be written: events are refused"
    else:
        detail = f"the event server is away, events go to the spool: {log.waiting_events} wait"
    return ComponentHealth(status="degraded", detail=detail)


def spool_health(spool: Spool) -> ComponentHealth:
    if not spool.damaged:
        return OK
    files = ", ".join(spool.damaged)
    return ComponentHealth(
        status="degraded", detail=f"set aside, as a part of each cannot be read: {files}"
    )


def aggregation_health(aggregator: Aggregator) -> ComponentHealth:
    problem = aggregator.problem
    if problem is None:
        return OK
    return ComponentHealth(
        status="degraded", detail=f"events wait to be added up, reports stand still: {problem}"
    )


def stores_health(stores: Stores) -> ComponentHealth:
    down = [server.name for server in stores.status() if server.state == "down"]
    if not down:
        return OK
    return ComponentHealth(
        status="degraded", detail=f"embedded servers are being restarted: {', '.join(down)}"
    )


def experiments_health(live: LiveExperiments) -> ComponentHealth:
    """Whether the newest definitions and standings are in force; else the last good ones are."""
    status = live.status()
    if status.status == "ok":
        return OK
    return ComponentHealth(status="degraded", detail=status.problem)


def workers_health(board: Board) -> ComponentHealth:
    """How many of the processes serve; this one does, as it was asked."""
    if board.serving >= board.workers:
        return OK
    return ComponentHealth(
        status="degraded",
        detail=f"{board.serving} of {board.workers} workers serve, the others are being started",
    )


def _deployment_health(
    deployments: Deployments, name: str, allow_degraded: bool
) -> ComponentHealth:
    """Of whatever serves under the name by now."""
    return engines_health(deployments[name], allow_degraded)


def engines_health(deployment: Deployment, allow_degraded: bool) -> ComponentHealth:
    failing = [state for state in deployment.engines if not state.is_well]
    if not failing:
        return OK
    why = "; ".join(state.problem for state in failing)
    if can_score(deployment):
        return ComponentHealth(status="degraded", detail=f"other engines answer: {why}")
    if allow_degraded:
        return ComponentHealth(status="degraded", detail=f"popularity answers: {why}")
    return ComponentHealth(
        status="failed", detail=f"what the cache does not know is refused: {why}"
    )


def _cache_failures(cache: ScoreCache) -> dict[str, int]:
    counted = cache.status().counters
    failures = ("errors", "timeouts", "left_alone", "unreadable", "write_errors", "writes_skipped")
    return {name: getattr(counted, name) for name in (*failures, "lock_errors")}


def _spool_counts(spool: Spool) -> dict[str, int]:
    counted = spool.counts
    return {name: getattr(counted, name) for name in ("appended", "failed", "damaged_segments")}


def _waiting_rows(batcher: Batcher) -> float:
    return batcher.waiting_rows


def _waiting_jobs(batcher: Batcher) -> float:
    return batcher.waiting_jobs


def _engine_condition(chains: Sequence[EngineChain], place: int) -> names.Condition:
    return _condition(_engine_state(chains, place).is_well)


def _engine_status(chains: Sequence[EngineChain], place: int) -> EngineStatus:
    return _engine_state(chains, place).status


def _engine_state(chains: Sequence[EngineChain], place: int) -> EngineState:
    return total(chain.states() for chain in chains)[place]


def _condition(is_well: bool) -> names.Condition:
    return "ready" if is_well else "out"
