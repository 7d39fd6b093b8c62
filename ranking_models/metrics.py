"""How well scores order impressions, and how true they are as probabilities. numpy only."""

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32

Float64 = npt.NDArray[np.float64]
Scores = Float32 | Float64
Groups = npt.NDArray[np.integer]


def auc(scores: Scores, labels: Scores) -> float:
    """The chance that a random click scores above a random non-click; ties count half.

    Args:
        scores: Shape ``[rows]``, higher is more likely.
        labels: 1 for a click, else 0, ``[rows]``.

    Raises:
        ValueError: there are no clicks, or nothing else.
    """
    values, _ = _auc_per_group(scores, labels, np.zeros(len(scores), np.int64))
    if not len(values):
        raise ValueError("AUC needs both clicks and non-clicks")
    return float(values[0])


def log_loss(scores: Scores, labels: Scores) -> float:
    """Mean of ``-log P(label)``, natural logarithm; 0 is perfect, lower is better.

    Scores are kept one float64 epsilon away from 0 and 1, so that one certain
    mistake costs 36 instead of infinity.
    """
    epsilon = np.finfo(np.float64).eps
    p = np.clip(np.asarray(scores, np.float64), epsilon, 1 - epsilon)
    clicked = np.asarray(labels, np.float64) > 0
    return float(-np.mean(np.where(clicked, np.log(p), np.log1p(-p))))


def gauc(scores: Scores, labels: Scores, users: Groups) -> float:
    """AUC within each user's rows, averaged with the number of rows as weight.

    The plain AUC also rewards telling active users from others, which orders
    nobody's slate. Users with clicks only, or none, are left out; if all are,
    nothing is known to be ordered better than by chance: 0.5.

    Source:
        Zhu et al. (2017), "Optimized Cost per Click in Taobao Display
        Advertising", KDD; arXiv:1703.02091.
    """
    values, rows = _auc_per_group(scores, labels, users)
    return float(np.average(values, weights=rows)) if len(values) else 0.5


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
    _, group = np.unique(users, return_inverse=True)
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    order = np.lexsort((-scores, group))
    group, scores, labels = group[order], scores[order], labels[order]
    sizes = np.bincount(group)
    rank = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group]  # 0 is the first
    discount = np.where(rank < k, 1 / np.log2(rank + 2.0), 0.0)

    tie = _run_numbers(group, scores)
    gain = (np.bincount(tie, labels) / np.bincount(tie))[tie]
    found = np.bincount(group, gain * discount)
    clicks = np.bincount(group, labels).astype(np.int64)
    best_of = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2.0))])
    best = best_of[np.minimum(clicks, k)]
    if not clicks.any():
        raise ValueError("NDCG needs at least one click")
    return float(np.mean(found[clicks > 0] / best[clicks > 0]))


def _auc_per_group(scores: Scores, labels: Scores, groups: Groups) -> tuple[Float64, Float64]:
    """AUC and rows of each group that has both classes, by the Mann-Whitney rank sum."""
    _, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((scores, group))
    group, sorted_scores = group[order], np.asarray(scores, np.float64)[order]
    clicked = np.asarray(labels, np.float64)[order]
    sizes = np.bincount(group)
    rank = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group] + 1.0
    tie = _run_numbers(group, sorted_scores)
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]  # ties share their mean rank

    clicks = np.bincount(group, clicked)
    others = sizes - clicks
    rank_sum = np.bincount(group, rank * clicked)
    both = (clicks > 0) & (others > 0)
    above = rank_sum[both] - clicks[both] * (clicks[both] + 1) / 2
    return above / (clicks[both] * others[both]), sizes[both].astype(np.float64)


def _run_numbers(group: Groups, scores: Scores) -> npt.NDArray[np.intp]:
    """0, 0, 1, ...: a new number where the sorted (group, score) pair changes."""
    changes = (group[1:] != group[:-1]) | (scores[1:] != scores[:-1])
    return np.concatenate([[0], np.cumsum(changes)]).astype(np.intp)
