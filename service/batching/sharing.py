"""Waiting jobs of one priority: first come, first served, and fair between deployments.

Without the second half, a deployment that floods the engine makes everyone
behind its backlog late, a trickle from another deployment included. So each
deployment has a line of its own, and the next job comes from the one that has
had the least. What it had is counted in rows on a clock that all lines share:
a line that was empty starts at the present, so nobody saves up for later.

While two deployments both wait, the rows that each of them gets never differ by
more than the largest part of the one plus the largest part of the other, and a
part is at most one batch. A deployment that has had no more than its share
waits for one part of each other deployment at the most.

Source:
    Goyal, Vin, Cheng (1996), "Start-time Fair Queueing", SIGCOMM, theorem 1.
"""

import math
from collections import OrderedDict

from service.batching.jobs import Part, ScoreJob

MOST_EMPTY = 0.25
"""A batch of which more than this share would stay empty takes the first rows of the next job.

That job is not scored later for it: without the cut it would wait for the same
next batch, whole. But a cut costs some work, so it has to bring something: with
requests of 1 to 1,000 rows and batches of 1,024, a quarter of every call.
"""


class Lane:
    """The jobs of one priority. They are appended in the order of arrival."""

    def __init__(self, penalty_s: float) -> None:
        self.penalty_s = penalty_s
        self.rows = 0
        self.jobs = 0
        self._lines: dict[str, _Line] = {}  # of every deployment that ever came
        self._waiting: dict[str, _Line] = {}  # those with jobs
        self._present = 0  # where the line stood that was served last

    @property
    def has_one_line(self) -> bool:
        """Whether the jobs that wait are all of one deployment: there is nobody to be fair to."""
        return len(self._waiting) == 1

    @property
    def oldest_arrival(self) -> float:
        """When the job that has waited longest came; infinity if none waits."""
        oldest = math.inf
        for line in self._waiting.values():
            oldest = min(oldest, line.head.arrived_at)
        return oldest

    def append(self, job: ScoreJob) -> None:
        name = job.deployment
        line = self._waiting.get(name)
        if line is None:
            line = self._lines.get(name) or self._lines.setdefault(name, _Line())
            line.had_rows = max(line.had_rows, self._present)
            self._waiting[name] = line
        rows = job.rows
        line.jobs[job] = 0
        line.rows += rows
        self.rows += rows
        self.jobs += 1

    def next(self) -> tuple[ScoreJob, int]:
        """The job that leaves next, and how many of its rows have left already."""
        line = self._next_line()
        job = line.head
        return job, line.jobs[job]

    def leave(self, part: Part) -> None:
        """Take out the first rows of the `next` job."""
        line = self._waiting[part.job.deployment]
        self._present = line.had_rows
        line.had_rows += part.stop - part.start
        self._take(line, part)
        if not self._waiting:
            self._present = line.had_rows  # nobody waits: what was before is forgotten

    def leave_together(self, max_rows: int) -> list[Part]:
        """Take out a batch of the only line: what `next` and `leave` would, at a fraction of the
        cost."""
        (line,) = self._waiting.values()
        jobs, parts, room = line.jobs, list[Part](), max_rows
        for job, start in jobs.items():
            rows = job.rows
            left = rows - start
            if left > room:
                if room and is_cut(rows, room, max_rows):
                    parts.append(Part(job, start, start + room))
                    room = 0
                break
            parts.append(Part(job, start, rows))
            room -= left
        last = parts[-1]
        if len(parts) == len(jobs) and last.stop == last.job.rows:
            jobs.clear()
            self._waiting.clear()
        else:
            for part in parts:
                if part.stop == part.job.rows:
                    del jobs[part.job]
                else:
                    jobs[part.job] = part.stop
        left_rows = max_rows - room
        line.rows -= left_rows
        line.had_rows += left_rows
        self.rows -= left_rows
        self.jobs = len(jobs)
        # Where the line stood when its last part left; nobody waits: what was before is forgotten.
        self._present = line.had_rows - (last.rows if jobs else 0)
        return parts

    def discard(self, job: ScoreJob) -> None:
        """Take out what still waits of a job."""
        line = self._waiting.get(job.deployment)
        if line is not None and job in line.jobs:
            self._take(line, Part(job, line.jobs[job], job.rows))

    def rows_before(self, job: ScoreJob) -> int:
        """Rows of this lane that leave before a job that arrives now."""
        if not self._waiting:
            return 0
        mine = self._lines.get(job.deployment)
        own = mine.rows if mine is not None else 0
        turn = own + max(mine.had_rows if mine is not None else 0, self._present)
        others = sum(
            min(line.rows, max(0, turn - line.had_rows))
            for line in self._waiting.values()
            if line is not mine
        )
        return own + others

    def rows_since(self, arrived_by: float, enough: float) -> int:
        """Rows of those who had come by some time; counting stops when there are `enough`."""
        rows = 0
        for line in self._waiting.values():
            for job, left in line.jobs.items():
                if job.arrived_at > arrived_by or rows > enough:
                    break
                rows += job.rows - left
        return rows

    def _next_line(self) -> "_Line":
        lines = iter(self._waiting.values())
        best = next(lines)
        if len(self._waiting) == 1:
            return best
        for line in lines:
            if (line.had_rows, line.head.arrived_at) < (best.had_rows, best.head.arrived_at):
                best = line
        return best

    def _take(self, line: "_Line", part: Part) -> None:
        job, rows = part.job, part.stop - part.start
        if part.stop == job.rows:
            del line.jobs[job]
            self.jobs -= 1
            if not line.jobs:
                del self._waiting[job.deployment]
        else:
            line.jobs[job] = part.stop
        line.rows -= rows
        self.rows -= rows


def is_cut(rows: int, room: int, max_rows: int) -> bool:
    """Whether a job that does not fit into the room that a batch has left gives its first rows."""
    return rows > max_rows or room > MOST_EMPTY * max_rows


class _Line:
    """The waiting jobs of one deployment, first come first."""

    __slots__ = ("had_rows", "jobs", "rows")

    def __init__(self) -> None:
        self.jobs: OrderedDict[ScoreJob, int] = OrderedDict()  # how many rows have left already
        self.rows = 0  # that still wait
        self.had_rows = 0  # on the clock of the lane

    @property
    def head(self) -> ScoreJob:
        return next(iter(self.jobs))
