"""The rows of a batch, job by job, in the forms and cuts that engines ask for."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ranking_models.schema import FeatureBatch
from service.engines.rows import CandidateRows, JobRows, Rows, as_features, concatenated

Indexes = npt.NDArray[np.intp]
"""Rows of the batch, ascending."""


class Parts:
    """The rows of one or more jobs. Put together and gathered once, whoever asks how often.

    Args:
        jobs: The rows of each job, in order.
    """

    def __init__(self, jobs: Sequence[JobRows]) -> None:
        self._jobs = jobs
        self._whole: Rows | None = None
        self._features: FeatureBatch | None = None

    @property
    def rows(self) -> int:
        return self._stops[-1]

    @property
    def jobs(self) -> int:
        return len(self._jobs)

    @cached_property
    def _stops(self) -> list[int]:
        # Needed only when something went wrong: most batches never ask.
        return [*accumulate(job.rows for job in self._jobs)]

    def span(self, job: int) -> slice:
        """Where the rows of a job stand."""
        return slice(self._stops[job - 1] if job else 0, self._stops[job])

    def job_of(self, rows: Indexes) -> Indexes:
        """The job, by number, that each of these rows belongs to."""
        jobs: Indexes = np.searchsorted(self._stops, rows, side="right")
        return jobs

    def all(self, *, candidates: bool) -> Rows:
        """Every row.

        Args:
            candidates: Whether candidates may stay as they are; else they are gathered.
        """
        if self._whole is None:
            self._whole = concatenated(self._jobs)
        if candidates or not isinstance(self._whole, CandidateRows):
            return self._whole
        if self._features is None:
            self._features = as_features(self._whole)
        return self._features

    def some(self, rows: Indexes, *, candidates: bool) -> Rows:
        """A few of the rows. Only their own jobs are touched: another's may be what is broken."""
        if self._features is not None and not candidates:
            return self._features.take(rows)
        chosen = concatenated(
            [
                self._jobs[job].take(_within(rows, self.span(job)))
                for job in np.unique(self.job_of(rows)).tolist()
            ]
        )
        return chosen if candidates else as_features(chosen)


def _within(rows: Indexes, span: slice) -> Indexes:
    """Those of the rows that are in a job's span, counted from its first."""
    first, last = np.searchsorted(rows, (span.start, span.stop))
    inside: Indexes = rows[first:last] - span.start
    return inside
