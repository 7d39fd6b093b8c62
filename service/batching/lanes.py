"""The waiting jobs, in the order in which they leave.

The order is that of arrival plus the penalty of the priority. Within one
priority that is first come, first served, so there is a lane for each, and
the next job is at the head of one of them.
"""

import math
from collections import OrderedDict

from msgspec import Struct

from service.batching.policy import PRIORITY_PENALTY_S
from service.messages import Priority


class ScoreJob(Struct, frozen=True, kw_only=True, eq=False):
    """One request's misses, waiting for an engine. Two jobs are never equal."""

    rows: int
    arrived_at: float
    deadline: float
    priority: Priority = "normal"

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"a job has at least one row, got {self.rows}")


class Part(Struct, frozen=True):
    """The rows ``start`` to ``stop`` of a job: all of them, unless it is larger than a batch."""

    job: ScoreJob
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class Lanes:
    """All waiting jobs. Jobs of one priority are appended in the order of arrival."""

    def __init__(self) -> None:
        self.rows = 0
        # In the order of importance.
        self._lanes = {priority: _Lane() for priority in PRIORITY_PENALTY_S}

    @property
    def jobs(self) -> int:
        return sum(len(lane.jobs) for lane in self._lanes.values())

    @property
    def oldest_arrival(self) -> float:
        """When the job that has waited longest came; infinity if none waits."""
        return min((head.arrived_at for head in self._heads()), default=math.inf)

    def append(self, job: ScoreJob) -> None:
        lane = self._lanes[job.priority]
        lane.jobs[job] = 0
        lane.rows += job.rows
        self.rows += job.rows

    def discard(self, job: ScoreJob) -> None:
        """Take out what still waits of a job."""
        lane = self._lanes[job.priority]
        if job in lane.jobs:
            self._leave(lane, Part(job, lane.jobs[job], job.rows))

    def cut(self, max_rows: int) -> tuple[Part, ...]:
        """Take out the next batch.

        A job leaves whole. Only one that no batch can hold is cut, wherever a
        batch is full, and what is left of it stays first in its lane.
        """
        parts, room = list[Part](), max_rows
        while room and self.rows:
            job = min(self._heads(), key=_turn)  # on a tie the first, the more important one
            lane = self._lanes[job.priority]
            start = lane.jobs[job]
            if job.rows - start > room and job.rows <= max_rows:
                break
            part = Part(job, start, min(job.rows, start + room))
            self._leave(lane, part)
            parts.append(part)
            room -= part.rows
        return tuple(parts)

    def rows_ahead(self, job: ScoreJob, enough: float) -> int:
        """Rows that leave before a job that arrives now; counting stops when there are `enough`."""
        penalty, turn, rows = PRIORITY_PENALTY_S[job.priority], _turn(job), 0
        for priority, lane in self._lanes.items():
            if PRIORITY_PENALTY_S[priority] <= penalty:
                rows += lane.rows
                continue
            # Of a less important lane only those that have waited for long enough.
            for other, left in lane.jobs.items():
                if _turn(other) > turn or rows > enough:
                    break
                rows += other.rows - left
        return rows

    def _heads(self) -> list[ScoreJob]:
        return [next(iter(lane.jobs)) for lane in self._lanes.values() if lane.jobs]

    def _leave(self, lane: "_Lane", part: Part) -> None:
        if part.stop == part.job.rows:
            del lane.jobs[part.job]
        else:
            lane.jobs[part.job] = part.stop
        lane.rows -= part.rows
        self.rows -= part.rows


class _Lane:
    """The jobs of one priority, first come first."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[ScoreJob, int] = OrderedDict()  # how many rows have left already
        self.rows = 0  # that still wait


def _turn(job: ScoreJob) -> float:
    return job.arrived_at + PRIORITY_PENALTY_S[job.priority]
