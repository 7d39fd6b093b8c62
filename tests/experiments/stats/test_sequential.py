"""Always-valid readings: against the paper's equations, and against equal variants."""

from math import exp, inf, log, log1p, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.stats import Estimate, Interval, NotEnoughData
from experiments.stats.estimate import interval, p_value
from experiments.stats.inferiority import non_inferior_always
from experiments.stats.ratio import always_valid_difference, log_change, ratio_difference
from experiments.stats.sequential import (
    TUNING,
    always_valid_interval,
    always_valid_lower_bound,
    always_valid_one_sided_p,
    always_valid_p,
    effective_size,
    reach,
    tuning_for,
)
from tests.support.shoppers import ARRIVALS, looks, shoppers, slack

ESTIMATES = st.builds(
    Estimate,
    value=st.floats(-2, 2),
    error=st.floats(1e-4, 1.0),
    freedom=st.one_of(st.just(inf), st.floats(4, 1e6)),
    size=st.floats(100, 1e7),
)


def now(value: float = 0.0, *, error: float = 0.01, size: float = 5000, freedom: float = inf):
    return Estimate(value=value, error=error, size=size, freedom=freedom)


@pytest.mark.parametrize("n", [50, 5_000, 1_000_000])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_half_width_is_equation_9_of_the_paper(n, alpha):
    sigma, rho2 = 2.5, (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / TUNING
    estimate = now(0.3, error=sigma / sqrt(n), size=n)
    half = sigma * sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * log(sqrt(n * rho2 + 1) / alpha))

    found = always_valid_interval(estimate, confidence=1 - alpha)

    assert found.high - found.value == pytest.approx(half)
    assert found.value - found.low == pytest.approx(half)


def test_at_100_000_users_the_price_is_a_width_of_1_7():
    """As measured in the facts for a CTR difference with the usual tuning."""
    assert reach(now(size=100_000)) / 1.96 == pytest.approx(1.70, abs=0.005)


def test_it_is_tightest_at_the_tuning_and_forgives_a_tuning_that_is_too_small():
    best = reach(now(size=TUNING))

    assert best == pytest.approx(3.03, abs=0.01)
    assert reach(now(size=TUNING * 20)) / best == pytest.approx(1.10, abs=0.01)
    assert reach(now(size=TUNING / 10)) / best == pytest.approx(1.27, abs=0.01)
    assert all(reach(now(size=TUNING * f)) > best for f in (0.2, 0.5, 2, 5))


@given(ESTIMATES, st.sampled_from([0.9, 0.95, 0.99]))
def test_p_and_interval_say_the_same(estimate, confidence):
    found = always_valid_interval(estimate, confidence=confidence)
    p = always_valid_p(estimate, confidence=confidence)

    assert 0 <= p <= 1
    if p != pytest.approx(1 - confidence):
        assert (found.low > 0 or found.high < 0) == (p < 1 - confidence)


@given(ESTIMATES, st.sampled_from([0.9, 0.95, 0.99]))
def test_one_sided_p_and_bound_say_the_same(estimate, confidence):
    low = always_valid_lower_bound(estimate, confidence=confidence)
    p = always_valid_one_sided_p(estimate, confidence=confidence)

    assert 0 <= p <= 1
    assert low < estimate.value
    if p != pytest.approx(1 - confidence):
        assert (low > 0) == (p < 1 - confidence)


def test_one_side_needs_less_than_two_once_the_clock_is_near_the_tuning():
    for size in (TUNING / 5, TUNING, 100 * TUNING):
        one, two = always_valid_lower_bound(now(size=size)), always_valid_interval(now(size=size))
        assert two.low < one < 0


@given(ESTIMATES)
def test_it_is_never_narrower_than_a_reading_at_a_fixed_horizon(estimate):
    once, always = interval(estimate), always_valid_interval(estimate)

    assert always.low < once.low < once.high < always.high
    assert always_valid_p(estimate) >= p_value(estimate)


def test_few_units_move_the_bound_to_the_same_tail_of_students_t():
    plain, few = reach(now()), reach(now(freedom=10))

    assert stats.t.sf(few, 10) == pytest.approx(stats.norm.sf(plain))
    assert reach(now(freedom=1e7)) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("value", [-1e9, -3.0, 3.0, 1e9])
def test_overwhelming_evidence_is_no_overflow(value):
    for freedom in (inf, 9.0, 1e5):
        assert always_valid_p(now(value, freedom=freedom)) < 1e-6
        assert always_valid_one_sided_p(now(abs(value), freedom=freedom)) < 1e-6
        assert always_valid_one_sided_p(now(-abs(value), freedom=freedom)) == 1


def test_far_too_early_is_not_enough_data():
    with pytest.raises(NotEnoughData, match="far too early"):
        always_valid_interval(now(size=1e-3, freedom=5))


def test_a_difference_that_could_still_be_anything_is_not_enough_data():
    rng = np.random.default_rng(6)
    few = [shoppers(rng, 8, 0.3, heavy=0.3).period(rng) for _ in range(2)]

    assert ratio_difference(*few).relative.low < 0
    with pytest.raises(NotEnoughData, match="far too early"):
        always_valid_difference(*few)


@pytest.mark.parametrize(
    ("confidence", "tuning"), [(0.0, 5000), (1.0, 5000), (1.2, 5000), (0.95, 0), (0.95, -1)]
)
def test_a_senseless_reading_is_refused(confidence, tuning):
    with pytest.raises(ValueError, match="out of range"):
        always_valid_interval(now(), confidence=confidence, tuning=tuning)


@pytest.mark.parametrize("change", [0.01, 0.02, -0.05, 0.3])
def test_the_tuning_for_a_change_is_tightest_where_it_becomes_detectable(change):
    tuning = tuning_for(change)
    error = 2 / sqrt(tuning)  # effective_size(error) is the tuning
    at_that_time = now(error=error, size=effective_size(error))

    found = (reach(at_that_time, tuning=tuning) + stats.norm.ppf(0.8)) * error
    assert found == pytest.approx(abs(log1p(change)))
    for other in (0.3, 3.0):
        assert reach(at_that_time, tuning=tuning) < reach(at_that_time, tuning=tuning * other)


@pytest.mark.parametrize("change", [0.0, -1.0, -2.0])
def test_a_change_of_nothing_has_no_tuning(change):
    with pytest.raises(ValueError, match="a change must be"):
        tuning_for(change)


def test_the_clock_of_rare_independent_clicks_is_their_number():
    """Two variants of 1,000 clicks each, one impression a user: a clock of about 2,000."""
    rng = np.random.default_rng(1)
    one_each = [
        shoppers(rng, 100_000, 0.01, per_period=1, heavy=0, alike=1e6).period(rng) for _ in range(2)
    ]

    assert log_change(*one_each).size == pytest.approx(2000, rel=0.1)


def test_both_intervals_of_a_difference_are_always_valid_and_wider_than_once():
    rng = np.random.default_rng(2)
    a, b = (shoppers(rng, 3000, ctr).period(rng) for ctr in (0.1, 0.11))
    once, always = ratio_difference(a, b), always_valid_difference(a, b)

    for name in ("absolute", "relative"):
        inner, outer = getattr(once, name), getattr(always, name)
        assert outer.value == inner.value
        assert 1.5 < width(outer) / width(inner) < 2.0
    assert always.p_value > once.p_value
    assert always.detectable > 1.3 * once.detectable
    relative = always.relative
    assert relative.low == pytest.approx(exp(always_valid_interval(log_change(a, b)).low) - 1)
    # The two scales agree about the sign as far as their different skew allows.
    assert always.absolute.high / relative.high == pytest.approx(
        once.absolute.high / once.relative.high, rel=0.1
    )


def width(found: Interval) -> float:
    return found.high - found.low


RUNS, LOOKS, USERS = 40, 20, 500
"""Small, for a test: `python -m tests.bench statistics` has a thousand runs and more users."""


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_twenty_looks_at_equal_variants_hardly_ever_find_a_difference(arrival):
    """At most 5 % and the noise of 40 runs (3 standard errors); reading once finds far more."""
    rng = np.random.default_rng(3)
    naive = always = 0
    for _ in range(RUNS):
        pair = [looks(rng, shoppers(rng, USERS, 0.1), arrival, LOOKS) for _ in range(2)]
        p = [p_values(a, b) for a, b in zip(*pair, strict=True)]
        naive += min(once for once, _ in p) < 0.05
        always += min(valid for _, valid in p) < 0.05

    assert always / RUNS <= 0.05 + slack(0.05, RUNS)
    assert always <= naive


def p_values(a, b) -> tuple[float, float]:
    try:
        change = log_change(a, b)
    except NotEnoughData:
        return 1.0, 1.0
    return p_value(change), always_valid_p(change)


def test_peeking_ten_times_fools_the_naive_test_and_not_the_sequence():
    """Armitage, McPherson, Rowe (1969): 19.3 % at ten looks; bounds are 3 standard errors."""
    rng, runs = np.random.default_rng(4), 3000
    steps = rng.normal(0, sqrt(1000), size=(runs, 10)).cumsum(axis=1)
    n = np.arange(1, 11) * 1000
    naive = np.mean(np.any(np.abs(steps) / np.sqrt(n) > 1.96, axis=1))
    bounds = np.array([reach(now(size=k)) for k in n])
    always = np.mean(np.any(np.abs(steps) / np.sqrt(n) > bounds, axis=1))

    assert naive == pytest.approx(0.193, abs=slack(0.193, runs))
    assert always <= 0.05


def test_a_treatment_at_the_margin_is_hardly_ever_called_non_inferior():
    rng, runs = np.random.default_rng(5), 200
    errors = 0.1 / np.sqrt(np.arange(1, 21))
    noise = rng.normal(size=(runs, 20)).cumsum(axis=1) / np.arange(1, 21) * 0.1
    called = 0
    for run in noise:
        verdicts = [
            non_inferior_always(
                now(log(0.9) + off, error=error, size=effective_size(error)), 0.1
            ).verdict
            for off, error in zip(run, errors, strict=True)
        ]
        called += "non_inferior" in verdicts

    assert called / runs <= 0.05
