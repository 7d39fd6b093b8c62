"""The batch queue: which jobs wait, which rows leave together, and when.

Pure: time is passed in, and nothing here waits, locks or calls an engine; the
shell in `batcher.py` obeys. Every job that was offered ends in exactly one of
three ways: its last rows are `finished`, it is `withdrawn`, or it is reported
as expired by `take`, whichever is first.

Who goes first is in `lanes.py`, when a batch leaves in `policy.py`, who is
refused in `admission.py`.
"""

from heapq import heapify, heappop, heappush
from itertools import count

from msgspec import Struct

from service.batching.admission import DrainRate
from service.batching.lanes import Lanes, Part, ScoreJob
from service.batching.policy import Departure, Reason, departure
from service.errors import DeadlineUnreachable, QueueFull
from service.settings import BatchPolicy

RETRY_WHEN_RATE_UNKNOWN_S = 1.0
"""Retry-After of a full queue before any full batch was timed: the least the header can say."""


class Batch(Struct, frozen=True, kw_only=True, eq=False):
    """Rows to score in one engine call, and why they left when they did."""

    parts: tuple[Part, ...]
    rows: int
    reason: Reason
    waiting_rows: int
    """Rows in the queue when the batch left, its own included."""
    oldest_wait_s: float
    """How long the one that had waited longest had done so."""
    cost_from: float
    """Since when the time until it is scored counts as its cost; see `BatchQueue.finished`."""
    left_at: float

    @property
    def jobs(self) -> tuple[ScoreJob, ...]:
        return tuple(part.job for part in self.parts)


class Taken(Struct, frozen=True, kw_only=True):
    """What `take` found: a batch, or none if it is worth waiting longer."""

    batch: Batch | None
    expired: tuple[ScoreJob, ...]
    """Jobs whose deadline passed, waiting or under way; each is named once."""


class BatchQueue:
    """Jobs that wait for an engine or are under way. For one thread."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._lanes = Lanes()
        self._unscored: dict[ScoreJob, int] = {}  # every job that has not ended, rows to come
        self._deadlines: list[tuple[float, int, ScoreJob]] = []  # heap; may hold ended jobs
        self._numbers = count()  # breaks ties, so that the heap never compares jobs
        self._executing: set[Batch] = set()
        self._due_since: list[float] = []  # instances that came free while a batch was due
        self._drain = DrainRate()

    @property
    def waiting_rows(self) -> int:
        return self._lanes.rows

    @property
    def waiting_jobs(self) -> int:
        return self._lanes.jobs

    @property
    def rows_per_s(self) -> float | None:
        """Rows that all instances together score under a backlog; None before it is known."""
        rate = self._drain.rows_per_s
        return None if rate is None else rate * self._policy.instances

    def offer(self, job: ScoreJob) -> None:
        """Let a job wait. Jobs are offered in the order in which they arrived.

        Raises:
            QueueFull: the queue is at its limit.
            DeadlineUnreachable: the job would most likely not be scored in time.
        """
        self._admit(job)
        self._lanes.append(job)
        self._unscored[job] = job.rows
        if len(self._deadlines) > 2 * len(self._unscored) + 64:
            # Jobs that ended before their deadline: with long timeouts they would pile up.
            self._deadlines = [entry for entry in self._deadlines if entry[2] in self._unscored]
            heapify(self._deadlines)
        heappush(self._deadlines, (job.deadline, next(self._numbers), job))

    def withdraw(self, job: ScoreJob) -> None:
        """Forget a job that nobody waits for any more; its neighbours do not notice."""
        if self._unscored.pop(job, None) is not None:
            self._lanes.discard(job)

    def wake_at(self) -> float | None:
        """When `take` should be called again, if nothing else happens until then."""
        self._drop_ended_deadlines()
        deadline = self._deadlines[0][0] if self._deadlines else None
        leaving = self._departure()
        if leaving is None:
            return deadline
        return leaving.at if deadline is None else min(leaving.at, deadline)

    def take(self, now: float) -> Taken:
        """Cut the next batch if one is due, and give up what is late."""
        expired = self._expire(now)
        leaving = self._departure()
        # Compare with the departure itself, not with a second `now - arrived_at`: the two can
        # round differently, and the timer armed at wake_at() would wake up, find nothing and spin.
        if leaving is None or now < leaving.at:
            return Taken(batch=None, expired=expired)
        return Taken(batch=self._cut(leaving.reason, now), expired=expired)

    def finished(self, batch: Batch, now: float, *, failed: bool = False) -> tuple[ScoreJob, ...]:
        """An engine is done with a batch; one that failed says nothing about speed.

        Returns:
            The jobs that have now all their rows back and have not ended otherwise.
        """
        self._executing.remove(batch)
        if not failed:
            self._drain.learn(batch.rows, now - batch.cost_from, full=batch.reason == "full")
        leaving = self._departure()
        if leaving is not None and leaving.at <= now:
            # Under a backlog, the time until the next batch leaves is part of its cost: with
            # execution on the event loop that is the loop's other work, about as long again.
            self._due_since.append(now)
        return tuple(part.job for part in batch.parts if self._is_complete(part))

    def _is_complete(self, part: Part) -> bool:
        left = self._unscored.get(part.job)
        if left is None:
            return False  # withdrawn or expired meanwhile
        if left > part.rows:
            self._unscored[part.job] = left - part.rows
            return False
        del self._unscored[part.job]
        return True

    def _departure(self) -> Departure | None:
        return departure(
            self._policy,
            waiting_rows=self._lanes.rows,
            oldest_arrival=self._lanes.oldest_arrival,
            executing=len(self._executing),
        )

    def _cut(self, reason: Reason, now: float) -> Batch:
        waiting_rows, oldest = self._lanes.rows, self._lanes.oldest_arrival
        parts = self._lanes.cut(self._policy.max_batch_rows)
        due_since = self._due_since.pop() if self._due_since else now
        batch = Batch(
            parts=parts,
            rows=sum(part.rows for part in parts),
            reason=reason,
            waiting_rows=waiting_rows,
            oldest_wait_s=now - oldest,
            cost_from=max(due_since, oldest),
            left_at=now,
        )
        self._executing.add(batch)
        return batch

    def _expire(self, now: float) -> tuple[ScoreJob, ...]:
        # Under overload the oldest jobs are the ones nobody waits for any more.
        # Scoring them would make everyone behind them late as well.
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            job = heappop(self._deadlines)[2]
            if job in self._unscored:
                self.withdraw(job)
                expired.append(job)
        return tuple(expired)

    def _drop_ended_deadlines(self) -> None:
        while self._deadlines and self._deadlines[0][2] not in self._unscored:
            heappop(self._deadlines)

    def _admit(self, job: ScoreJob) -> None:
        waiting, limit, rate = self.waiting_rows, self._policy.max_waiting_rows, self.rows_per_s
        if waiting and waiting + job.rows > limit:
            over = waiting + job.rows - limit
            retry_after_s = RETRY_WHEN_RATE_UNKNOWN_S if rate is None else over / rate
            raise QueueFull(waiting, limit, retry_after_s)
        if rate is None or not (waiting or self._executing):
            return  # an idle engine takes anything: how else would a bad estimate mend?
        left_s = job.deadline - job.arrived_at
        rows_ahead = self._lanes.rows_ahead(job, enough=left_s * rate)
        ahead_s = self._executing_s(job.arrived_at) + rows_ahead / rate
        predicted_s = ahead_s + job.rows * self._policy.instances / rate
        if predicted_s > left_s:
            # Enough is done after the excess; at the latest when all that is ahead is done.
            retry_after_s = min(predicted_s - left_s, ahead_s)
            raise DeadlineUnreachable(predicted_s * 1000, left_s * 1000, retry_after_s)

    def _executing_s(self, now: float) -> float:
        """How long until an instance is free, when batches take their usual time."""
        rate = self._drain.rows_per_s
        if rate is None or len(self._executing) < self._policy.instances:
            return 0.0
        ends = min(batch.left_at + batch.rows / rate for batch in self._executing)
        return max(0.0, ends - now)
