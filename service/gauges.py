"""Gauges of what several parts have in common: breakers, experiments, memory of a GPU."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Literal, get_args

from msgspec import Struct

from service.breaker import Breaker
from service.cache import ScoreCache
from service.deployments import Deployments, Models
from service.messages import EngineStatus, GpuMemory
from service.rollouts.gauges import show_experiments, show_totals
from service.rollouts.opening import Rollouts
from service.telemetry import names
from service.telemetry.metrics import Metrics

State = Literal["closed", "half_open", "open"]

_OF_ENGINES: Final[Mapping[EngineStatus, State]] = {"open": "open", "probing": "half_open"}
"""Every other status has a reason of its own, and podium_engine_status for it."""


class _Shown(Struct, frozen=True):
    """One breaker now."""

    part: str
    """``cache``, ``cache writes``, ``events``, or model, precision and engine."""
    state: State
    opened: int


def watch_breakers(
    metrics: Metrics, cache: ScoreCache, events: Breaker, deployments: Deployments
) -> None:
    """Show what is left alone because it kept failing; asked with the page."""

    def found() -> Iterator[_Shown]:
        status = cache.status()
        yield _Shown("cache", status.breaker, status.breaker_opened)
        refused: State = "closed" if status.writes_problem is None else "open"
        yield _Shown("cache writes", refused, status.writes_opened)
        yield _Shown("events", events.state, events.opened)
        yield from _of_engines(deployments)

    metrics.gauges(
        names.M_BREAKER_STATE,
        "1 for the state that a breaker is in; over several workers, their number",
        ("part", "state"),
        lambda: {
            (one.part, state): float(one.state == state)
            for one in found()
            for state in get_args(State)
        },
    )
    metrics.counters(
        names.M_BREAKER_OPENED,
        "Times that a breaker opened, so that calls were left out",
        ("part",),
        lambda: {(one.part,): one.opened for one in found()},
    )


def _of_engines(deployments: Deployments) -> Iterator[_Shown]:
    for deployment in deployments.values():
        for state in deployment.engines:
            engine = state.engine
            part = f"{engine.model}@{engine.version}/{engine.precision}/{engine.name}"
            yield _Shown(part, _OF_ENGINES.get(state.status, "closed"), state.opened)


def watch_experiments(metrics: Metrics, rollouts: Rollouts, price_per_hour: float | None) -> None:
    """Show how experiments stand, what they added up to, and what an engine costs."""
    show_experiments(metrics, rollouts.live)
    show_totals(metrics, rollouts.totals)
    metrics.gauges(
        names.M_PRICE_PER_HOUR,
        "What an hour of one engine costs, of experiments.price_per_hour; absent without it",
        (),
        lambda: {} if price_per_hour is None else {(): price_per_hour},
    )


def watch_gpu_memory(metrics: Metrics, models: Models, holder: str) -> None:
    """Show what models hold of the GPU by our own account; absent where none is on one.

    Args:
        metrics: Where.
        models: What is loaded.
        holder: Whose account it is: processes that share one say the same.
    """

    def show(name: str, meaning: str, figure: Callable[[GpuMemory], int]) -> None:
        metrics.gauges(name, meaning, ("holder",), partial(_memory_row, models, holder, figure))

    show(
        names.M_GPU_RESERVED_BYTES,
        "GPU memory that is counted as taken by loaded models",
        lambda memory: memory.held_bytes,
    )
    show(
        names.M_GPU_RESERVABLE_BYTES,
        "GPU memory that models may take together, of engine.gpu_memory_fraction",
        lambda memory: memory.limit_bytes,
    )


def _memory_row(
    models: Models, holder: str, figure: Callable[[GpuMemory], int]
) -> dict[tuple[str, ...], float]:
    memory = models.gpu_memory
    return {} if memory is None else {(holder,): figure(memory)}
