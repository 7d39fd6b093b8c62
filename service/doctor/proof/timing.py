"""How long batches take: by size, with and without CUDA graphs, one to three at a time."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Protocol

import numpy as np

from ranking_models.schema import FeatureBatch, Float32
from service.clock import Clock
from service.doctor.proof.figures import Timing
from service.doctor.proof.rig import Effort, Rig
from service.doctor.proof.sections import Trouble
from service.engines import Engine
from service.engines.tensor_rt.bundles import NAME
from service.engines.tensor_rt.plan import LoadedPlan

MOST_SLOTS = 3
ENOUGH_FOR_P99 = 100
_SHARE = 0.6
"""Of the time that is left, so that the sections after this one have some."""


class Submits(Protocol):
    """Takes one batch, and gives its scores later: a `Slot`, or `AtOnce`."""

    def submit(self, batch: FeatureBatch) -> None: ...

    def collect(self) -> Float32: ...


class AtOnce:
    """An engine that knows no later: it scores when its scores are collected."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batch: FeatureBatch | None = None

    def submit(self, batch: FeatureBatch) -> None:
        self._batch = batch

    def collect(self) -> Float32:
        assert self._batch is not None, "nothing was submitted"
        return self._engine.score(self._batch)


class Timer:
    """Times batches on one engine after the other.

    Args:
        cell_s: For each batch size.
    """

    def __init__(self, clock: Clock, effort: Effort, cell_s: float) -> None:
        self._clock, self._effort, self._cell_s = clock, effort, cell_s

    def time(
        self,
        slots: Sequence[Submits],
        batches: Sequence[FeatureBatch],
        *,
        engine: str,
        precision: str,
        cuda_graphs: bool,
    ) -> Timing:
        """Keep all slots busy, each with one batch after the other."""
        for slot in slots:
            for batch in islice(cycle(batches), self._effort.warm_up_calls):
                slot.submit(batch)
                slot.collect()
        calls_s, took_s = self._rounds(slots, cycle(batches))
        milliseconds = 1e3 * np.array(calls_s)
        p50, p95, p99 = (float(np.percentile(milliseconds, q)) for q in (50, 95, 99))
        rows, calls = batches[0].rows, len(calls_s)
        return Timing(
            engine=engine,
            precision=precision,
            cuda_graphs=cuda_graphs,
            slots=len(slots),
            rows=rows,
            calls=calls,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99 if calls >= ENOUGH_FOR_P99 else None,
            rows_per_s=rows * calls / took_s,
        )

    def _rounds(
        self, slots: Sequence[Submits], batches: Iterator[FeatureBatch]
    ) -> tuple[list[float], float]:
        """Seconds of each call, and of all together: whoever is done gets the next batch."""
        now = self._clock.now
        began, calls_s = now(), list[float]()
        since: list[float] = []
        for slot in slots:
            since.append(now())
            slot.submit(next(batches))
        for place in cycle(range(len(slots))):
            slots[place].collect()
            calls_s.append(now() - since[place])
            if len(calls_s) >= self._effort.cell_calls or now() - began >= self._cell_s:
                break
            since[place] = now()
            slots[place].submit(next(batches))
        for other in range(place + 1, place + len(slots)):
            slots[other % len(slots)].collect()
            calls_s.append(now() - since[other % len(slots)])
        return calls_s, now() - began


def prove_timing(rig: Rig, trouble: Trouble) -> tuple[Timing, ...]:
    """Every precision, with and without graphs, one to three slots, every bucket."""
    cells = len(rig.precisions) * 2 * MOST_SLOTS * len(rig.buckets)
    cell_s = min(rig.effort.cell_s, _SHARE * rig.course.left_s / cells)
    timer = Timer(rig.clock, rig.effort, cell_s)
    found: list[Timing] = []
    for precision in rig.precisions:
        for graphs in (True, False):
            what = f"{precision}, {'with' if graphs else 'without'} graphs"
            if rig.course.goes_on(what, trouble):
                rig.course.tell(f"timing of {what}")
                timed = trouble.attempt(what, _of_plan, rig, timer, precision, graphs)
                found += timed or ()
    return tuple(found)


def _of_plan(rig: Rig, timer: Timer, precision: str, graphs: bool) -> list[Timing]:
    plan = rig.load(precision, slots=MOST_SLOTS, graphs=graphs)
    try:
        return list(_of_slots(rig, timer, plan, precision, graphs))
    finally:
        plan.close()


def _of_slots(
    rig: Rig, timer: Timer, plan: LoadedPlan, precision: str, graphs: bool
) -> Iterator[Timing]:
    for rows in rig.buckets:
        batches = rig.batches(rows)
        for slots in range(1, MOST_SLOTS + 1):
            yield timer.time(
                plan.slots[:slots], batches, engine=NAME, precision=precision, cuda_graphs=graphs
            )
