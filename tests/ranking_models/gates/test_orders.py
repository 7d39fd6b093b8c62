"""Overlap and tau of two orders, against scipy and by hand."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from ranking_models.gates.orders import mean_of_worst, top_overlap, top_tau


def scores(items: int, seed: int, decimals: int = 9) -> np.ndarray:
    return np.round(np.random.default_rng(seed).random(items), decimals).astype(np.float32)


@pytest.mark.parametrize("decimals", [9, 2, 1])
@pytest.mark.parametrize("items", [2, 60, 500])
def test_tau_is_scipys_on_the_reference_s_first_hundred(items, decimals):
    reference = scores(items, 0, decimals)
    candidate = np.round(reference + 0.3 * scores(items, 1), decimals).astype(np.float32)
    first = np.argsort(-reference, kind="stable")[:100]

    wanted = kendalltau(reference[first], candidate[first], variant="b").statistic

    if np.isnan(wanted):
        pytest.skip("scipy has no tau where everything is tied")
    assert top_tau(reference, candidate) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("decimals", [9, 1])
def test_equal_orders_have_exactly_one(decimals):
    reference = scores(300, 0, decimals)

    assert top_tau(reference, reference.copy()) == 1.0
    assert top_overlap(reference, reference.copy()) == 1.0


def test_an_order_that_is_lost_or_made_up_is_worth_nothing():
    order, tied = scores(50, 0), np.full(50, 0.5, np.float32)

    assert top_tau(order, tied) == 0.0
    assert top_tau(tied, order) == 0.0
    assert top_tau(tied, tied) == 1.0


def test_scores_that_are_no_numbers_come_last_and_order_nothing():
    order, broken = scores(50, 0), np.full(50, np.nan, np.float32)

    assert top_tau(order, broken) == 0.0
    broken[np.argmax(order)] = 0.1
    assert top_overlap(order, broken, top=1) == 1.0


def test_the_opposite_order_is_minus_one():
    assert top_tau(scores(50, 0), 1 - scores(50, 0)) == -1.0


def test_overlap_counts_the_first_ten_that_stay():
    reference = np.linspace(1, 0, 40, dtype=np.float32)
    candidate = reference.copy()
    candidate[[8, 9, 30]] = (0.001, 0.002, 1.0)

    assert top_overlap(reference, candidate) == pytest.approx(0.8)


def test_ties_keep_the_order_of_the_catalogue():
    """Two items tied at rank ten are no change as long as both orders tie them."""
    tied = np.full(30, 0.5, np.float32)

    assert top_overlap(tied, tied) == 1.0
    assert top_overlap(np.linspace(1, 0, 30, dtype=np.float32), tied) == 1.0
    assert top_overlap(np.linspace(0, 1, 30, dtype=np.float32), tied) == 0.0


def test_a_catalogue_of_three_is_all_top():
    assert top_overlap(scores(3, 0), scores(3, 1)) == 1.0
    assert top_tau(scores(1, 0), scores(1, 1)) == 1.0


def test_the_worst_lists_are_one_in_twenty_and_at_least_one():
    values = np.ones(100)
    values[[3, 50, 70]] = (0.1, 0.5, 0.6)

    assert mean_of_worst(values) == pytest.approx((0.1 + 0.5 + 0.6 + 1 + 1) / 5)
    assert mean_of_worst(np.array([0.9, 0.3])) == 0.3
