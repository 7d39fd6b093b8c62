"""A batch queue and a device in simulated time: events in order, no clock, no thread.

A device scores a batch in a fixed time plus a time per row. A serial one scores
one batch after the other, whatever instance they came from, in the order in
which they came; else every instance has a device of its own.

What an instance waits for is the queue alone, so this measures decisions and
nothing else: no interpreter, no event loop, no transport. `rows_bound_s` is what no
schedule can beat on a serial device, however well it knows what is to come.
"""

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np
from msgspec import Struct

from service.api.problems import retry_after
from service.batching.batch import Batch
from service.batching.jobs import ScoreJob
from service.batching.queue import BatchQueue
from service.errors import DeadlineUnreachable, QueueFull
from service.messages import Priority


class Device(Struct, frozen=True):
    """What scores the batches."""

    fixed_s: float
    row_s: float
    serial: bool = True

    def seconds(self, rows: int) -> float:
        return self.fixed_s + self.row_s * rows


GPU = Device(fixed_s=0.0005, row_s=1e-6)
"""The simulated device of the benchmarks; at most `GPU_ROWS` rows a call."""
GPU_ROWS = 1024


class Asked(Struct, frozen=True):
    """A request that will come."""

    at: float
    rows: int = 100
    left_s: float = math.inf
    priority: Priority = "normal"
    deployment: str = ""
    retries: int = 0
    """How often it comes again when it is refused, each time after Retry-After."""


class Course(Struct):
    """What happened."""

    latencies_s: dict[str, list[float]]
    """Of every scored job from arrival to scores, by deployment."""
    batches: list[Batch]
    ended_at: float = 0.0
    """When the last batch was done."""
    expired: int = 0
    refused: int = 0
    admitted_after_retry: int = 0
    refused_after_retry: int = 0

    @property
    def mean_latency_s(self) -> float:
        return float(np.mean([one for mine in self.latencies_s.values() for one in mine]))

    @property
    def mean_rows(self) -> float:
        return float(np.mean([batch.rows for batch in self.batches]))


def simulate(
    queue: BatchQueue,
    device: Device,
    asked: Sequence[Asked],
    *,
    instances: int = 1,
    timer_s: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Course:
    """Let requests come, and the queue decide.

    Args:
        queue: Of a policy with as many instances.
        device: What scores.
        asked: In the order in which they come.
        instances: Batches at the same time.
        timer_s: What a timer's time is rounded up to; uvloop's count whole milliseconds.
        noise: Relative standard deviation of a batch's time.
        seed: Of the noise.
    """
    return _Simulation(queue, device, timer_s, noise, seed).run(asked)


class _Simulation:
    def __init__(
        self, queue: BatchQueue, device: Device, timer_s: float, noise: float, seed: int
    ) -> None:
        self._queue, self._device = queue, device
        self._timer_s, self._noise = timer_s, noise
        self._random = np.random.default_rng(seed)
        self._events: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self._free_at = 0.0
        self._timer_at = math.inf
        self._course = Course(latencies_s={}, batches=[])

    def run(self, asked: Sequence[Asked]) -> Course:
        for one in asked:
            self._at(one.at, one)
        while self._events:
            now, _, event = heappop(self._events)
            if isinstance(event, Asked):
                self._offer(event, now)
            elif isinstance(event, Batch):
                self._finish(event, now)
            else:
                self._timer_at = math.inf
            # Everything of this moment is there before the queue decides, as in an event loop.
            if not self._events or self._events[0][0] > now:
                self._decide(now)
        return self._course

    def _at(self, at: float, event: Asked | Batch | None) -> None:
        heappush(self._events, (at, next(self._numbers), event))

    def _offer(self, one: Asked, now: float) -> None:
        came_again = now > one.at
        job = ScoreJob(
            rows=one.rows,
            arrived_at=now,
            deadline=now + one.left_s,
            priority=one.priority,
            deployment=one.deployment,
        )
        try:
            self._queue.offer(job)
        except (QueueFull, DeadlineUnreachable) as refusal:
            self._course.refused += 1
            self._course.refused_after_retry += came_again
            if one.retries:
                again = Asked(
                    at=one.at,
                    rows=one.rows,
                    left_s=one.left_s,
                    priority=one.priority,
                    deployment=one.deployment,
                    retries=one.retries - 1,
                )
                # As the header says it: in whole seconds.
                self._at(now + float(retry_after(refusal.retry_after_s or 0.0)), again)
        else:
            self._course.admitted_after_retry += came_again

    def _finish(self, batch: Batch, now: float) -> None:
        for job in self._queue.finished(batch, now):
            self._course.latencies_s.setdefault(job.deployment, []).append(now - job.arrived_at)
        self._course.ended_at = now

    def _decide(self, now: float) -> None:
        while (wake_at := self._queue.wake_at()) is not None and wake_at <= now:
            taken = self._queue.take(now)
            self._course.expired += len(taken.expired)
            if taken.batch is not None:
                self._start(taken.batch, now)
        if wake_at is not None and wake_at < math.inf:
            if self._timer_s:
                wake_at = now + math.ceil((wake_at - now) / self._timer_s) * self._timer_s
            if wake_at < self._timer_at:
                self._timer_at = wake_at
                self._at(wake_at, None)

    def _start(self, batch: Batch, now: float) -> None:
        took = self._device.seconds(batch.rows)
        if self._noise:
            took *= max(0.2, 1 + self._noise * self._random.standard_normal())
        start = max(now, self._free_at) if self._device.serial else now
        self._free_at = start + took
        self._course.batches.append(batch)
        self._at(start + took, batch)


def poisson(
    rows_per_s: float, seconds: float, *, rows: int = 100, seed: int = 0, deployment: str = ""
) -> list[Asked]:
    """Requests that come at random at a constant rate."""
    random = np.random.default_rng(seed)
    expected = rows_per_s / rows * seconds
    gaps = random.exponential(rows / rows_per_s, int(expected + 6 * expected**0.5 + 10))
    times = np.cumsum(gaps)
    return [Asked(at=float(at), rows=rows, deployment=deployment) for at in times if at < seconds]


def rows_bound_s(device: Device, max_batch_rows: int, asked: Sequence[Asked]) -> float:
    """When a serial device can have scored everything at the earliest, whatever the schedule.

    What comes after any moment has to be scored after it, in at least as many
    calls as full batches would need.
    """
    earliest, rows = 0.0, 0
    for one in sorted(asked, key=lambda one: one.at, reverse=True):
        rows += one.rows
        calls = math.ceil(rows / max_batch_rows)
        earliest = max(earliest, one.at + calls * device.fixed_s + rows * device.row_s)
    return earliest
