"""Who is let into the queue, and what an engine gets done while a backlog waits.

Refusing early beats expiring late: the caller hears at once that it should
retry or go without, and no engine time is spent on an answer nobody waits for.
Under overload everybody is admitted with as little time to spare as the door
allows, so an estimate that is short by half a batch makes everybody late, and
the engines score for nobody.
"""

import math

from service.batching.jobs import ScoreJob
from service.batching.lanes import Lanes
from service.batching.outlook import Arrivals
from service.batching.policy import Limits
from service.errors import DeadlineUnreachable, QueueFull

WEIGHT = 0.2
"""Of the newest full batch in the mean: about the last ten batches count."""

RETRY_WHEN_RATE_UNKNOWN_S = 1.0
"""Retry-After of a full queue before any full batch was timed: the least the header can say."""

LONGEST_RETRY_S = 30.0
"""The longest that anybody is told to stay away; nobody knows what will be then."""

LEAST_SPARE = 0.1
"""Of the engines' rate, for those who come back: while as much comes as they score, nobody knows
when that will end."""

MARGIN = 0.1
"""Of the time until the work ahead of a job is done: batches take now longer, now shorter."""


class DrainRate:
    """Rows per second that one instance scores under a backlog; learnt, unknown at first.

    Only full batches tell: small ones cost more per row, and a backlog does
    not leave in small batches. But any batch that was faster than the estimate
    raises it. Without that, one very slow batch could make the estimate so low
    that everything is refused, no batch is full again, and nothing is learnt.

    The mean is over rates and not over times for the same reason: a pause of
    the machine is an outlier of a time, and nearly nothing among rates.
    """

    def __init__(self) -> None:
        self.rows_per_s: float | None = None

    def learn(self, rows: int, seconds: float, *, full: bool) -> None:
        """Take in a batch of so many rows that took so long."""
        if seconds <= 0:
            return  # shorter than the clock can tell
        seen, known = rows / seconds, self.rows_per_s
        if known is None:
            self.rows_per_s = seen if full else None
        elif full or seen > known:
            self.rows_per_s = known + WEIGHT * (seen - known)


class Door:
    """Refuses the jobs that the queue has no room for, or that it could not score in time.

    Args:
        lanes: What waits.
        arrivals: How much comes.
        drain: How much one instance gets done.
    """

    def __init__(self, lanes: Lanes, arrivals: Arrivals, drain: DrainRate) -> None:
        self._lanes, self._arrivals, self._drain = lanes, arrivals, drain
        self._room_until = -math.inf  # for when the one refused last was told to come back

    def check(self, job: ScoreJob, limits: Limits, free_in_s: float) -> None:
        """Let a job pass.

        Args:
            job: Who wants in, while others wait or are being scored.
            limits: Of the queue.
            free_in_s: How long until an instance is free.

        Raises:
            QueueFull: the queue is at its limit.
            DeadlineUnreachable: the job would most likely not be scored in time.
        """
        waiting, limit = self._lanes.rows, limits.max_waiting_rows
        rate = self._drain.rows_per_s
        if rate is not None:
            rate *= limits.instances
        if waiting and waiting + job.rows > limit:
            over_s = 0.0 if rate is None else (waiting + job.rows - limit) / rate
            raise QueueFull(waiting, limit, self._retry_after_s(job, over_s, rate))
        if rate is None:
            return
        left_s, most = job.deadline - job.arrived_at, limits.max_batch_rows
        own_rows = most * limits.instances + (job.rows - most if job.rows > most else 0)
        if (1 + MARGIN) * (free_in_s + waiting / rate) + own_rows / rate <= left_s:
            return  # time for more than can come before it, as nearly always
        rows_ahead = self._lanes.rows_ahead(job, enough=left_s * rate)
        ahead_s = (1 + MARGIN) * (free_in_s + rows_ahead / rate)
        predicted_s = ahead_s + self._own_rows(job, rows_ahead, ahead_s, limits) / rate
        if predicted_s > left_s:
            # Enough is done after the excess; at the latest when all that is ahead is done.
            retry_after_s = self._retry_after_s(job, min(predicted_s - left_s, ahead_s), rate)
            raise DeadlineUnreachable(predicted_s * 1000, left_s * 1000, retry_after_s)

    def _own_rows(self, job: ScoreJob, rows_ahead: int, ahead_s: float, limits: Limits) -> float:
        """The rows that are scored from the turn of a job until its scores are there.

        They come when its whole batch is done, rows of those behind it included,
        and one instance scores that batch, however many there are.
        """
        behind = (self._arrivals.rows_per_s or 0.0) * ahead_s
        last_batch = min(rows_ahead + job.rows + behind, limits.max_batch_rows)
        return max(0, job.rows - limits.max_batch_rows) + last_batch * limits.instances

    def _retry_after_s(self, job: ScoreJob, work_s: float, rate: float | None) -> float:
        """When there will be room for a job that is refused now.

        Others keep coming, and those who were refused before it come back as well: all
        at once, unless each is told a time of its own.

        Args:
            job: Who is refused.
            work_s: By how much the backlog has to shrink, in time that it takes the engines.
            rate: Rows that they score in a second.
        """
        if rate is None:
            return RETRY_WHEN_RATE_UNKNOWN_S
        now = job.arrived_at
        spare = max(1.0 - (self._arrivals.rows_per_s or 0.0) / rate, LEAST_SPARE)
        own_s = job.rows / rate / spare
        room_at = max(now + work_s / spare, self._room_until + own_s)
        self._room_until = min(room_at, now + LONGEST_RETRY_S)
        return self._room_until - now
