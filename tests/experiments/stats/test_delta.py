"""The textbook form; test_oracles.py compares it with two other packages."""

import numpy as np
import pytest
from scipy import stats

from experiments.stats import NotEnoughData
from experiments.stats.delta import change_of, moments, ratio_of
from experiments.stats.estimate import interval, p_value
from experiments.stats.ratio import RatioSample, log_ratio


def users(seed: int, n: int = 50, *, mean: bool = False) -> RatioSample:
    rng = np.random.default_rng(seed)
    impressions = 1 + rng.poisson(9, n)
    clicks = rng.binomial(impressions, rng.beta(2, 8, n))
    return RatioSample(clicks, np.ones_like(impressions) if mean else impressions)


def test_a_mean_is_a_ratio_over_ones_and_its_difference_welchs_test():
    a, b = users(1, 30, mean=True), users(2, 45, mean=True)

    change = change_of(moments(a), moments(b), scale="absolute")
    scipys = stats.ttest_ind(b.numerator, a.numerator, equal_var=False)

    assert p_value(change) == pytest.approx(scipys.pvalue)
    assert interval(change).low == pytest.approx(scipys.confidence_interval().low)


def test_a_ratio_is_that_of_the_sums_with_the_error_of_linearised_users():
    sample = users(3)
    x, y = sample.numerator, sample.denominator
    linear = (x - x.sum() / y.sum() * y) / y.mean()

    found = ratio_of(moments(sample))

    assert found.value == pytest.approx(x.sum() / y.sum())
    assert found.error == pytest.approx(linear.std(ddof=1) / np.sqrt(50))
    assert (found.freedom, found.size) == (49, 50)


@pytest.mark.parametrize(("n", "limit"), [(30, 1.12), (1000, 1.005)])
def test_leaving_one_out_adds_what_vanishes_with_many_units(n, limit):
    sample = users(4, n)
    textbook = ratio_of(moments(sample))

    assert 1 < log_ratio(sample).error / (textbook.error / textbook.value) < limit


def test_the_period_before_plays_no_part_in_a_single_ratio_and_does_in_a_change():
    a, b, a0, b0 = (users(seed) for seed in (5, 6, 7, 8))

    assert ratio_of(moments(a, a0)) == ratio_of(moments(a))
    assert change_of(moments(a, a0), moments(b, b0)) != change_of(moments(a), moments(b))


def test_a_period_before_in_which_all_were_alike_explains_nothing():
    a, b = users(9), users(10)
    same = RatioSample(np.full(50, 2), np.full(50, 4))

    adjusted = change_of(moments(a, same), moments(b, same))
    assert adjusted.value == pytest.approx(change_of(moments(a), moments(b)).value)


def test_adjusting_by_the_outcome_itself_leaves_nothing():
    a, b = users(11), users(12)

    with pytest.raises(NotEnoughData, match="no unit differs"):
        change_of(moments(a, a), moments(b, b))


@pytest.mark.parametrize(
    ("clicks", "impressions", "says"),
    [
        ([1], [2], "1 of 2 units"),
        ([0, 0], [0, 0], "no impressions"),
        ([1, 1, 1], [3, 3, 3], "no unit differs"),
        ([0, 0, 0], [3, 3, 3], "no clicks|no unit differs"),
    ],
)
def test_too_little_says_what_is_missing(clicks, impressions, says):
    sample = RatioSample(np.array(clicks), np.array(impressions))

    with pytest.raises(NotEnoughData, match=says):
        ratio_of(moments(sample))
    with pytest.raises(NotEnoughData, match=says):
        change_of(moments(sample), moments(sample))
