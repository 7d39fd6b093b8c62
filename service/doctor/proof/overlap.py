"""Copies of one batch during the computation of another, by the device's own events."""

from itertools import combinations, pairwise

import numpy as np
from msgspec import Struct

from ranking_models.schema import FeatureBatch
from service.doctor.proof.figures import Overlap
from service.doctor.proof.rig import Rig
from service.doctor.proof.sections import Trouble
from service.engines.cuda import Event
from service.engines.tensor_rt.plan import LoadedPlan
from service.engines.tensor_rt.slot import Marks, Slot
from service.errors import EngineFailed

SLOTS = 3
UNHURRIED = 2.0
"""Times what a copy takes on an idle device: so long it may take on a busy one."""


class Passed(Struct, frozen=True, kw_only=True):
    """When the device passed the marks of one batch: milliseconds after the first batch began."""

    started: float
    arrived: float
    computed: float
    done: float
    handed_over: float
    """By the host's clock, milliseconds after it began to hand over the first batch. The device
    cannot have begun before that, so by its clock this batch was handed over no later."""


def prove_overlap(rig: Rig, trouble: Trouble) -> tuple[Overlap, ...]:
    """Three batches of the largest size at once, many times, of every precision."""

    def overlap(precision: str) -> Overlap:
        rig.course.tell(f"overlap of {precision}")
        plan = rig.load(precision, slots=SLOTS, graphs=False, timed=True)
        try:
            return _of_plan(rig, plan, precision)
        finally:
            plan.close()

    found: list[Overlap] = []
    for precision in rig.precisions:
        if rig.course.goes_on(precision, trouble):
            one = trouble.attempt(precision, overlap, precision)
            found += [one] if one is not None else []
    judge(found, trouble)
    return tuple(found)


def arrives_during_another(batches: list[Passed]) -> bool:
    """Whether the rows of one arrived while an earlier one was computed.

    Args:
        batches: In the order in which they were handed over.
    """
    return any(a.arrived < b.arrived < a.computed for a, b in combinations(batches, 2))


def could_arrive_in_time(batches: list[Passed], copy_in_ms: float) -> bool:
    """Whether one was handed over long enough before an earlier one was computed."""
    needed = UNHURRIED * copy_in_ms
    return any(b.handed_over + needed < a.computed for a, b in combinations(batches, 2))


def judge(found: list[Overlap], trouble: Trouble) -> None:
    """Where batches could overlap, some must have; where none could, nothing is shown."""
    for one in found:
        if one.possible and not one.overlapping:
            trouble.add(
                f"{one.precision}: in {one.possible} of {one.rounds} rounds a batch could have "
                "arrived while another was computed, and none did"
            )
    if found and not any(one.possible or one.overlapping for one in found):
        slowest = max(one.compute_ms for one in found)
        trouble.doubt(
            f"the device computes {found[0].rows} rows in {slowest:.3f} ms, before the next batch "
            "is handed over: use a larger model or larger engine.row_buckets"
        )


def _of_plan(rig: Rig, plan: LoadedPlan, precision: str) -> Overlap:
    rows = rig.buckets[-1]
    batches = rig.batches(rows)[:SLOTS]
    rounds = range(rig.effort.overlap_rounds)
    alone = [_round(rig, plan, 1, batches) for _ in rounds]
    together = [_round(rig, plan, SLOTS, batches) for _ in rounds]
    firsts = [passed[0] for passed in alone]
    steps = [pairwise((p.started, p.arrived, p.computed, p.done)) for p in firsts]
    took = np.array([[end - begin for begin, end in step] for step in steps])
    copy_in, compute, copy_out = np.median(took, axis=0).tolist()
    return Overlap(
        precision=precision,
        rows=rows,
        rounds=len(together),
        possible=sum(could_arrive_in_time(passed, copy_in) for passed in together),
        overlapping=sum(arrives_during_another(passed) for passed in together),
        copy_in_ms=copy_in,
        compute_ms=compute,
        copy_out_ms=copy_out,
        alone_ms=float(np.median([p.done for p in firsts])),
        together_ms=float(np.median([max(p.done for p in passed) for passed in together])),
    )


def _round(rig: Rig, plan: LoadedPlan, count: int, batches: list[FeatureBatch]) -> list[Passed]:
    """Hand over one batch to each of some slots, wait for all, and read the marks."""
    slots, cuda = plan.slots[:count], plan.cuda
    began, handed_over = rig.clock.now(), list[float]()
    for slot, batch in zip(slots, batches, strict=False):
        slot.submit(batch)
        handed_over.append(1e3 * (rig.clock.now() - began))
    for slot in slots:
        slot.collect()
    marks = [_marks(slot) for slot in slots]
    zero = marks[0].started

    def at(event: Event) -> float:
        return 0.0 if event is zero else cuda.elapsed_ms(zero, event)

    return [
        Passed(
            started=at(one.started),
            arrived=at(one.copied_in),
            computed=at(one.computed),
            done=at(one.done),
            handed_over=host_ms,
        )
        for one, host_ms in zip(marks, handed_over, strict=True)
    ]


def _marks(slot: Slot) -> Marks:
    if slot.marks is None:
        raise EngineFailed("the slot keeps no marks: it was not loaded to be timed")
    return slot.marks
