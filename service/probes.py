"""How each part is: for ``/health/ready``, and for the gauges of ``/metrics``."""

from collections.abc import Callable
from functools import partial

import msgspec

from service.batching.batcher import Batcher
from service.cache import ScoreCache
from service.deployments import Deployment, Deployments
from service.engines.state import EngineState
from service.events.event_log import EventLog
from service.health import ComponentHealth
from service.stores import EmbeddedStores
from service.telemetry import names
from service.telemetry.metrics import Metrics

OK = ComponentHealth(status="ok")


def probes(
    cache: ScoreCache, log: EventLog, deployments: Deployments, stores: EmbeddedStores
) -> dict[str, Callable[[], ComponentHealth]]:
    """Component name to what says how it is; none of them does I/O."""
    engines = {
        f"deployment:{name}": partial(_engines, deployment)
        for name, deployment in deployments.items()
    }
    return {
        "cache": lambda: _cache(cache),
        "events": lambda: _events(log),
        "stores": lambda: _stores(stores),
        **engines,
    }


def watch(metrics: Metrics, cache: ScoreCache, log: EventLog, deployments: Deployments) -> None:
    """Let the gauges ask the components whenever the metrics are read."""
    metrics.watch_store("cache", lambda: _condition(cache.status().state == "connected"))
    metrics.watch_store("events", lambda: _condition(not log.breaker.is_open))
    metrics.watch_spool(lambda: log.waiting_events)
    metrics.watch_cache_failures(partial(_cache_failures, cache))
    metrics.watch_events_kept(lambda: msgspec.structs.asdict(log.counts))
    for deployment in deployments.values():
        manifest = deployment.bundle.manifest
        model = f"{manifest.name}@{manifest.version}"
        metrics.model_loaded(manifest.name, manifest.version, deployment.model.precision)
        batcher = deployment.batcher
        if batcher is None:
            continue
        metrics.watch_queue(model, partial(_waiting_rows, batcher))
        for place, state in enumerate(deployment.engines):
            metrics.watch_engine(
                model,
                state.engine.name,
                partial(_engine_condition, deployment, place),
            )


def _cache(cache: ScoreCache) -> ComponentHealth:
    status = cache.status()
    if status.state == "connected":
        return OK
    why = status.problem or "it keeps failing"
    return ComponentHealth(status="degraded", detail=f"left alone, every slate is computed: {why}")


def _events(log: EventLog) -> ComponentHealth:
    if not log.breaker.is_open:
        return OK
    return ComponentHealth(
        status="degraded",
        detail=f"the event server is away, events go to the spool: {log.waiting_events} wait",
    )


def _stores(stores: EmbeddedStores) -> ComponentHealth:
    down = [server.name for server in stores.status() if server.state == "down"]
    if not down:
        return OK
    return ComponentHealth(
        status="degraded", detail=f"embedded servers are being restarted: {', '.join(down)}"
    )


def _engines(deployment: Deployment) -> ComponentHealth:
    if deployment.batcher is None:
        return OK
    states = deployment.engines
    failing = [state for state in states if not _is_well(state)]
    if not failing:
        return OK
    instead = "the next engine answers" if len(failing) < len(states) else "popularity answers"
    why = "; ".join(state.last_error or state.engine.name for state in failing)
    return ComponentHealth(status="degraded", detail=f"{instead}: {why}")


def _cache_failures(cache: ScoreCache) -> dict[str, int]:
    counted = cache.status().counters
    names_of_failures = ("errors", "timeouts", "left_alone", "unreadable", "write_errors")
    return {name: getattr(counted, name) for name in (*names_of_failures, "writes_skipped")}


def _waiting_rows(batcher: Batcher) -> float:
    return batcher.waiting_rows


def _engine_condition(deployment: Deployment, place: int) -> names.Condition:
    return _condition(_is_well(deployment.engines[place]))


def _is_well(state: EngineState) -> bool:
    return state.failures_in_a_row == 0


def _condition(is_well: bool) -> names.Condition:
    return "ready" if is_well else "out"
