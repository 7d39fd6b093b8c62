"""Does an engine compute the reference model's scores?

Takes any function from rows to scores, so it knows no engine, no service and
no torch: the export asks it about ONNX Runtime, ``podium bundle verify`` about
a shipped graph, and the service about every engine that it loads.
"""

from collections.abc import Callable

import numpy as np

from ranking_models.errors import InputError
from ranking_models.schema import FeatureBatch, Float32

Scorer = Callable[[FeatureBatch], Float32]


def in_batches(score: Scorer, most: int) -> Scorer:
    """A scorer of any number of rows from one that takes so many in a call."""

    def all_rows(batch: FeatureBatch) -> Float32:
        parts = [slice(at, at + most) for at in range(0, batch.rows, most)]
        return np.concatenate([score(batch.take(part)) for part in parts])

    return all_rows


class ParityFailed(InputError):
    """Scores are further from the reference than allowed."""

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(f"{what}: {reason}; this graph must not be served, export the run again")


def check_parity(
    score: Scorer, rows: FeatureBatch, reference: Float32, *, tolerance: float, what: str
) -> float:
    """Compare one call's scores with the reference, row by row.

    Args:
        score: The engine.
        rows: Its input.
        reference: Float32 scores of the same rows.
        tolerance: Largest absolute difference of a score that passes.
        what: The engine and its graph, for the message.

    Returns:
        The largest absolute difference.

    Raises:
        ParityFailed: a score differs by more, or is not a number, or the
            result is not one float32 per row.
    """
    scores = score(rows)
    if scores.shape != reference.shape or scores.dtype != np.float32:
        got, wanted = f"{scores.dtype} {list(scores.shape)}", f"float32 {list(reference.shape)}"
        raise ParityFailed(what, f"the scores are {got} where {wanted} is due")
    difference = np.abs(scores.astype(np.float64) - reference)
    if not (difference <= tolerance).all():  # NaN compares false, so it fails here
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        got, wanted = f"{scores[worst]:.7f}", f"{reference[worst]:.7f}"
        reason = f"row {worst} of {rows.rows} scores {got}, the reference model {wanted}"
        raise ParityFailed(what, f"{reason} (allowed difference {tolerance:g})")
    return float(difference.max())


def check_batches(
    score: Scorer,
    rows: FeatureBatch,
    reference: Float32,
    *,
    sizes: tuple[int, ...],
    tolerance: float,
    what: str,
) -> float:
    """Compare in batches of several sizes, so that company changes no score.

    A size of up to ``rows.rows`` cuts the rows into batches of that size; a
    larger one is a single call with the rows repeated until it is full.

    Returns:
        The largest absolute difference of all calls.

    Raises:
        ParityFailed: as `check_parity`; names the batch size.
    """
    worst = 0.0
    for size in sizes:
        order = np.arange(max(size, rows.rows)) % rows.rows
        for first in range(0, len(order), size):
            part = order[first : first + size]
            worst = max(
                worst,
                check_parity(
                    score,
                    rows.take(part),
                    reference[part],
                    tolerance=tolerance,
                    what=f"{what}, in batches of {size}",
                ),
            )
    return worst
