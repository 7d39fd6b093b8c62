"""One model replaced by another while others score: nobody may notice."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle

import numpy as np
from msgspec import Struct

from ranking_models.schema import FeatureBatch
from service.clock import Clock
from service.doctor.proof.building import SLOTS
from service.doctor.proof.figures import Swap
from service.doctor.proof.rig import Rig
from service.doctor.proof.sections import Trouble
from service.doctor.proof.timing import ENOUGH_FOR_P99
from service.engines import valid_scores
from service.engines.memory import MemoryBudget
from service.engines.tensor_rt.slot import Slot
from service.errors import EngineFailed

_PATIENCE_S = 30.0
"""For calls that take milliseconds: a caller that makes none for so long hangs."""


class Call(Struct, frozen=True):
    """One call of a caller."""

    ended: float
    took_s: float


class Caller:
    """Scores in a thread of its own, one batch after the other, until it fails or is stopped."""

    def __init__(self, slot: Slot, batches: list[FeatureBatch], clock: Clock) -> None:
        self.calls: list[Call] = []
        self.failure: str | None = None
        self._slot, self._batches, self._clock = slot, cycle(batches), clock
        self._scores_on = slot
        self._is_stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gpu-proof-caller", daemon=True)
        self._thread.start()

    def make(self, calls: int) -> None:
        """Come back when it has made so many more, or has failed."""
        wanted = len(self.calls) + calls
        self._until(lambda: len(self.calls) >= wanted)

    def switch(self, slot: Slot) -> None:
        """Use another slot from the next call on; comes back when the old one is idle."""
        with self._changed:
            self._slot = slot
        self._until(lambda: self._scores_on is slot)

    def stop(self) -> None:
        """End the thread, after the call that it makes."""
        with self._changed:
            self._is_stopped = True
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():  # its slot must not be closed under it
            raise EngineFailed(f"a call did not come back for {_PATIENCE_S:.0f} s")

    def _until(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.failure or is_so(), _PATIENCE_S):
                raise EngineFailed(f"a caller came to nothing for {_PATIENCE_S:.0f} s")

    def _run(self) -> None:
        while self.failure is None:
            with self._changed:
                self._changed.notify_all()
                if self._is_stopped:
                    return
                self._scores_on = self._slot
            try:
                self._call(self._scores_on)
            except Exception as error:  # it must not die unheard
                with self._changed:
                    self.failure = f"{type(error).__name__}: {error}"
                    self._changed.notify_all()

    def _call(self, slot: Slot) -> None:
        began = self._clock.now()
        scores = slot.score(next(self._batches))
        ended = self._clock.now()
        if not valid_scores(scores).all():
            raise EngineFailed("a score is no probability")
        self.calls.append(Call(ended, ended - began))


def prove_swap(rig: Rig, trouble: Trouble) -> Swap:
    """Replace the first precision by the last one, or by another copy where there is one alone."""
    old_precision, new_precision = rig.precisions[0], rig.precisions[-1]
    rows, budget = rig.buckets[0], MemoryBudget(rig.settings.gpu_memory_fraction)
    with ExitStack() as stack:
        old = rig.load(old_precision, slots=SLOTS, budget=budget)
        stack.callback(old.close)
        old_bytes = budget.held_bytes
        callers = [Caller(slot, rig.batches(rows), rig.clock) for slot in old.slots]
        stack.callback(_all_stop, callers)  # before the slots are closed
        _all_make(callers, rig.effort.swap_calls)
        began = rig.clock.now()
        new = rig.load(new_precision, slots=SLOTS, budget=budget)
        stack.callback(new.close)
        stack.callback(_all_stop, callers)
        there, both_bytes = rig.clock.now(), budget.held_bytes
        for caller, slot in zip(callers, new.slots, strict=True):
            caller.switch(slot)
        old.close()
        after_bytes = budget.held_bytes
        _all_make(callers, rig.effort.swap_calls)
        _all_stop(callers)
    failures = [caller.failure for caller in callers if caller.failure]
    for failure in failures:
        trouble.add(f"a call failed while {old_precision} was replaced: {failure}")
    if both_bytes < old_bytes + after_bytes:
        trouble.add("the budget did not count old and new while both were there")
    calls = [call for caller in callers for call in caller.calls]
    before = [call.took_s for call in calls if call.ended < began]
    loading = [call.took_s for call in calls if began <= call.ended < there]
    return Swap(
        old=old_precision,
        new=new_precision,
        rows=rows,
        old_bytes=old_bytes,
        both_bytes=both_bytes,
        after_bytes=after_bytes,
        load_s=there - began,
        calls_before=len(before),
        calls_while_loading=len(loading),
        calls_after=len(calls) - len(before) - len(loading),
        failed_calls=len(failures),
        p99_before_ms=_p99_ms(before),
        p99_while_loading_ms=_p99_ms(loading),
        worst_while_loading_ms=1e3 * max(loading) if loading else None,
    )


def _all_make(callers: list[Caller], calls: int) -> None:
    for caller in callers:
        caller.make(calls)


def _all_stop(callers: list[Caller]) -> None:
    for caller in callers:
        caller.stop()


def _p99_ms(calls_s: list[float]) -> float | None:
    return 1e3 * float(np.percentile(calls_s, 99)) if len(calls_s) >= ENOUGH_FOR_P99 else None
