"""Two orders of one catalogue: how much of the top is the same, and in the same order.

Equal scores keep the order of the catalogue in both, so a tie is no change.
"""

from math import ceil

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32

TOP = 10
"""Items of a slate that people see."""

DEPTH = 100
"""The reference's first items whose order is compared."""

WORST = 0.05
"""Share of lists that count as the worst."""


def top_overlap(reference: Float32, candidate: Float32, *, top: int = TOP) -> float:
    """Share of the reference's first items that are among the candidate's first, 0..1.

    Args:
        reference: Scores of the whole catalogue, ``[items]``.
        candidate: Of the same items.
        top: How many are first; all of a smaller catalogue.
    """
    top = min(top, len(reference))
    shared = np.intersect1d(_order(reference)[:top], _order(candidate)[:top], assume_unique=True)
    return len(shared) / top


def top_tau(reference: Float32, candidate: Float32, *, depth: int = DEPTH) -> float:
    """Kendall's tau-b between both scores of the reference's first items, -1..1.

    Pairs that one of them ties are left out of its side. Where both tie every
    pair nothing has changed: 1. Where one of them does, an order was lost or
    made up: 0.

    Source:
        Kendall (1945), "The treatment of ties in ranking problems",
        Biometrika 33(3).
    """
    first = _order(reference)[:depth]
    ours, theirs = _pair_signs(reference[first]), _pair_signs(candidate[first])
    ordered = float(np.abs(ours).sum()) * float(np.abs(theirs).sum())
    if not ordered:
        return 0.0 if ours.any() or theirs.any() else 1.0
    # Both sums are small integers, so equal orders give exactly 1.
    return float((ours * theirs).sum() / np.sqrt(ordered))


def mean_of_worst(values: npt.NDArray[np.float64]) -> float:
    """Mean of the lowest 5 % of the values, of at least one."""
    return float(np.sort(values)[: ceil(WORST * len(values))].mean())


def _order(scores: Float32) -> npt.NDArray[np.intp]:
    return np.argsort(-scores, kind="stable")


def _pair_signs(scores: Float32) -> npt.NDArray[np.int32]:
    """1 where the item of the row is above that of the column, -1 below, 0 for a tie."""
    row, column = scores[:, None], scores[None, :]
    # Comparisons, not a difference: two infinite scores are a tie and NaN warns of nothing.
    return (row > column).astype(np.int32) - (row < column)
