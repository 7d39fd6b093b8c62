"""Which rows of a batch have scores, and from whom, once they have to be told apart."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32
from service.engines.parts import Indexes, Parts
from service.engines.scored import NOBODY, TOO_LATE


class Progress:
    """Scores row by row.

    Args:
        jobs: The rows, job by job.
        deadlines: Per job, when nobody waits for it any more; None: all are waited for.
    """

    def __init__(self, jobs: Parts, deadlines: Sequence[float] | None) -> None:
        self._jobs, self._deadlines = jobs, deadlines
        self.scores = np.full(jobs.rows, np.nan, np.float32)
        """NaN where there is none yet."""
        self.places = np.full(jobs.rows, NOBODY, np.int16)
        """Of the engine that scored the row; `NOBODY`, or `TOO_LATE` to ask for it again."""

    @property
    def nothing(self) -> bool:
        """Whether no row has a score, and none was given up for its deadline."""
        return bool((self.places == NOBODY).all())

    def open_rows(self, now: float) -> Indexes:
        """The rows that have no score and that somebody waits for."""
        for job, deadline in enumerate(self._deadlines or ()):
            if deadline <= now:
                places = self.places[self._jobs.span(job)]
                places[places == NOBODY] = TOO_LATE
        return np.flatnonzero(self.places == NOBODY)

    def keep(
        self, rows: Indexes | None, scores: Float32, valid: npt.NDArray[np.bool_], place: int
    ) -> None:
        """Some rows (None: all) were asked for; those that are valid need no other engine."""
        asked = np.arange(len(self.places)) if rows is None else rows
        self.scores[asked[valid]] = scores[valid]
        self.places[asked[valid]] = place
