import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from experiments.stats import NotEnoughData
from experiments.stats.rates import (
    RateSample,
    design_effect,
    rate_change,
    rate_difference,
    rate_estimate,
    rate_interval,
)
from experiments.stats.sequential import always_valid_lower_bound


def alone(events: int, requests: int) -> RateSample:
    """Every request is a unit of its own."""
    happened = np.zeros(requests, np.int64)
    happened[:events] = 1
    return RateSample(happened, np.ones(requests, np.int64))


@pytest.mark.parametrize(("events", "requests"), [(0, 50), (1, 1000), (30, 400), (50, 50)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_an_interval_of_independent_requests_is_wilsons(events, requests, confidence):
    sample = alone(events, requests)
    n = requests / design_effect(sample)
    low, high = proportion_confint(events / requests * n, n, 1 - confidence, method="wilson")

    interval = rate_interval(sample, confidence=confidence)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
    assert n == pytest.approx(requests, rel=0.025)


@pytest.mark.parametrize(("a", "b"), [((3, 900), (9, 800)), ((0, 500), (4, 400))])
def test_a_difference_is_newcombes(a, b):
    control, treatment = (
        RateSample(np.array([events]), np.array([requests])) for events, requests in (a, b)
    )
    low, high = confint_proportions_2indep(*b, *a, method="newcomb", compare="diff")

    difference = rate_difference(control, treatment)
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=1e-9)
    assert difference.value == b[0] / b[1] - a[0] / a[1]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60))
def test_an_interval_holds_the_rate_and_stays_between_nothing_and_everything(cells):
    events = np.array([hit for hit, _ in cells])
    sample = RateSample(events, events + np.array([other for _, other in cells]))
    if not sample.requests.any():
        with pytest.raises(NotEnoughData, match="no requests yet"):
            rate_interval(sample)
        return
    interval = rate_interval(sample)

    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert rate_estimate(sample).error > 0


def test_failures_that_come_in_bursts_widen_the_interval():
    burst, even = np.zeros(200, np.int64), np.zeros(200, np.int64)
    burst[:2], even[:40] = 20, 1
    requests = np.full(200, 20)

    wide, narrow = (rate_interval(RateSample(events, requests)) for events in (burst, even))
    assert wide.value == narrow.value == 0.01
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_intervals_cover_the_truth_where_units_fail_together():
    """Requests taken as independent would cover it far too rarely."""
    rng = np.random.default_rng(1)
    covered, naive, runs = 0, 0, 500
    for _ in range(runs):
        requests = rng.geometric(1 / 20, 500)
        unlucky = rng.beta(0.5, 9.5, 500)
        sample = RateSample(rng.binomial(requests, unlucky), requests)
        interval = rate_interval(sample)
        covered += interval.low <= 0.05 <= interval.high
        low, high = proportion_confint(sample.events.sum(), requests.sum(), method="wilson")
        naive += low <= 0.05 <= high

    assert 0.92 <= covered / runs <= 0.98
    assert naive / runs < 0.8


def test_a_breach_can_be_read_at_any_time():
    broken, well = alone(80, 400), alone(0, 400)

    assert always_valid_lower_bound(rate_estimate(broken)) > 0.05
    assert always_valid_lower_bound(rate_estimate(well)) < 0.001
    assert always_valid_lower_bound(rate_change(well, broken)) > 0.05


def test_no_failure_so_far_is_no_proof_that_there_is_none():
    estimate = rate_estimate(alone(0, 50))

    assert 0 < estimate.value < 0.05
    assert estimate.error > 0.01
