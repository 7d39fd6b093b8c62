"""The batch queue: which jobs wait, which rows leave together, and when.

Pure: time is passed in, and nothing here waits, locks or calls an engine; the
shell in `batcher.py` obeys. Every job that was offered ends in exactly one of
three ways: it is named as one to be answered, it is withdrawn, or it is
reported as expired by `take`, whichever is first.

Who goes first is in `lanes.py`, when a batch leaves in `policy.py` by what
`outlook.py` has learnt, who is refused in `admission.py`, and in which order
answers go out in `ordering.py`.
"""

import math
from heapq import heapify, heappop, heappush
from itertools import count

import msgspec
from msgspec import Struct

from service.batching.admission import Door, DrainRate
from service.batching.batch import Batch
from service.batching.jobs import ScoreJob
from service.batching.lanes import Lanes
from service.batching.ordering import ReplyOrder
from service.batching.outlook import Arrivals, LearntBatchTime
from service.batching.policy import (
    FULL,
    PREFERRED,
    Departure,
    Limits,
    Reason,
    Waiting,
    departure,
)
from service.settings import BatchPolicy


class Taken(Struct, frozen=True, kw_only=True):
    """What `take` found: a batch, or none if it is worth waiting longer."""

    batch: Batch | None
    expired: tuple[ScoreJob, ...]
    """Jobs whose deadline passed, waiting, under way or held; each is named once."""
    answerable: tuple[ScoreJob, ...] = ()
    """Scored jobs that had been held for one of those that expired."""


class _UnderWay(Struct):
    """A batch that is being scored."""

    done_at: float
    """When it should be done."""
    blocked_until: float
    """When the last batch that had left before it was done."""


class BatchQueue:
    """Jobs that wait for an engine or are under way. For one thread."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._limits = Limits.of(policy)
        self._lanes = Lanes()
        self._unscored: dict[ScoreJob, int] = {}  # every job with rows to come, and how many
        self._deadlines: list[tuple[float, int, ScoreJob]] = []  # heap; may hold ended jobs
        self._numbers = count()  # breaks ties, so that the heap never compares jobs
        self._executing: dict[Batch, _UnderWay] = {}  # in the order in which they left
        self._due_since: list[float] = []  # instances that came free while a batch was due
        self._free_since = -math.inf  # when the last instance came free after all were busy
        self._order = ReplyOrder() if policy.preserve_ordering else None
        self._arrivals = Arrivals()
        self._batch_time = LearntBatchTime()
        self._drain = DrainRate()
        self._door = Door(self._lanes, self._arrivals, self._drain)

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
        return None if rate is None else rate * self._limits.instances

    def resize(self, max_batch_rows: int, preferred_batch_rows: int) -> None:
        """From now on, batches have up to so many rows; waiting jobs included."""
        limits = self._limits
        if (max_batch_rows, preferred_batch_rows) != (
            limits.max_batch_rows,
            limits.preferred_batch_rows,
        ):
            self._limits = msgspec.structs.replace(
                limits,
                max_batch_rows=max_batch_rows,
                preferred_batch_rows=preferred_batch_rows,
            )

    def offer(self, job: ScoreJob) -> None:
        """Let a job wait. Jobs are offered in the order in which they arrived.

        Raises:
            QueueFull: the queue is at its limit.
            DeadlineUnreachable: the job would most likely not be scored in time.
        """
        if job.rows < 1:
            raise ValueError(f"a job has at least one row, got {job.rows}")
        self._arrivals.learn(job.rows, job.arrived_at)
        lanes, executing = self._lanes, self._executing
        if lanes.rows or executing:
            # An idle engine takes anything: how else would a bad estimate of its speed mend?
            free_in_s = self._free_in_s(job.arrived_at) if executing else 0.0
            self._door.check(job, self._limits, free_in_s)
        lanes.append(job)
        self._unscored[job] = job.rows
        if self._order is not None:
            self._order.arrived(job)
        deadlines = self._deadlines
        if len(deadlines) > 2 * len(self._unscored) + 64:
            # Jobs that ended before their deadline: with long timeouts they would pile up.
            deadlines[:] = [entry for entry in deadlines if self._is_open(entry[2])]
            heapify(deadlines)
        heappush(deadlines, (job.deadline, next(self._numbers), job))

    def withdraw(self, job: ScoreJob) -> tuple[ScoreJob, ...]:
        """Forget a job that nobody waits for any more; its neighbours do not notice.

        Returns:
            The jobs that had been held for it, to be answered now.
        """
        if self._unscored.pop(job, None) is not None:
            self._lanes.discard(job)
        elif self._order is None or not self._order.holds(job):
            return ()  # it has ended already
        return () if self._order is None else tuple(self._order.ended(job))

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
        deadlines = self._deadlines
        late = deadlines and deadlines[0][0] <= now
        expired, answerable = self._expire(now) if late else ((), ())
        leaving = self._departure()
        # Compare with the departure itself, not with a second `now - arrived_at`: the two can
        # round differently, and the timer armed at wake_at() would wake up, find nothing and spin.
        batch = None if leaving is None or now < leaving.at else self._cut(leaving.reason, now)
        return Taken(batch=batch, expired=expired, answerable=answerable)

    def finished(
        self, batch: Batch, now: float, *, duplicate_rows: int = 0, failed: bool = False
    ) -> tuple[ScoreJob, ...]:
        """An engine is done with a batch.

        Args:
            batch: One that `take` cut.
            now: The time.
            duplicate_rows: Of its rows, how many needed no scoring.
            failed: Nothing was scored, which says nothing about speed.

        Returns:
            The jobs to be answered now: all their rows are back, they have not ended otherwise,
            and none is held for one that came before it.
        """
        self._note_end(batch, now, 0 if failed else batch.rows - duplicate_rows)
        complete = self._complete(batch)
        if self._order is None:
            return tuple(complete)
        return tuple([job for done in complete for job in self._order.scored(done)])

    def _note_end(self, batch: Batch, now: float, scored_rows: int) -> None:
        executing = self._executing
        if len(executing) == self._limits.instances:
            self._free_since = now
        under_way = executing.pop(batch)
        if scored_rows:
            blocked_s = max(0.0, under_way.blocked_until - batch.left_at)
            self._batch_time.learn(scored_rows, now - batch.left_at, blocked_s)
            self._drain.learn(scored_rows, now - batch.cost_from, full=batch.reason == "full")
        if executing:
            for later, state in executing.items():
                if later.left_at >= batch.left_at:
                    state.blocked_until = now
                    state.done_at = _done_at(later, now)
        leaving = self._departure()
        if leaving is not None and leaving.at <= now:
            # Under a backlog, the time until the next batch leaves is part of its cost: with
            # execution on the event loop that is the loop's other work, about as long again.
            self._due_since.append(now)

    def _complete(self, batch: Batch) -> list[ScoreJob]:
        """The jobs of which all rows are back with this batch."""
        unscored, complete = self._unscored, []
        for part in batch.parts:
            job, rows = part.job, part.stop - part.start
            left = unscored.pop(job, 0)  # 0: withdrawn or expired meanwhile
            if left == rows:
                complete.append(job)
            elif left:
                unscored[job] = left - rows
        return complete

    def _departure(self) -> Departure | None:
        """None while nothing waits or every instance is busy: then a time is nothing to wait for,
        but the end of a batch is."""
        lanes, limits = self._lanes, self._limits
        if not lanes.rows or len(self._executing) >= limits.instances:
            return None
        if lanes.rows >= limits.max_batch_rows:
            return FULL  # what `departure` says too, and all that a backlog needs to know
        if lanes.rows >= limits.preferred_batch_rows:
            return PREFERRED
        waiting = Waiting(
            rows=lanes.rows,
            jobs=lanes.jobs,
            oldest_arrival=lanes.oldest_arrival,
            newest_arrival=self._arrivals.last_at,
            executing=len(self._executing),
            free_at=self._free_at(),
            gap_s=self._arrivals.gap_s,
            batch_time=self._batch_time.known,
        )
        return departure(limits, waiting)

    def _free_at(self) -> float:
        if not self._executing:
            return -math.inf
        return max([state.done_at for state in self._executing.values()])

    def _cut(self, reason: Reason, now: float) -> Batch:
        lanes = self._lanes
        waiting_rows, oldest = lanes.rows, lanes.oldest_arrival
        parts = lanes.cut(self._limits.max_batch_rows)
        due_since = self._due_since.pop() if self._due_since else now
        batch = Batch(
            parts=parts,
            rows=waiting_rows - lanes.rows,
            reason=reason,
            waiting_rows=waiting_rows,
            oldest_wait_s=now - oldest,
            left_at=now,
            free_since=self._free_since,
            executing=len(self._executing),
            arrival_rows_per_s=self._arrivals.rows_per_s,
            batch_time=self._batch_time.known,
            cost_from=max(due_since, oldest),
        )
        self._executing[batch] = _UnderWay(_done_at(batch, self._free_at()), blocked_until=now)
        return batch

    def _is_late(self, now: float) -> bool:
        return bool(self._deadlines) and self._deadlines[0][0] <= now

    def _expire(self, now: float) -> tuple[tuple[ScoreJob, ...], tuple[ScoreJob, ...]]:
        """The jobs that are late, and those that had been held for them."""
        # Under overload the oldest jobs are the ones nobody waits for any more.
        # Scoring them would make everyone behind them late as well.
        expired, answerable = list[ScoreJob](), dict[ScoreJob, None]()
        while self._is_late(now):
            job = heappop(self._deadlines)[2]
            if job in answerable:
                del answerable[job]  # it had been held until it was late itself
            elif self._is_open(job):
                answerable.update(dict.fromkeys(self.withdraw(job)))
            else:
                continue
            expired.append(job)
        return tuple(expired), tuple(answerable)

    def _is_open(self, job: ScoreJob) -> bool:
        """Has it not ended?"""
        return job in self._unscored or (self._order is not None and self._order.holds(job))

    def _drop_ended_deadlines(self) -> None:
        deadlines, unscored = self._deadlines, self._unscored
        if not unscored and self._order is None:
            deadlines.clear()  # the usual end of a batch on the event loop
        while deadlines:
            job = deadlines[0][2]
            if job in unscored or self._is_open(job):
                break
            heappop(deadlines)

    def _free_in_s(self, now: float) -> float:
        """How long until an instance is free, when batches take their usual time."""
        rate = self._drain.rows_per_s
        if rate is None or len(self._executing) < self._limits.instances:
            return 0.0
        ends = min(batch.left_at + batch.rows / rate for batch in self._executing)
        return max(0.0, ends - now)


def _done_at(batch: Batch, others_done_at: float) -> float:
    """When a batch should be done, if those that left before it are at that time."""
    took = batch.batch_time
    if took is None:
        return batch.left_at
    blocked_s = took.serial_share * max(0.0, others_done_at - batch.left_at)
    return batch.left_at + blocked_s + took.seconds(batch.rows)
