"""Orders are measured as scikit-learn does, and as the words promise."""

from itertools import permutations
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from ranking_models import metrics
from ranking_models.errors import InputError

few = settings(max_examples=40, deadline=None)
Array = npt.NDArray[np.float64]


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Scores with many ties, labels of both classes, and users."""
    n = draw(st.integers(2, 60))
    step = draw(st.sampled_from([0.5, 0.1, 1e-9]))
    scores = draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    labels[0], labels[1] = 0, 1
    users = draw(st.lists(st.integers(-3, 5), min_size=n, max_size=n))
    return 0.2 + step * np.array(scores) / 10, np.array(labels, float), np.array(users)


@few
@given(rankings())
def test_auc_is_scikit_learns(case: tuple[Array, Array, npt.NDArray[np.int64]]) -> None:
    scores, labels, _ = case

    assert metrics.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


@few
@given(rankings())
def test_auc_is_the_share_of_pairs_in_the_right_order(
    case: tuple[Array, Array, npt.NDArray[np.int64]],
) -> None:
    scores, labels, _ = case
    difference = scores[labels == 1][:, None] - scores[labels == 0][None, :]

    pairs = np.mean((difference > 0) + 0.5 * (difference == 0))

    assert metrics.auc(scores, labels) == pytest.approx(pairs, abs=1e-12)
    assert metrics.auc(-scores, labels) == pytest.approx(1 - pairs, abs=1e-12)


@few
@given(rankings())
def test_gauc_is_the_mean_auc_of_users_weighted_by_rows(
    case: tuple[Array, Array, npt.NDArray[np.int64]],
) -> None:
    scores, labels, users = case
    values, weights = [], []
    for user in set(users.tolist()):
        rows = users == user
        if len(set(labels[rows])) == 2:
            values.append(roc_auc_score(labels[rows], scores[rows]))
            weights.append(rows.sum())
    expected = np.average(values, weights=weights) if values else 0.5

    assert metrics.gauc(scores, labels, users) == pytest.approx(expected, abs=1e-9)


@few
@given(rankings(), st.integers(1, 12))
def test_ndcg_is_scikit_learns_averaged_over_users_with_a_click(
    case: tuple[Array, Array, npt.NDArray[np.int64]], k: int
) -> None:
    scores, labels, users = case
    values = []
    for user in set(users.tolist()):
        rows = users == user
        if labels[rows].any():
            alone = rows.sum() == 1  # scikit-learn refuses slates of one item
            values.append(1.0 if alone else ndcg_score([labels[rows]], [scores[rows]], k=k))

    assert metrics.ndcg_at_k(scores, labels, users, k) == pytest.approx(np.mean(values), abs=1e-9)


@few
@given(rankings(), st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_rows(
    case: tuple[Array, Array, npt.NDArray[np.int64]], random: Random
) -> None:
    scores, labels, users = case
    order = list(range(len(scores)))
    random.shuffle(order)
    again = (scores[order], labels[order], users[order])

    assert metrics.auc(*again[:2]) == pytest.approx(metrics.auc(scores, labels), abs=1e-12)
    assert metrics.gauc(*again) == pytest.approx(metrics.gauc(scores, labels, users), abs=1e-12)
    assert metrics.ndcg_at_k(*again) == pytest.approx(
        metrics.ndcg_at_k(scores, labels, users), abs=1e-12
    )
    assert metrics.hit_rate_at_k(*again, 3) == pytest.approx(
        metrics.hit_rate_at_k(scores, labels, users, 3), abs=1e-9
    )
    assert metrics.calibration_error(*again[:2], 4) == pytest.approx(
        metrics.calibration_error(scores, labels, 4), abs=1e-12
    )


def test_one_class_has_no_order_to_measure() -> None:
    ones = np.ones(3)

    with pytest.raises(ValueError, match="both"):
        metrics.auc(ones, ones)
    with pytest.raises(ValueError, match="at least one click"):
        metrics.ndcg_at_k(ones, 0 * ones, ones.astype(int))
    with pytest.raises(ValueError, match="at least one click"):
        metrics.hit_rate_at_k(ones, 0 * ones, ones.astype(int))
    assert metrics.gauc(ones, ones, ones.astype(int)) == 0.5


@few
@given(rankings(), st.integers(1, 12))
def test_hit_rate_is_the_share_of_lists_with_a_click_in_their_first_rows(
    case: tuple[Array, Array, npt.NDArray[np.int64]], k: int
) -> None:
    """Written out: every list with a click, cut by chance where equal scores straddle the cut."""
    scores, labels, users = case
    values = []
    for user in set(users.tolist()):
        rows = users == user
        if labels[rows].any():
            values.append(hit(scores[rows], labels[rows], k))

    found = metrics.hit_rate_at_k(scores, labels, users, k)

    assert found == pytest.approx(np.mean(values), abs=1e-9)


def hit(scores: Array, labels: Array, k: int) -> float:
    """Place the tied rows of the cut one after the other, and multiply the chances of a miss."""
    if len(scores) <= k:
        return 1.0
    cut = np.sort(scores)[::-1][k - 1]
    if labels[scores > cut].any():
        return 1.0
    tied = labels[scores == cut]
    others, rows = int((tied == 0).sum()), len(tied)
    miss = 1.0
    for place in range(k - int((scores > cut).sum())):
        miss *= max(others - place, 0) / (rows - place)
    return 1 - miss


def test_a_tie_at_the_cut_counts_as_the_mean_over_all_orders() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    labels = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
    orders = [order for order in permutations(range(5)) if (np.diff(scores[[*order]]) <= 0).all()]

    by_order = np.mean([labels[[*order[:2]]].any() for order in orders])

    assert metrics.hit_rate_at_k(scores, labels, np.zeros(5, int), 2) == pytest.approx(by_order)


def test_a_thousand_equal_scores_leave_chance_alone() -> None:
    labels = np.zeros(1000)
    labels[500] = 1

    found = metrics.hit_rate_at_k(np.full(1000, 0.5), labels, np.zeros(1000, int), 10)

    assert found == pytest.approx(0.01, abs=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    scores, labels, users = (
        np.array([0.1, bad, 0.3, bad]),
        np.array([0.0, 1, 0, 1]),
        np.zeros(4, int),
    )

    for measure in (
        lambda: metrics.auc(scores, labels),
        lambda: metrics.gauc(scores, labels, users),
        lambda: metrics.ndcg_at_k(scores, labels, users),
        lambda: metrics.hit_rate_at_k(scores, labels, users),
        lambda: metrics.log_loss(scores, labels),
        lambda: metrics.calibration_error(scores, labels),
    ):
        with pytest.raises(InputError, match=r"2 of 4 scores are NaN or infinite .*row 1"):
            measure()


def test_a_top_longer_than_memory_is_the_whole_list() -> None:
    scores, labels = np.array([0.9, 0.5, 0.1, 0.4]), np.array([0.0, 1.0, 1.0, 0.0])
    users = np.array([0, 0, 0, 1])
    whole = metrics.ndcg_at_k(scores, labels, users, 3)
    assert metrics.ndcg_at_k(scores, labels, users, 10**15) == whole
    assert metrics.hit_rate_at_k(scores, labels, users, 10**15) == 1.0
