import numpy as np
import pytest
from statsmodels.stats import gof

from experiments.stats import NotEnoughData
from experiments.stats.srm import check_split


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
