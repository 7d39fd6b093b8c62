"""The figures of one fault: counts by a closed loop, latencies by an open one at half load."""

import contextlib
import math
import time
from contextlib import ExitStack
from typing import Literal

import msgspec
from msgspec import Struct

from tests.chaos.course import Course, Wait, further_clients, replies, run_course, seconds
from tests.chaos.faults import Fault
from tests.chaos.load import Load, Met, Plan
from tests.chaos.site import Client, Mode, Site, Watch, site
from tests.support.valkey import wait_until

CACHE_TIMEOUT_MS = 20.0
"""The default of `cache.timeout_s`."""
SLACK_MS, OPEN_SLACK_MS = 10.0, 2.0
RECOVERY_S = 2.0
OPEN_COST_MS = 0.1
QUESTIONS = 400
OFF: Mode = "off"
HALF = 0.5
"""Of the core that a service with one event loop has."""
_SETTLE_S = 1.0

Verdict = Literal["kept", "missed", "-"]


class Extent(Struct, frozen=True, kw_only=True):
    """How long to look."""

    replies: int
    """Checked under closed loop, at least."""
    measure_s: float
    """Of each measurement without a fault."""
    longest_s: float
    """Of a fault."""


FULL = Extent(replies=100_000, measure_s=5.0, longest_s=math.inf)
QUICK = Extent(replies=2_000, measure_s=1.5, longest_s=2.0)


class Row(Struct, frozen=True, kw_only=True):
    """What one fault did, with one client."""

    fault: str
    words: str
    client: str
    mode: str
    """Of the cache."""
    requests: int
    """Of both loops, each reply checked."""
    failed: int
    wrong: int
    refused_looks: int
    problems: dict[str, int]
    results: dict[str, int]
    """What the cache gave while the fault lasted."""
    counted: dict[str, int]
    """What the metrics counted."""
    rate_per_s: float
    """Of the open loop: what takes half of a core, with the cache or without."""
    base_p50_ms: float
    base_p99_ms: float
    """Before the fault."""
    no_cache_p50_ms: float
    no_cache_p99_ms: float
    """Of a deployment without a cache under the same load."""
    until_open_p50_ms: float
    until_open_p99_ms: float
    """While it lasts, until the breaker opens; and between, where it opens more than once."""
    open_p50_ms: float
    open_p99_ms: float
    """While it is open."""
    opened_after_s: float | None
    recovery_s: float | None
    """Of the open loop, or the closed one if that took longer; None if one of them never did."""
    open_cost_ms: float | None
    """CPU time of a request while the cache is left alone, above one of a deployment without."""

    def verdicts(self) -> dict[str, Verdict]:
        """Which promises on times were kept."""
        until = self.base_p99_ms + CACHE_TIMEOUT_MS + SLACK_MS
        return {
            "p99 until open": _kept(self.until_open_p99_ms, until),
            "p99 open": _kept(self.open_p99_ms, self.no_cache_p99_ms + OPEN_SLACK_MS),
            "recovery": "missed" if self.recovery_s is None else _kept(self.recovery_s, RECOVERY_S),
            "cost open": _kept(
                math.nan if self.open_cost_ms is None else self.open_cost_ms, OPEN_COST_MS
            ),
        }

    @property
    def keeps_its_counts(self) -> bool:
        """Nothing failed, nothing was wrong, and no traffic was turned away."""
        return not (self.failed or self.wrong or self.refused_looks)


def measure(name: str, fault: Fault, client: Client, mode: Mode, extent: Extent) -> Row:
    """One fault under both kinds of load."""
    options = msgspec.structs.replace(fault.options, client=client)
    with ExitStack() as stack:
        running = stack.enter_context(site(fault.site, options))
        closed = _closed(running, fault, mode, extent)
        without_s, capacity = _capacity(running, extent, OFF)
        if fault.beside is not None:  # what its clients ask for costs something else
            without_s, _ = _capacity(running, extent, OFF, fault)
        # The smaller one: where a model is tiny, the cache is the greater part of a request.
        capacity = min(capacity, _capacity(running, extent, mode)[1])
        rate = min(_half_load(running, extent, one, capacity / 2) for one in (mode, OFF))
        if options.absent:  # it is there by now
            running = stack.enter_context(site(fault.site, options))
        no_cache = _steady(running, fault, extent, OFF, rate)
        opened = _open(running, fault, mode, extent, rate)
    cost_ms = _open_cost_ms(closed, without_s)
    during = opened.met.between(opened.began_s, opened.ended_s)
    until, after = opened.while_used, opened.while_alone
    base = _base(fault, opened, no_cache, mode, extent, client, rate)
    both = (closed, opened)
    return Row(
        fault=name,
        words=fault.words,
        client="redis-py" if fault.site == "cluster" else client,
        mode=mode,
        requests=sum(c.requests for c in both),
        failed=sum(c.failed for c in both),
        wrong=sum(c.wrong for c in both),
        refused_looks=sum(c.refused_looks for c in both),
        problems=closed.problems | opened.problems,
        results=during.results(),
        counted={reason: n + opened.counted[reason] for reason, n in closed.counted.items()},
        rate_per_s=rate,
        base_p50_ms=base.latency_ms(0.5),
        base_p99_ms=base.latency_ms(0.99),
        no_cache_p50_ms=no_cache.latency_ms(0.5),
        no_cache_p99_ms=no_cache.latency_ms(0.99),
        until_open_p50_ms=until.latency_ms(0.5),
        until_open_p99_ms=until.latency_ms(0.99),
        open_p50_ms=after.latency_ms(0.5),
        open_p99_ms=after.latency_ms(0.99),
        opened_after_s=None if opened.opened_s is None else opened.opened_s - opened.began_s,
        recovery_s=_longer(*(c.recovery_s for c in both)),
        open_cost_ms=cost_ms,
    )


def _base(
    fault: Fault,
    opened: Course,
    no_cache: Met,
    mode: Mode,
    extent: Extent,
    client: Client,
    rate_per_s: float,
) -> Met:
    """What it is without the fault."""
    # What other clients do to everybody is not the cache's.
    if fault.well is not None:
        with site(fault.site, msgspec.structs.replace(fault.well, client=client)) as well:
            return _steady(well, fault, extent, mode, rate_per_s)
    # Without a cache server from the start, what it was before is what it is without.
    if fault.options.absent or fault.beside is not None:
        return no_cache
    return opened.met.between(0.0, opened.began_s)


def _capacity(
    running: Site, extent: Extent, mode: Mode, fault: Fault | None = None
) -> tuple[float, float]:
    """CPU seconds per request, and requests a second, of a deployment: closed loop.

    With a fault, together with the clients that it brings along.
    """
    plan = _plan(running, mode)
    with Load(plan) as load, further_clients(fault, plan) as others:
        seconds(_SETTLE_S)(load)
        cpu_s, began_s = running.cpu_s, time.monotonic()
        seconds(extent.measure_s)(load)
        cpu_s, took_s = running.cpu_s - cpu_s, time.monotonic() - began_s
        met = [one.end() for one in (load, others) if one is not None]
        answered = sum(one.between(began_s, began_s + took_s).requests for one in met)
    return cpu_s / max(1, answered), answered / took_s


def _half_load(running: Site, extent: Extent, mode: Mode, most_per_s: float) -> float:
    """Requests a second, in an open loop, that take half of a core.

    Fewer than half of what a closed loop reaches: its requests share turns of the event loop,
    and those that come by themselves do not.
    """
    with Load(_plan(running, mode, most_per_s)) as load:
        seconds(_SETTLE_S)(load)
        cpu_s, began_s = running.cpu_s, time.monotonic()
        seconds(extent.measure_s)(load)
        share = (running.cpu_s - cpu_s) / (time.monotonic() - began_s)
        load.end()
    return most_per_s * min(1.0, HALF / share)


def _steady(running: Site, fault: Fault, extent: Extent, mode: Mode, rate_per_s: float) -> Met:
    """A deployment that meets no fault, with the clients that the fault brings along."""
    plan = _plan(running, mode, rate_per_s)
    # Watched like the course of the fault, which costs both the same.
    with Load(plan) as load, Watch(running), further_clients(fault, plan):
        seconds(_SETTLE_S)(load)
        began_s = time.monotonic()
        seconds(extent.measure_s)(load)
        return load.end().between(began_s, math.inf)


def _closed(running: Site, fault: Fault, mode: Mode, extent: Extent) -> Course:
    """Counts: replies enough, at least half of them while the fault lasts."""
    half, rest = extent.replies // 2, extent.replies // 4

    def during(load: Load) -> None:
        # One load ends before the other would: a fault of 10 s lasts as long here, too.
        _opened(running, fault, load)
        seconds(min(fault.lasts_s, extent.longest_s))(load)
        wait_until(lambda: load.replies >= rest + half, limit_s=600.0)

    def after(load: Load) -> None:
        _used_again(load)
        wait_until(lambda: load.replies >= extent.replies, limit_s=600.0)

    return run_course(
        running,
        fault,
        _plan(running, mode),
        before=replies(rest),
        during=during,
        after=after,
    )


def _open(running: Site, fault: Fault, mode: Mode, extent: Extent, rate_per_s: float) -> Course:
    """Latencies: the fault's own time, at half load."""

    def during(load: Load) -> None:
        _opened(running, fault, load)
        seconds(min(fault.lasts_s, extent.longest_s))(load)

    warm = seconds(_SETTLE_S + extent.measure_s)
    plan = _plan(running, mode, rate_per_s)
    return run_course(running, fault, plan, before=warm, during=during, after=_used_again)


def _used_again(load: Load) -> None:
    """Some time, and a reply that the cache gave, if it ever does."""
    found = load.found
    seconds(_SETTLE_S)(load)
    with contextlib.suppress(AssertionError):  # it is what `recovery_s` then says
        wait_until(lambda: load.found > found)


def _opened(running: Site, fault: Fault, load: Load) -> None:
    wait: Wait = replies(50)
    wait(load)
    if fault.opens:
        wait_until(lambda: running.cache_state == "left alone")


def _plan(running: Site, mode: Mode, rate_per_s: float | None = None) -> Plan:
    return Plan(
        url=running.server.base_url,
        questions=running.asked(QUESTIONS, mode),
        callers=32 if rate_per_s is None else 256,
        rate_per_s=rate_per_s,
    )


def _open_cost_ms(course: Course, without_s: float) -> float | None:
    if sum(one.until_s - one.from_s for one in course.alone) < 1.0:
        return None  # CPU time comes in hundredths of a second
    answered = sum(course.answered(one.from_s, one.until_s) for one in course.alone)
    cpu_s = sum(one.cpu_s for one in course.alone)
    return 1000 * (cpu_s / answered - without_s) if answered else None


def _longer(*times_s: float | None) -> float | None:
    known = [one for one in times_s if one is not None]
    return max(known) if len(known) == len(times_s) else None


def _kept(value: float, limit: float) -> Verdict:
    if math.isnan(value):
        return "-"
    return "kept" if value <= limit else "missed"
