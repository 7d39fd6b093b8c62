"""Agreement of two rankers: by hand, and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from experiments.agreement import agreement, kendall_tau, overlap


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_by_hand():
    """Orders a b c d and b a c d: one pair of six is the wrong way round."""
    found = agreement(scores(0.9, 0.8, 0.5, 0.1), scores(0.7, 0.8, 0.5, 0.2), 1)

    assert found.overlap == 0.0
    assert found.kendall_tau == pytest.approx(4 / 6)
    assert found.drift_max == pytest.approx(0.2, abs=1e-7)
    assert found.drift_mean == pytest.approx(0.3 / 4, abs=1e-7)
    assert overlap(scores(0.9, 0.8, 0.5, 0.1), scores(0.7, 0.8, 0.5, 0.2), 2) == 1.0


def test_ties_by_hand():
    """Of six pairs one ties in x and another in y, four agree: 4 over the root of 5 times 5."""
    assert kendall_tau(scores(1, 1, 2, 3), scores(1, 2, 2, 3)) == pytest.approx(0.8)


@given(
    st.integers(2, 70).flatmap(
        lambda n: st.tuples(
            *(
                hnp.arrays(np.float32, n, elements=st.integers(0, 12).map(lambda i: i / 16))
                for _ in range(2)
            )
        )
    )
)
def test_tau_is_scipys_with_and_without_ties(pair):
    ours, theirs = kendall_tau(*pair), stats.kendalltau(*pair).statistic

    assert (ours is None) == bool(np.isnan(theirs))
    if ours is not None:
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 100, 1000])
def test_equal_and_opposite_orders_are_exactly_one_and_minus_one(n):
    one = np.random.default_rng(n).permutation(n).astype(np.float32)

    assert kendall_tau(one, 2 * one) == 1.0
    assert kendall_tau(one, -one) == -1.0


def test_a_thousand_candidates_as_scipy_has_them():
    rng = np.random.default_rng(5)
    one = rng.random(1000, np.float32)
    other = (one + rng.normal(0, 0.1, 1000)).round(2).astype(np.float32)

    assert kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


@pytest.mark.parametrize("one", [scores(0.5), scores(0.5, 0.5, 0.5)])
def test_no_order_has_no_tau(one):
    assert agreement(one, one + 0.1, 3).kendall_tau is None


def test_k_beyond_the_candidates_is_all_of_them():
    assert overlap(scores(0.1, 0.2), scores(0.2, 0.1), 20) == 1.0


def test_ties_at_the_edge_keep_the_order_of_the_candidates_as_slates_do():
    """Three equal scores: a slate of one is the first candidate, for both."""
    assert overlap(scores(0.5, 0.5, 0.5), scores(0.9, 0.1, 0.1), 1) == 1.0
    assert overlap(scores(0.5, 0.5, 0.5), scores(0.1, 0.1, 0.9), 1) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "k"),
    [
        (scores(), scores(), 1),
        (scores(0.1), scores(0.1, 0.2), 1),
        (scores(0.1, np.nan), scores(0.1, 0.2), 1),
        (scores(0.1), scores(0.2), 0),
    ],
)
def test_what_cannot_be_compared_is_refused(one, other, k):
    with pytest.raises(ValueError, match=r"scores must be|not finite|k must be"):
        agreement(one, other, k)
