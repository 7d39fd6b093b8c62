"""Rank load of two kinds, bounded in count and time.

**Closed loop**: so many callers, each with one request under way. It finds the
throughput, but hides queueing: while the service is slow, nobody asks.
**Open loop**: requests are due at random times (Poisson) whether or not earlier
ones were answered, and latency counts from when a request was *due*. A stall
then costs every request that fell into it, as it does in production.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from itertools import cycle, islice

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from service.loadgen.connection import Connection, Target

RANK = "/v1/rank"


class LoadReport(Struct, frozen=True, kw_only=True):
    """What load met."""

    latencies_s: npt.NDArray[np.float64]
    """Of the answers with status 200, in order of completion."""
    statuses: dict[int, int]
    failures: dict[str, int]
    """Requests without an answer, by kind of failure."""
    elapsed_s: float

    @property
    def answered_per_s(self) -> float:
        """Answers with status 200 per second."""
        return len(self.latencies_s) / self.elapsed_s

    def latency_s(self, quantile: float) -> float:
        """A latency quantile such as 0.99; NaN without any answer."""
        if not len(self.latencies_s):
            return float("nan")
        return float(np.quantile(self.latencies_s, quantile))


class _Record:
    """Collects what happens while load runs."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self._began = time.perf_counter()

    async def send(
        self, connection: Connection, request: bytes, *, due: float, timeout_s: float
    ) -> None:
        try:
            answer = await connection.send(request, timeout_s=timeout_s)
        except (OSError, TimeoutError) as error:
            self.failures[type(error).__name__] += 1
            return
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.latencies_s.append(time.perf_counter() - due)

    def report(self) -> LoadReport:
        return LoadReport(
            latencies_s=np.array(self.latencies_s),
            statuses=dict(self.statuses),
            failures=dict(self.failures),
            elapsed_s=time.perf_counter() - self._began,
        )


async def closed_loop(
    url: str,
    bodies: Sequence[bytes],
    *,
    callers: int,
    requests: int,
    longest_s: float,
    timeout_s: float = 10.0,
) -> LoadReport:
    """Keep ``callers`` requests under way until ``requests`` were sent or time is up.

    Args:
        url: ``http://host:port``.
        bodies: Of `RANK` requests; used in turn.
        callers: Connections, each with one request at a time.
        requests: In all.
        longest_s: After so many seconds no further request is sent.
        timeout_s: Longest wait for one answer.
    """
    target = Target.of(url)
    prepared = [target.post(RANK, body) for body in bodies]
    planned = islice(cycle(prepared), requests)
    until = time.perf_counter() + longest_s
    record = _Record()

    async def call(connection: Connection) -> None:
        while (due := time.perf_counter()) < until:
            request = next(planned, None)
            if request is None:
                return
            await record.send(connection, request, due=due, timeout_s=timeout_s)

    await _with_connections(target, callers, call)
    return record.report()


async def open_loop(
    url: str,
    bodies: Sequence[bytes],
    *,
    rate_per_s: float,
    requests: int,
    seed: int,
    connections: int = 256,
    timeout_s: float = 10.0,
) -> LoadReport:
    """Send requests when they are due, whatever became of earlier ones.

    Args:
        url: ``http://host:port``.
        bodies: Of `RANK` requests; used in turn.
        rate_per_s: Mean arrivals per second; the times between them are exponential.
        requests: In all, so it lasts about ``requests / rate_per_s`` seconds.
        seed: Of the arrivals.
        connections: Most requests under way; what is due beyond them waits,
            and its wait counts.
        timeout_s: Longest wait for one answer.
    """
    target = Target.of(url)
    prepared = [target.post(RANK, body) for body in bodies]
    gaps = np.random.default_rng(seed).exponential(1.0 / rate_per_s, requests)
    record = _Record()
    due_times = (time.perf_counter() + np.cumsum(gaps)).tolist()
    planned = zip(due_times, cycle(prepared), strict=False)

    async def call(connection: Connection) -> None:
        for due, request in planned:
            await _until(due)
            await record.send(connection, request, due=due, timeout_s=timeout_s)

    await _with_connections(target, connections, call)
    return record.report()


def rank_bodies(bundle: Bundle, *, count: int, candidates: int, seed: int) -> list[bytes]:
    """Bodies of ranking requests for a bundle: random known users, items and contexts.

    Args:
        bundle: Whose catalogue, users and context vocabularies are drawn from.
        count: Bodies.
        candidates: Per body, distinct; at most the catalogue.
        seed: The same seed gives the same bodies.
    """
    random = np.random.default_rng(seed)
    items, users = bundle.item_ids, bundle.user_ids
    context = [spec for spec in bundle.schema.of("context").ids if spec.vocabulary]

    def body() -> bytes:
        return msgspec.json.encode(
            {
                **({"user": {"id": str(random.choice(users))}} if len(users) else {}),
                "context": {spec.name: str(random.choice(spec.vocabulary)) for spec in context},
                "candidates": random.choice(items, candidates, replace=False).tolist(),
                "timeout_ms": 1000,
            }
        )

    return [body() for _ in range(count)]


_TIMER_STEP_S = 0.0015
"""Timers of event loops fire up to a millisecond late; the last bit is waited for actively."""


async def _until(due: float) -> None:
    left = due - time.perf_counter()
    if left > _TIMER_STEP_S:
        await asyncio.sleep(left - _TIMER_STEP_S)
    while time.perf_counter() < due:  # noqa: ASYNC110 - lets the answers in, nothing to wait for
        await asyncio.sleep(0)


async def _with_connections(
    target: Target, count: int, call: Callable[[Connection], Coroutine[None, None, None]]
) -> None:
    connections = [Connection(target) for _ in range(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(call(connection))
    finally:
        for connection in connections:
            connection.close()
