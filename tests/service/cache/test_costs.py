"""Means of what asking and scoring cost, which one wild sample does not move far."""

import pytest

from service.cache.costs import FIRST_SAMPLES, OUTLIER, Costs


def test_nothing_is_compared_before_enough_was_measured():
    costs = Costs()
    costs.scored(3.0)
    for _ in range(FIRST_SAMPLES - 1):
        costs.looked_up(1.0)
    assert costs.known is None

    costs.looked_up(1.0)

    assert costs.known == (1.0, 3.0)


def test_a_wild_sample_counts_as_a_few_means_at_most():
    costs = Costs()
    costs.looked_up(1.0)

    costs.looked_up(1_000.0)

    assert costs.lookup_s == pytest.approx((1.0 + OUTLIER) / 2)
