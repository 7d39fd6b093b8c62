"""The waiting jobs, in the order in which they leave.

There is a lane for each priority. The next job comes from the lane whose oldest
job would be first if each priority had arrived later by its penalty; within the
lane, deployments share fairly (`sharing.py`). With one deployment that is the
order of arrival plus the penalty of the priority, job by job.
"""

import math

from service.batching.jobs import Part, ScoreJob
from service.batching.policy import PRIORITY_PENALTY_S
from service.batching.sharing import Lane, is_cut


class Lanes:
    """All waiting jobs. Jobs are appended in the order of arrival."""

    def __init__(self) -> None:
        self.rows = 0
        # In the order of importance.
        self._lanes = {name: Lane(penalty) for name, penalty in PRIORITY_PENALTY_S.items()}
        self._all = tuple(self._lanes.values())

    @property
    def jobs(self) -> int:
        high, normal, low = self._all
        return high.jobs + normal.jobs + low.jobs

    @property
    def oldest_arrival(self) -> float:
        """When the job that has waited longest came; infinity if none waits."""
        oldest = math.inf
        for lane in self._all:
            if lane.rows:
                oldest = min(oldest, lane.oldest_arrival)
        return oldest

    def append(self, job: ScoreJob) -> None:
        self._lanes[job.priority].append(job)
        self.rows += job.rows

    def discard(self, job: ScoreJob) -> None:
        """Take out what still waits of a job."""
        lane = self._lanes[job.priority]
        before = lane.rows
        lane.discard(job)
        self.rows -= before - lane.rows

    def cut(self, max_rows: int) -> tuple[Part, ...]:
        """Take out the next batch.

        A job leaves whole if it can. It is cut where a batch is full if it is
        larger than any batch, or if too much of the batch would stay empty, and
        what is left of it stays first in its line.
        """
        for lane in self._all:
            if lane.rows == self.rows and lane.has_one_line:  # the usual case
                together = lane.leave_together(max_rows)
                self.rows = lane.rows
                return tuple(together)
        parts, room = list[Part](), max_rows
        while room and self.rows:
            lane = self._next_lane()
            job, start = lane.next()
            left = job.rows - start
            if left > room and not is_cut(job.rows, room, max_rows):
                break
            part = Part(job, start, start + min(left, room))
            lane.leave(part)
            self.rows -= part.rows
            parts.append(part)
            room -= part.rows
        return tuple(parts)

    def rows_ahead(self, job: ScoreJob, enough: float) -> int:
        """Rows that leave before a job that arrives now; counting stops when there are `enough`."""
        penalty, rows = PRIORITY_PENALTY_S[job.priority], 0
        turn = job.arrived_at + penalty
        for priority, lane in self._lanes.items():
            if priority == job.priority:
                rows += lane.rows_before(job)
            elif lane.penalty_s < penalty:
                rows += lane.rows
            else:
                # Of a less important lane only those that have waited for long enough.
                rows += lane.rows_since(turn - lane.penalty_s, enough - rows)
        return rows

    def _next_lane(self) -> Lane:
        # On a tie the first, the more important one.
        return min((lane for lane in self._all if lane.rows), key=_turn)


def _turn(lane: Lane) -> float:
    return lane.oldest_arrival + lane.penalty_s
