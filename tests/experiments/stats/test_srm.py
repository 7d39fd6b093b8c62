import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import gof

from experiments.stats import NotEnoughData
from experiments.stats.srm import always_valid_split_p, check_split


@pytest.mark.parametrize(
    ("units", "shares"),
    [
        ([5000, 5200], [5000, 5000]),
        ([900, 9100], [1000, 9000]),
        ([334, 340, 290], [3333, 3333, 3334]),
    ],
)
def test_the_p_value_is_that_of_statsmodels(units, shares):
    expected = sum(units) * np.array(shares) / sum(shares)

    check = check_split(units, shares)

    assert check.p_value == pytest.approx(gof.chisquare(units, expected)[1])
    assert check.expected == pytest.approx(expected)


def test_losing_one_request_in_twenty_of_one_arm_is_noticed():
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        arm = rng.binomial(20_000, 0.5)
        alarms += check_split([20_000 - arm, rng.binomial(arm, 0.95)], [1, 1]).mismatch

    assert alarms >= 120  # 3.6 standard errors on average, the alarm is at 3.3


def test_a_fair_split_hardly_ever_alarms():
    rng = np.random.default_rng(2)
    splits = [rng.multinomial(10_000, [0.9, 0.1]) for _ in range(2000)]

    assert sum(check_split(list(split), [9000, 1000]).mismatch for split in splits) <= 8


def test_units_in_a_variant_without_share_are_a_mismatch():
    assert check_split([1000, 1], [10_000, 0]).mismatch
    assert check_split([0, 0, 3], [5000, 5000, 0]).p_value == 0


def test_a_variant_without_share_and_without_units_is_left_out():
    assert check_split([500, 500, 0], [5000, 5000, 0]).p_value == pytest.approx(1.0)
    assert not check_split([1000, 0], [10_000, 0]).mismatch


@pytest.mark.parametrize("units", [[0, 0], [1, 0], [4, 5], [0, 9]])
def test_a_handful_of_units_says_nothing(units):
    with pytest.raises(NotEnoughData, match=f"{sum(units)} units are too few"):
        check_split(units, [5000, 5000])


def test_the_always_valid_p_is_the_bayes_factor_of_a_dirichlet_prior():
    """Against scipy: the multinomial's probability, averaged over the prior by formula."""
    units, shares, concentration = [520, 430, 50], [0.5, 0.45, 0.05], 40.0
    averaged = stats.dirichlet_multinomial.logpmf(
        units, concentration * np.array(shares), sum(units)
    )
    planned = stats.multinomial.logpmf(units, sum(units), shares)

    p = always_valid_split_p(units, shares, concentration=concentration)

    assert p == pytest.approx(min(1.0, float(np.exp(planned - averaged))))


def test_a_split_that_is_read_after_every_unit_alarms_as_often_as_stated():
    """At most 5 % at 200 looks; chi-square at 5 % alarms several times as often."""
    rng, runs = np.random.default_rng(4), 150
    arms = rng.binomial(50, 0.1, (runs, 200)).cumsum(axis=1)
    totals = 50 * np.arange(1, 201)
    always = naive = 0
    for run in arms[:, 4:]:
        checks = [
            check_split([n - arm, arm], [0.9, 0.1])
            for n, arm in zip(totals[4:].tolist(), run.tolist(), strict=True)
        ]
        always += min(check.always_valid_p for check in checks) < 0.05
        naive += min(check.p_value for check in checks) < 0.05

    assert always / runs <= 0.05
    assert naive / runs > 0.25


def test_a_real_mismatch_is_found_by_both():
    check = check_split([10_000, 9_300], [1, 1])

    assert check.mismatch
    assert check.always_valid_p < 0.001


def test_the_surer_alarm_never_comes_before_chi_square():
    for n in (100, 1_000, 10_000, 1_000_000):
        for z in np.arange(2.0, 6.0, 0.05):
            half, off = n / 2, int(z * n**0.5 / 2)
            check = check_split([int(half - off), int(half + off)], [1, 1])
            if check.always_valid_p < 0.01:
                assert check.mismatch


@pytest.mark.parametrize(("units", "p"), [([0, 0], 1.0), ([1, 0], 1.0), ([0, 3], 1.0)])
def test_the_always_valid_p_needs_no_minimum(units, p):
    assert always_valid_split_p(units, [1, 1]) == pytest.approx(p, abs=0.01)


def test_a_unit_that_the_plan_excludes_is_certain():
    assert always_valid_split_p([1000, 1], [1, 0]) == 0
    assert always_valid_split_p([1000, 0], [1, 0]) == 1
