"""How well scores order impressions: all of them, those of one user, the top of a list.

A list is the rows of one user, or of one session. The ``*_per_list`` functions
give a metric list by list, the others its mean. Equal scores are equal: no
metric depends on the order of the input.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from ranking_models.metrics.inputs import Float64, Groups, Scores, finite


class ListFigures(NamedTuple):
    """A metric of each list that has one."""

    list_of: npt.NDArray[np.intp]
    """Which lists: positions among the sorted distinct groups."""
    value: Float64
    weight: Float64
    """How much the list counts in the mean."""

    def mean(self) -> float:
        return float(np.average(self.value, weights=self.weight))


def auc(scores: Scores, labels: Scores) -> float:
    """The chance that a random click scores above a random non-click; ties count half.

    Args:
        scores: Shape ``[rows]``, higher is more likely.
        labels: 1 for a click, else 0, ``[rows]``.

    Raises:
        ValueError: there are no clicks, or nothing else.
    """
    figures = auc_per_list(scores, labels, np.zeros(len(scores), np.int64))
    if not len(figures.value):
        raise ValueError("AUC needs both clicks and non-clicks")
    return float(figures.value[0])


def gauc(scores: Scores, labels: Scores, users: Groups) -> float:
    """AUC within each user's rows, averaged with the number of rows as weight.

    The plain AUC also rewards telling active users from others, which orders
    nobody's slate. Users with clicks only, or none, are left out; if all are,
    nothing is known to be ordered better than by chance: 0.5.

    Source:
        Zhu et al. (2017), "Optimized Cost per Click in Taobao Display
        Advertising", KDD; arXiv:1703.02091.
    """
    figures = auc_per_list(scores, labels, users)
    return figures.mean() if len(figures.value) else 0.5


def ndcg_at_k(scores: Scores, labels: Scores, users: Groups, k: int = 10) -> float:
    """Mean NDCG over users with a click: each user's rows ordered by score.

    The gain is the label, the discount ``1 / log2(1 + rank)`` down to rank
    ``k``. Rows with equal scores share the mean of their discounts, so the
    order of the input does not matter.

    Raises:
        ValueError: there are no clicks.

    Source:
        Järvelin, Kekäläinen (2002), TOIS 20(4); ties as McSherry, Najork (2008), ECIR.
    """
    figures = ndcg_per_list(scores, labels, users, k)
    if not len(figures.value):
        raise ValueError("NDCG needs at least one click")
    return figures.mean()


def hit_rate_at_k(scores: Scores, labels: Scores, users: Groups, k: int = 10) -> float:
    """Share of the lists with a click whose first ``k`` rows by score hold a click.

    A list of up to ``k`` rows is always a hit, so the figure says something
    only where lists are longer. Where rows with equal scores straddle rank
    ``k``, the list counts with the chance of a hit when these rows are put in
    random order: ``1 - C(others, places) / C(ties, places)``.

    Raises:
        ValueError: there are no clicks.
    """
    figures = hits_per_list(scores, labels, users, k)
    if not len(figures.value):
        raise ValueError("the hit rate needs at least one click")
    return figures.mean()


def auc_per_list(scores: Scores, labels: Scores, groups: Groups) -> ListFigures:
    """AUC and rows of each group that has both classes, by the Mann-Whitney rank sum."""
    rows = _sorted(scores, labels, groups, best_first=False)
    tied = np.bincount(rows.tie, rows.rank + 1.0) / np.bincount(rows.tie)
    rank = tied[rows.tie]  # ties share their mean rank

    clicks = np.bincount(rows.group, rows.clicked)
    others = rows.sizes - clicks
    rank_sum = np.bincount(rows.group, rank * rows.clicked)
    both = (clicks > 0) & (others > 0)
    above = rank_sum[both] - clicks[both] * (clicks[both] + 1) / 2
    return ListFigures(
        list_of=np.flatnonzero(both),
        value=above / (clicks[both] * others[both]),
        weight=rows.sizes[both].astype(np.float64),
    )


def ndcg_per_list(scores: Scores, labels: Scores, groups: Groups, k: int) -> ListFigures:
    """NDCG of each list with a click; see `ndcg_at_k`."""
    rows = _sorted(scores, labels, groups, best_first=True)
    discount = np.where(rows.rank < k, 1 / np.log2(rows.rank + 2.0), 0.0)
    gain = (np.bincount(rows.tie, rows.clicked) / np.bincount(rows.tie))[rows.tie]
    found = np.bincount(rows.group, gain * discount)
    clicks = np.bincount(rows.group, rows.clicked).astype(np.int64)
    most = min(k, int(clicks.max()))
    best_of = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(most) + 2.0))])
    best = best_of[np.minimum(clicks, most)]
    return _of_lists_with_a_click(clicks, found[clicks > 0] / best[clicks > 0])


def hits_per_list(scores: Scores, labels: Scores, groups: Groups, k: int) -> ListFigures:
    """1 for each list with a click among its first ``k`` rows, else 0; see `hit_rate_at_k`."""
    rows = _sorted(scores, labels, groups, best_first=True)
    clicks = np.bincount(rows.group, rows.clicked).astype(np.int64)
    ties = np.bincount(rows.tie)
    tied_clicks = np.bincount(rows.tie, rows.clicked).astype(np.float64)
    first = np.concatenate([[0], np.cumsum(ties)[:-1]])  # the first row of each run of ties
    group, places = rows.group[first], np.clip(k - rows.rank[first], 0, ties)
    missed = np.exp(np.bincount(group, _log_chance_of_none(ties, tied_clicks, places)))
    return _of_lists_with_a_click(clicks, (1.0 - missed)[clicks > 0])


def _log_chance_of_none(
    rows: npt.NDArray[np.intp], clicks: Float64, places: npt.NDArray[np.intp]
) -> Float64:
    """Log of ``C(rows - clicks, places) / C(rows, places)``: that no click gets a place."""
    others = rows - clicks
    possible = places <= others
    left = np.where(possible, others - places, 0.0)
    chance = (
        gammaln(others + 1) - gammaln(left + 1) - gammaln(rows + 1.0) + gammaln(rows - places + 1.0)
    )
    return np.where(possible, np.where(clicks > 0, chance, 0.0), -np.inf)


class _Sorted(NamedTuple):
    """Rows ordered by group, then score; ``rank`` 0 is a group's first."""

    group: npt.NDArray[np.intp]
    clicked: Float64
    rank: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]
    """Rows per group."""
    tie: npt.NDArray[np.intp]
    """0, 0, 1, ...: a new number where the (group, score) pair changes."""


def _sorted(scores: Scores, labels: Scores, groups: Groups, *, best_first: bool) -> _Sorted:
    values = finite(scores)
    _, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((-values if best_first else values, group))
    group, values = group[order], values[order]
    sizes = np.bincount(group)
    changes = (group[1:] != group[:-1]) | (values[1:] != values[:-1])
    return _Sorted(
        group=group,
        clicked=np.asarray(labels, np.float64)[order],
        rank=np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group],
        sizes=sizes,
        tie=np.concatenate([[0], np.cumsum(changes)]).astype(np.intp),
    )


def _of_lists_with_a_click(clicks: npt.NDArray[np.int64], value: Float64) -> ListFigures:
    return ListFigures(list_of=np.flatnonzero(clicks), value=value, weight=np.ones(len(value)))
