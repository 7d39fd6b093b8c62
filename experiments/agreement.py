"""How far two rankers agree on one request: the scores of the same candidates, side by side.

Source:
    Kendall (1945), "The treatment of ties in ranking problems", Biometrika 33 (tau-b).
    Knight (1966), "A computer method for calculating Kendall's tau with ungrouped
    data", JASA 61 (by merge sort). Checked against `scipy.stats.kendalltau`.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Agreement(Struct, frozen=True, kw_only=True):
    """Two score vectors of one request, compared."""

    overlap: float
    """Share of the k best that both have among their k best, 0 to 1."""
    kendall_tau: float | None
    """-1 to 1 over all candidates; None where a side has no order at all."""
    drift_max: float
    drift_mean: float
    """Largest and mean absolute difference of the scores of a candidate."""


def agreement(one: Scores, other: Scores, k: int) -> Agreement:
    """Compare the scores that two rankers gave to the same candidates.

    Args:
        one: Shape ``[candidates]``, at least 1, finite.
        other: The same for the other ranker, in the same order.
        k: Length of the slate; more than there are candidates counts as all of them.

    Raises:
        ValueError: the shapes differ, there is nothing to compare, or a score is not finite.
    """
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise ValueError(
            f"scores must be two vectors of one length, got {one.shape}, {other.shape}"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("a score is not finite")
    drift = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return Agreement(
        overlap=overlap(one, other, k),
        kendall_tau=kendall_tau(one, other),
        drift_max=float(drift.max()),
        drift_mean=float(drift.mean()),
    )


def overlap(one: Scores, other: Scores, k: int) -> float:
    """Share of the k best candidates that are the same, whatever their order.

    Ties keep the order of the candidates, as in the slates that are served.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k = min(k, len(one))
    return len(np.intersect1d(_best(one, k), _best(other, k), assume_unique=True)) / k


def kendall_tau(one: Scores, other: Scores) -> float | None:
    """Tau-b: pairs in the same order less pairs in opposite order, ties taken out of both sides.

    Returns:
        1 where both agree on every pair, -1 where they contradict on every pair; None where a
        side ties all candidates, or there are fewer than two.
    """
    n = len(one)
    x, y = _dense(one), _dense(other)
    pairs = n * (n - 1) // 2
    tied_x, tied_y = _tied(x), _tied(y)
    if pairs in (tied_x, tied_y):
        return None
    tied_both = _tied(x * n + y)
    # In the order of x (and of y where x ties) every pair that y has the wrong way round is one
    # that the two disagree on.
    discordant = _inversions(y[np.lexsort((y, x))])
    agreed = pairs - tied_x - tied_y + tied_both - 2 * discordant
    # One root, of exact integers: equal orders give 1 and not nearly 1.
    tau = agreed / sqrt((pairs - tied_x) * (pairs - tied_y))
    return min(1.0, max(-1.0, tau))


def _best(scores: Scores, k: int) -> npt.NDArray[np.intp]:
    return (-scores).argsort(kind="stable")[:k]


def _dense(scores: Scores) -> npt.NDArray[np.int64]:
    """Ranks 0, 1, ... in which equal scores have equal ranks."""
    return np.unique(scores, return_inverse=True)[1].astype(np.int64)


def _tied(ranks: npt.NDArray[np.int64]) -> int:
    """Pairs with equal ranks."""
    counts = np.unique(ranks, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: npt.NDArray[np.int64]) -> int:
    """Pairs whose first is larger than its second, bottom-up: blocks of 1, 2, 4, ... are sorted.

    The blocks of a round are sorted at once, as rows of one array: a slate has hundreds of
    candidates and a few rounds, so this beats a merge in Python by far.
    """
    n = len(ranks)
    width = 1 << (n - 1).bit_length()
    # Padding at the end that is larger than all: it is in no inversion.
    values = np.full(width, n, np.int64)
    values[:n] = ranks
    total, half = 0, 1
    while half < width:
        blocks = values.reshape(-1, 2, half)
        total += _between(blocks[:, 0], blocks[:, 1], n + 1)
        values = np.sort(values.reshape(-1, 2 * half), axis=1).ravel()
        half *= 2
    return total


def _between(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], span: int) -> int:
    """Pairs of a larger value of ``left[i]`` with a smaller one of ``right[i]``, over all i.

    Rows are sorted. A row's number times ``span`` lifts it above the rows before it, so one
    search serves them all.
    """
    rows, half = left.shape
    lift = (np.arange(rows) * span)[:, None]
    not_larger = np.searchsorted((left + lift).ravel(), (right + lift).ravel(), side="right")
    before = np.arange(rows).repeat(half) * half
    return int((half - (not_larger - before)).sum())
