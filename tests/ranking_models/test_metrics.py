"""The metrics agree with scikit-learn, and with what the words promise."""

from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from ranking_models import metrics

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
@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.randoms(use_true_random=False))
def test_log_loss_is_scikit_learns(scores: list[float], random: Random) -> None:
    labels = [0, 1] + [random.randint(0, 1) for _ in scores[2:]]

    expected = sklearn_log_loss(labels, np.array(scores), labels=[0, 1])

    found = metrics.log_loss(np.array(scores), np.array(labels, float))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(36.04, abs=0.01)
    assert metrics.log_loss(np.array([1.0]), np.array([1.0])) == pytest.approx(0.0, abs=1e-12)


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


def test_one_class_has_no_order_to_measure() -> None:
    ones = np.ones(3)

    with pytest.raises(ValueError, match="both"):
        metrics.auc(ones, ones)
    with pytest.raises(ValueError, match="at least one click"):
        metrics.ndcg_at_k(ones, 0 * ones, ones.astype(int))
    assert metrics.gauc(ones, ones, ones.astype(int)) == 0.5
