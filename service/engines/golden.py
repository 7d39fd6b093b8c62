"""Rows whose right scores are known: what an engine is asked when users must not be the test."""

from msgspec import Struct

from ranking_models.parity import ParityFailed, check_parity
from ranking_models.schema import FeatureBatch, Float32
from service.engines import valid_scores
from service.errors import GoldenMismatch


class Golden(Struct, frozen=True, kw_only=True, eq=False):
    """The golden rows of a bundle, and how far an engine's scores may be from the reference."""

    rows: FeatureBatch
    scores: Float32 | None
    """Of the reference model; None: any probabilities will do."""
    tolerance: float
    """Largest absolute difference of a score."""

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
