from math import expm1, inf, log, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.stats import Estimate, NotEnoughData
from experiments.stats.inferiority import non_inferior, non_inferior_always
from experiments.stats.sequential import always_valid_lower_bound, effective_size
from tests.support.shoppers import slack


def change(relative: float, error: float = 0.01, freedom: float = inf) -> Estimate:
    """As `ratio.log_change` would give it."""
    return Estimate(value=log1p(relative), error=error, freedom=freedom, size=effective_size(error))


def test_it_is_a_one_sided_test_against_the_margin():
    found = non_inferior(change(-0.01, 0.01, freedom=50), 0.03)

    t = (log(0.99) - log(0.97)) / 0.01
    assert found.p_value == pytest.approx(stats.t.sf(t, 50))
    assert found.worst == pytest.approx(expm1(log(0.99) - stats.t.ppf(0.95, 50) * 0.01))
    assert found.best == pytest.approx(expm1(log(0.99) + stats.t.ppf(0.95, 50) * 0.01))
    assert found.limit == pytest.approx(-0.03)


@pytest.mark.parametrize("test", [non_inferior, non_inferior_always])
@pytest.mark.parametrize(
    ("relative", "error", "verdict"),
    [
        (0.0, 0.001, "non_inferior"),
        (0.2, 0.02, "non_inferior"),
        (-0.01, 0.001, "non_inferior"),  # worse for certain, and within the margin
        (0.0, 0.1, "unclear"),
        (-0.02, 0.001, "unclear"),  # at the margin, however much data there are
        (-0.04, 0.02, "unclear"),
        (-0.1, 0.01, "inferior"),
    ],
)
def test_a_click_rate_may_fall_by_the_margin(test, relative, error, verdict):
    assert test(change(relative, error), 0.02).verdict == verdict


@pytest.mark.parametrize("test", [non_inferior, non_inferior_always])
@pytest.mark.parametrize(
    ("relative", "error", "verdict"),
    [
        (0.0, 0.001, "non_inferior"),
        (-0.3, 0.02, "non_inferior"),
        (0.04, 0.001, "non_inferior"),
        (0.0, 0.1, "unclear"),
        (0.05, 0.001, "unclear"),
        (0.2, 0.01, "inferior"),
    ],
)
def test_a_latency_may_rise_by_the_margin(test, relative, error, verdict):
    found = test(change(relative, error), 0.05, better="lower")

    assert found.verdict == verdict
    assert found.limit == pytest.approx(0.05)
    assert found.best < relative < found.worst


@given(st.floats(-0.5, 1.0), st.floats(1e-3, 0.3), st.floats(0.01, 0.3), st.booleans())
def test_p_bound_and_verdict_say_the_same(relative, error, margin, always):
    test = non_inferior_always if always else non_inferior
    found = test(change(relative, error), margin)

    assert found.worst < found.best
    if found.p_value != pytest.approx(0.05):
        assert (found.p_value < 0.05) == (found.verdict == "non_inferior")
        assert (found.worst > found.limit) == (found.verdict == "non_inferior")


def test_no_data_are_no_proof_that_nothing_got_worse():
    """The significance test finds nothing, which a naive gate takes for a green light."""
    young = change(-0.05, error=0.2)

    assert non_inferior(young, 0.02).verdict == "unclear"
    assert non_inferior_always(young, 0.02).verdict == "unclear"


def test_reading_at_any_time_takes_the_always_valid_bound():
    found = non_inferior_always(change(0.0, 0.01), 0.02, confidence=0.9, tuning=20_000)
    bound = always_valid_lower_bound(change(0.0, 0.01), confidence=0.9, tuning=20_000)

    assert found.worst == pytest.approx(expm1(bound))
    assert found.worst < non_inferior(change(0.0, 0.01), 0.02, confidence=0.9).worst


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, 2.0, float("nan")])
def test_a_margin_is_a_share(margin):
    with pytest.raises(ValueError, match="a margin must be"):
        non_inferior(change(0.0), margin)


def test_far_too_early_has_no_bound():
    early = Estimate(value=0.0, error=1.0, freedom=5, size=1e-3)

    with pytest.raises(NotEnoughData, match="far too early"):
        non_inferior_always(early, 0.02)


def test_a_treatment_at_the_margin_is_called_non_inferior_as_often_as_stated():
    rng, runs = np.random.default_rng(1), 2000
    called = [
        non_inferior(change(expm1(log(0.95) + noise)), 0.05).verdict == "non_inferior"
        for noise in rng.normal(0, 0.01, runs)
    ]

    assert np.mean(called) == pytest.approx(0.05, abs=slack(0.05, runs))


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_bound_beyond_all_reason_is_not_enough_data_and_no_overflow(better):
    """Heavy users, few of them: the bound is thousands of standard errors away."""
    early = Estimate(value=0.0, error=2.0, freedom=4, size=100)

    with pytest.raises(NotEnoughData, match="billionfold"):
        non_inferior_always(early, 0.02, better=better)
