from math import inf, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import normal_power_het, normal_sample_size_one_tail
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from experiments.stats.power import (
    design_effect,
    detectable_change,
    growth_needed,
    power_of,
    users_needed,
)
from experiments.stats.ratio import RatioSample, log_change, ratio_difference
from experiments.stats.sequential import TUNING, always_valid_interval, effective_size
from tests.support.shoppers import shoppers, slack


@pytest.mark.parametrize(
    ("ctr", "change", "users"),
    [
        (0.036, 0.01, 4.22e6),
        (0.036, 0.02, 1.06e6),
        (0.036, 0.05, 172e3),
        (0.005, 0.02, 7.89e6),
        (0.005, 0.05, 1.28e6),
        (0.005, 0.10, 328e3),
    ],
)
def test_the_honest_sizes(ctr, change, users):
    """Users per variant, one impression each, 80 % power, two-sided 5 %."""
    assert users_needed(ctr, change) == pytest.approx(users, rel=2e-3)


@pytest.mark.parametrize("ratio", [1.0, 0.25, 3.0])
@pytest.mark.parametrize(("ctr", "change"), [(0.036, 0.02), (0.3, -0.05), (0.005, 0.5)])
def test_users_and_power_are_those_of_statsmodels(ctr, change, ratio):
    other = ctr * (1 + change)
    std = np.sqrt(ctr * (1 - ctr) + other * (1 - other) / ratio)
    users = users_needed(ctr, change, power=0.9, confidence=0.99, ratio=ratio)

    theirs = normal_sample_size_one_tail(
        other - ctr if change > 0 else ctr - other, 0.9, 0.005, std_null=std, std_alternative=std
    )
    assert users == pytest.approx(theirs, abs=1)
    power = normal_power_het(other - ctr, users, 0.01, std_null=std, std_alternative=std)
    assert power_of(ctr, change, users, confidence=0.99, ratio=ratio) == pytest.approx(power)


def test_a_pooled_null_variance_would_change_little():
    """The form of R's power.prop.test and of statsmodels' two-proportion plan."""
    pooled = samplesize_proportions_2indep_onetail(0.036 * 0.05, 0.036, 0.8, alpha=0.05)

    assert users_needed(0.036, 0.05) == pytest.approx(pooled, rel=2e-3)


@given(
    st.floats(0.001, 0.5),
    st.floats(0.005, 0.5),
    st.floats(0.1, 10.0),
    st.sampled_from([None, TUNING, 50_000.0]),
)
def test_the_detectable_change_is_the_plan_turned_around(ctr, change, ratio, tuning):
    plan = {"ratio": ratio, "impressions": 12.0, "design_effect": 3.0, "tuning": tuning}
    users = users_needed(ctr, change, **plan)

    assert detectable_change(ctr, users, **plan) == pytest.approx(change, rel=2 / users + 1e-6)
    # A whole number of users, of whom few are needed for the largest changes.
    assert power_of(ctr, change, users, **plan) == pytest.approx(0.8, abs=2 / users + 1e-3)


def test_more_impressions_help_as_far_as_they_are_not_alike():
    alone = users_needed(0.05, 0.02)

    assert users_needed(0.05, 0.02, impressions=10) == pytest.approx(alone / 10, abs=1)
    assert users_needed(0.05, 0.02, impressions=10, design_effect=10) == alone
    assert users_needed(0.05, 0.02, ratio=1 / 9) > 4 * alone


def test_looking_all_the_time_takes_two_to_three_times_the_users():
    price = users_needed(0.036, 0.02, tuning=TUNING) / users_needed(0.036, 0.02)

    assert 2 < price < 3


def test_a_handful_of_users_can_find_nothing():
    assert detectable_change(0.5, 3) == inf
    assert power_of(0.036, 0.02, 100) < 0.06


def test_no_change_is_found_as_often_as_the_test_is_wrong():
    assert power_of(0.1, 0.0, 5000) == pytest.approx(0.05)


@pytest.mark.parametrize(("ctr", "change"), [(0.0, 0.1), (1.0, 0.1), (0.6, 0.7), (0.1, -1.0)])
def test_a_ctr_is_a_share(ctr, change):
    with pytest.raises(ValueError, match="CTRs must be in"):
        users_needed(ctr, change)


def test_the_design_effect_is_what_makes_impressions_worth_less():
    rng = np.random.default_rng(1)
    independent = shoppers(rng, 5000, 0.1, heavy=0, alike=1e9).period(rng)
    alike = shoppers(rng, 5000, 0.1, heavy=1.0, alike=20).period(rng)

    assert design_effect(independent) == pytest.approx(1, abs=0.15)
    # 1 + (mean of squares / mean - 1) / (concentration + 1), as for any beta-binomial
    assert design_effect(alike) == pytest.approx(1 + 10 * np.e / 21, rel=0.25)


def test_a_plan_with_the_measured_design_effect_keeps_its_promise():
    """80 % of 300 experiments with heavy users find the change; three standard errors."""
    rng, runs, change = np.random.default_rng(2), 300, 0.25
    pilot = shoppers(rng, 20_000, 0.1).period(rng)
    users = users_needed(0.1, change, impressions=10, design_effect=design_effect(pilot))
    found = 0
    for _ in range(runs):
        a, b = (shoppers(rng, users, ctr).period(rng) for ctr in (0.1, 0.1 * (1 + change)))
        found += ratio_difference(a, b).p_value < 0.05

    # The treatment's users are a little more alike per impression than the plan takes them.
    assert found / runs == pytest.approx(0.8, abs=slack(0.8, runs))


@pytest.mark.parametrize("tuning", [None, TUNING])
def test_the_growth_that_is_missing_makes_the_change_detectable(tuning):
    rng = np.random.default_rng(3)
    a, b = (shoppers(rng, 2000, 0.1).period(rng) for _ in range(2))
    times = round(growth_needed(log_change(a, b), 0.05, tuning=tuning))
    assert times > 2

    grown = [
        RatioSample(np.tile(s.numerator, times), np.tile(s.denominator, times)) for s in (a, b)
    ]
    error = log_change(*grown).error
    needed = 1.96 + 0.8416
    if tuning is not None:
        estimate = log_change(*grown)
        half = always_valid_interval(estimate, tuning=tuning).high - estimate.value
        needed = half / error + 0.8416
    assert needed * error == pytest.approx(log1p(0.05), rel=0.05)
    assert growth_needed(log_change(*grown), 0.05, tuning=tuning) == pytest.approx(1, abs=0.1)
    assert effective_size(error) == pytest.approx(log_change(*grown).size)
