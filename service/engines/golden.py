"""Rows whose right scores are known: what an engine is asked when users must not be the test."""

import msgspec
import numpy as np
from msgspec import Struct

from ranking_models.parity import ParityFailed, check_parity
from ranking_models.schema import FeatureBatch, Float32
from service.engines import Engine, valid_scores
from service.errors import GoldenMismatch

TELLING = 0.05
"""A tolerance above this tells little of a score between 0 and 1."""


class Golden(Struct, frozen=True, kw_only=True, eq=False):
    """The golden rows of a bundle, and how far an engine's scores may be from the reference."""

    rows: FeatureBatch
    scores: Float32 | None
    """Of the reference model; None: any probabilities will do."""
    tolerance: float
    """Largest absolute difference of a score."""

    def own(self, engine: Engine) -> "Golden":
        """What to hold an engine to from now on that has proved itself.

        The reference, or its own scores where the bundle allows it much: an INT8 graph may be far
        from the reference in a few rows, but the same engine gives the same scores again.

        Raises:
            EngineFailed: it cannot score them any more.
        """
        if self.tolerance <= TELLING:
            return self
        most = engine.info.max_batch_rows
        cuts = [slice(first, first + most) for first in range(0, self.rows.rows, most)]
        scores = np.concatenate([engine.score(self.rows.take(cut)) for cut in cuts])
        return msgspec.structs.replace(self, scores=scores, tolerance=TELLING)

    def check(self, name: str, given: Float32) -> None:
        """Whether these scores are right.

        Raises:
            GoldenMismatch: a score is off, or is none; names the engine and the row.
        """
        if self.scores is None:
            if given.shape != (self.rows.rows,) or not valid_scores(given).all():
                raise GoldenMismatch(f"{name}: its scores of the golden rows are no probabilities")
            return
        try:
            check_parity(
                lambda _: given, self.rows, self.scores, tolerance=self.tolerance, what=name
            )
        except ParityFailed as failure:
            raise GoldenMismatch(f"{name}: golden rows: {failure.reason}") from failure
