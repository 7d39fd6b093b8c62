"""One fault under load: before it, while it lasts, and until the cache is used again."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tests.chaos.faults import Fault
from tests.chaos.load import ANSWERED, Load, Met, Plan
from tests.chaos.site import Site, Watch
from tests.support.valkey import wait_until

RECOVERY_LIMIT_S = 20.0
"""Far above the promised two seconds: only what never recovers waits this long."""
_PAUSE_S = 0.02
_AGAIN_S = 0.1
"""Between two times that a fault does what it does: it must not be the load."""
_AFTERMATH_S = 0.25
"""Lookups under way when the cache is left alone have ended by then, and cost nothing any more."""

Wait = Callable[[Load], None]


class Alone(Struct, frozen=True):
    """A time in which the cache was left alone."""

    from_s: float
    until_s: float
    cpu_s: float
    """CPU time of the service meanwhile."""


class Course(Struct, frozen=True, kw_only=True):
    """What happened. Times are of the monotonic clock."""

    met: Met
    beside: Met | None
    """What the further clients met, if there were any."""
    began_s: float
    """When the fault was there."""
    ended_s: float
    """When it was taken back."""
    opened_s: float | None
    """When `/health/ready` first said that the cache is left alone; None if it did not."""
    well_s: float | None
    """When, after the end, it first said that the cache is well; None if it did not."""
    counted: dict[str, int]
    """Failures by reason that the metrics gained."""
    refused_looks: int
    """Looks at `/health/ready` that wanted no traffic."""
    left_alone_s: tuple[tuple[float, float], ...]
    """When it was left alone while the fault lasted: it may be more than once."""
    alone: tuple[Alone, ...]
    """What the service did in these times, as near as its CPU time can be read."""

    @property
    def while_alone(self) -> Met:
        """The requests that were due while the fault lasted and the cache was left alone."""
        return self.met.where(self._is_alone())

    @property
    def while_used(self) -> Met:
        """The requests that were due while the fault lasted and the cache was, or may have been,
        asked."""
        due_s = self.met.due_s
        lasts = (due_s >= self.began_s) & (due_s < self.ended_s)
        return self.met.where(lasts & ~self._is_alone())

    def answered(self, from_s: float, until_s: float) -> int:
        """Requests of all clients that were due in a time."""
        both = (self.met, self.beside) if self.beside else (self.met,)
        return sum(met.between(from_s, until_s).requests for met in both)

    def _is_alone(self) -> npt.NDArray[np.bool_]:
        due_s = self.met.due_s
        found = np.zeros(len(due_s), np.bool_)
        for from_s, until_s in self.left_alone_s:
            found |= (due_s >= max(from_s, self.began_s)) & (due_s < min(until_s, self.ended_s))
        return found

    @property
    def requests(self) -> int:
        return self.met.requests + (self.beside.requests if self.beside else 0)

    @property
    def failed(self) -> int:
        return self.met.failed + (self.beside.failed if self.beside else 0)

    @property
    def wrong(self) -> int:
        return self.met.wrong + (self.beside.wrong if self.beside else 0)

    @property
    def problems(self) -> dict[str, int]:
        """What failed or was wrong, in words."""
        return self.met.problems | (self.beside.problems if self.beside else {})

    @property
    def used_again_s(self) -> float | None:
        """When, after the end, a request began of which the cache said whether it knows it."""
        later = self.met.between(self.ended_s, float("inf"))
        found = later.due_s[np.isin(later.codes, ANSWERED)]
        return float(found.min()) if len(found) else None

    @property
    def recovery_s(self) -> float | None:
        """From the end until the cache is well and used; None if that did not happen."""
        if self.well_s is None or self.used_again_s is None:
            return None
        return max(self.well_s, self.used_again_s) - self.ended_s


def run_course(
    site: Site, fault: Fault, plan: Plan, *, before: Wait, during: Wait, after: Wait
) -> Course:
    """Bring a fault about under load, and take it back.

    Args:
        site: Of the fault's kind.
        fault: What to do.
        plan: The load.
        before, during, after: Return when that phase is over.
    """
    counted = site.failures()
    with Load(plan) as load, Watch(site) as watch:
        before(load)
        fault.begin(site)
        began_s = time.monotonic()
        with (
            further_clients(fault, plan) as others,
            _again_and_again(site, fault),
            _left_alone(site, watch) as alone,
        ):
            during(load)
            beside = others.end() if others is not None else None
        fault.end(site)
        ended_s = time.monotonic()
        wait_until(
            lambda: watch.first("well", after_s=ended_s) is not None,
            why=lambda: str(site.cache_health()),
            limit_s=RECOVERY_LIMIT_S,
        )
        after(load)
        met = load.end()
    return Course(
        met=met,
        beside=beside,
        began_s=began_s,
        ended_s=ended_s,
        opened_s=_before(ended_s, watch.first("left alone", after_s=began_s)),
        well_s=watch.first("well", after_s=ended_s),
        counted={name: n - counted.get(name, 0) for name, n in site.failures().items()},
        refused_looks=watch.refused,
        left_alone_s=tuple(watch.alone),
        alone=tuple(alone),
    )


@contextmanager
def further_clients(fault: Fault | None, plan: Plan) -> Iterator[Load | None]:
    """The load that the fault brings along, if any: in closed loops, on the plan's questions."""
    if fault is None or fault.beside is None:
        yield None
        return
    beside = fault.beside
    also = msgspec.structs.replace(
        plan,
        rate_per_s=None,
        callers=beside.callers,
        together_s=beside.together_s,
        storm=beside.storm,
        seed=2,
    )
    with Load(also) as load:
        replies(1)(load)
        yield load


def replies(count: int) -> Wait:
    """So many further replies."""

    def wait(load: Load) -> None:
        start = load.replies
        wait_until(lambda: load.replies >= start + count or load.is_over, limit_s=60.0)
        assert not load.is_over, "the load has failed, see its words above"

    return wait


def seconds(count: float) -> Wait:
    """A time, with replies in it."""

    def wait(load: Load) -> None:
        time.sleep(count)
        replies(1)(load)

    return wait


def _before(end_s: float, at_s: float | None) -> float | None:
    return at_s if at_s is not None and at_s < end_s else None


@contextmanager
def _again_and_again(site: Site, fault: Fault) -> Iterator[None]:
    """What the fault does all the time, in a thread of its own."""
    over, problems = threading.Event(), list[BaseException]()

    def act() -> None:
        while fault.again is not None and not over.wait(_AGAIN_S):
            try:
                fault.again(site)
            except BaseException as problem:
                problems.append(problem)
                return

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not problems, problems


@contextmanager
def _left_alone(site: Site, watch: Watch) -> Iterator[list[Alone]]:
    """When the cache is left alone, and what the service does then; complete in the end."""
    over, found = threading.Event(), list[Alone]()

    def look() -> None:
        seen_s, first, newest = math.inf, None, None
        while True:
            is_last = over.wait(_PAUSE_S)
            now_s, cpu_s = time.monotonic(), site.cpu_s
            is_alone = bool(watch.changes) and watch.changes[-1][1] == "left alone"
            if is_alone and not is_last:
                seen_s = min(seen_s, now_s)
                if now_s - seen_s >= _AFTERMATH_S:
                    newest = (now_s, cpu_s)
                    first = first or newest
                continue
            if first is not None and newest is not None:
                found.append(Alone(first[0], newest[0], newest[1] - first[1]))
            if is_last:
                return
            seen_s, first, newest = math.inf, None, None

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
