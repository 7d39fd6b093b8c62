from math import exp, inf, log, nan

import numpy as np
import pytest
from scipy import stats

from experiments.stats import Estimate, Interval
from experiments.stats.estimate import (
    difference,
    interval,
    lower_bound,
    one_sided_p,
    p_value,
    relative,
    turned,
)


def estimate(value: float, error: float, freedom: float = inf, size: float = 100) -> Estimate:
    return Estimate(value=value, error=error, freedom=freedom, size=size)


@pytest.mark.parametrize("freedom", [3.7, 20.0, 1e6, inf])
def test_intervals_and_p_values_are_those_of_scipy(freedom):
    law = stats.norm if freedom == inf else stats.t(freedom)
    found = estimate(1.2, 0.5, freedom)

    assert interval(found, confidence=0.9).low == pytest.approx(1.2 - law.ppf(0.95) * 0.5)
    assert interval(found, confidence=0.9).high == pytest.approx(1.2 + law.ppf(0.95) * 0.5)
    assert p_value(found, null=0.1) == pytest.approx(2 * law.sf(2.2))
    assert one_sided_p(found, null=0.1) == pytest.approx(law.sf(2.2))
    assert one_sided_p(turned(found)) == pytest.approx(law.cdf(2.4))
    assert lower_bound(found) == pytest.approx(1.2 - law.ppf(0.95) * 0.5)


def test_a_difference_of_means_is_welchs_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(10, 1, 12), rng.normal(11, 4, 30)
    means = [estimate(float(v.mean()), float(stats.sem(v)), len(v) - 1, len(v)) for v in (a, b)]

    found, scipys = difference(*means), stats.ttest_ind(b, a, equal_var=False)

    assert p_value(found) == pytest.approx(scipys.pvalue)
    assert found.freedom == pytest.approx(scipys.df)
    ci = scipys.confidence_interval()
    assert interval(found).low == pytest.approx(ci.low)
    assert interval(found).high == pytest.approx(ci.high)


def test_one_normal_and_one_t_estimate_keep_the_uncertainty_of_the_one():
    found = difference(estimate(0, 1, inf), estimate(0, 1, 5))

    assert found.freedom == pytest.approx(20)
    assert difference(estimate(0, 1), estimate(0, 1)).freedom == inf


def test_the_clock_of_a_difference_is_that_of_two_equal_samples():
    def size(c: float, t: float) -> float:
        return difference(estimate(0, 1, size=c), estimate(0, 1, size=t)).size

    assert size(50, 50) == pytest.approx(100)
    assert size(90, 10) == pytest.approx(36)


def test_a_relative_change_comes_from_the_logarithm():
    found = relative(Interval(log(1.1), log(0.9), log(1.4)))

    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((-0.1, 0.4))
    assert relative(Interval(0.0, -1e-12, 1e-12)).high == pytest.approx(1e-12)
    assert exp(0) - 1 == relative(Interval(0.0, 0.0, 0.0)).value


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": nan},
        {"value": inf},
        {"error": 0.0},
        {"error": -1.0},
        {"error": nan},
        {"error": inf},
        {"size": 0.0},
        {"size": nan},
        {"freedom": 0.0},
        {"freedom": nan},
    ],
)
def test_what_is_no_estimate_is_refused(wrong):
    right = {"value": 0.0, "error": 1.0, "size": 10.0, "freedom": 5.0}

    with pytest.raises(ValueError, match=r"estimate|freedom"):
        Estimate(**(right | wrong))
