"""CUPED for a ratio by cell: less variance, the same coverage, on both scales."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.stats import NotEnoughData
from experiments.stats.cuped import (
    Paired,
    always_valid_cuped_difference,
    cuped,
    cuped_difference,
)
from experiments.stats.ratio import RatioSample, log_change, ratio_difference
from tests.support.shoppers import CELLS, shoppers, slack


def paired(
    rng: np.random.Generator, users: int, ctr: float, *, lift: float = 0.0, before: float = 3.0
) -> Paired:
    """The same users before and during; only then does a treatment change their tastes."""
    who = shoppers(rng, users, ctr, per_period=20)
    earlier = who.period(rng, before)
    who.taste[:] = np.minimum(who.taste * (1 + lift), 1.0)
    return Paired(before=earlier, during=who.period(rng))


def test_what_differed_before_is_taken_off():
    """Chance gave one variant the keener users; nothing else separates the two."""
    rng = np.random.default_rng(1)
    keen, dull = paired(rng, 1500, 0.11), paired(rng, 1500, 0.09)

    plain = ratio_difference(keen.during, dull.during)
    adjusted = cuped(keen, dull)

    assert plain.relative.value < -0.15
    assert abs(adjusted.change.value) < 0.3 * abs(log(1 + plain.relative.value))
    assert adjusted.variance_kept < 0.6


def test_the_change_is_the_plain_one_less_the_slope_times_the_one_before():
    rng = np.random.default_rng(2)
    a, b = paired(rng, 500, 0.1), paired(rng, 400, 0.1, lift=0.2)
    found = cuped(a, b)

    plain, before = log_change(a.during, b.during), log_change(a.before, b.before)
    assert found.change.value == pytest.approx(plain.value - found.slope * before.value)
    assert 0 < found.slope < 1.5


@given(st.integers(0, 2**32 - 1))
def test_the_slope_is_the_one_with_the_least_variance(seed):
    """But for what leaving a heavy cluster out of the slope adds, which is little."""
    rng = np.random.default_rng(seed)
    a, b = paired(rng, 300, 0.1), paired(rng, 100, 0.1)
    found = cuped(a, b)

    assert 0 < found.variance_kept < 1.5
    plain = log_change(a.during, b.during)
    assert found.change.error == pytest.approx(plain.error * found.variance_kept**0.5)


def test_a_period_before_of_other_users_changes_nothing_but_the_degrees_of_freedom():
    rng = np.random.default_rng(3)
    one, two, three, four = (shoppers(rng, 3000, 0.1).period(rng) for _ in range(4))
    a, b = Paired(before=one, during=two), Paired(before=three, during=four)

    assert cuped(a, b).slope == pytest.approx(0, abs=0.1)
    assert cuped(a, b).variance_kept == pytest.approx(1, abs=0.02)


COVERAGE = [(0.005, 0.0), (0.005, 0.3), (0.05, 0.0), (0.3, 0.3)]


@pytest.mark.parametrize(("ctr", "lift"), COVERAGE)
def test_both_intervals_cover_the_truth_with_a_strong_covariate(ctr, lift):
    """Growthbook's relative CUPED interval was too narrow (#3610). 200 runs, 3 standard errors."""
    rng, runs = np.random.default_rng(4), 200
    relative = absolute = 0
    for _ in range(runs):
        control, treatment = paired(rng, 1000, ctr), paired(rng, 1000, ctr, lift=lift)
        effect = cuped_difference(control, treatment)
        relative += effect.relative.low <= lift <= effect.relative.high
        absolute += effect.absolute.low <= ctr * lift <= effect.absolute.high

    assert relative / runs == pytest.approx(0.95, abs=slack(0.95, runs))
    assert absolute / runs == pytest.approx(0.95, abs=slack(0.95, runs) + 0.01)


def test_the_promised_error_is_the_spread_of_the_estimates():
    rng = np.random.default_rng(5)
    found = [cuped(paired(rng, 600, 0.1), paired(rng, 600, 0.1)) for _ in range(250)]

    spread = np.std([adjusted.change.value for adjusted in found])
    promised = np.sqrt(np.mean([adjusted.change.error**2 for adjusted in found]))
    assert spread == pytest.approx(promised, rel=3 / np.sqrt(2 * 250))


def test_an_adjusted_comparison_can_be_read_at_any_time():
    rng = np.random.default_rng(6)
    control, treatment = paired(rng, 2000, 0.1), paired(rng, 2000, 0.1, lift=0.1)
    once = cuped_difference(control, treatment)
    always = always_valid_cuped_difference(control, treatment)

    assert always.relative.value == once.relative.value
    assert always.relative.low < once.relative.low
    assert always.p_value > once.p_value
    without = ratio_difference(control.during, treatment.during)
    assert once.detectable < 0.8 * without.detectable


def test_new_users_do_no_harm():
    """Half of the users came after the period before."""
    rng = np.random.default_rng(7)

    def joined() -> Paired:
        old, new = paired(rng, 500, 0.1), shoppers(rng, 500, 0.1, per_period=20).period(rng)
        return Paired(
            before=old.before,
            during=RatioSample(
                old.during.numerator + new.numerator, old.during.denominator + new.denominator
            ),
        )

    covered = 0
    for _ in range(150):
        effect = cuped_difference(joined(), joined())
        covered += effect.relative.low <= 0 <= effect.relative.high
    assert covered / 150 == pytest.approx(0.95, abs=slack(0.95, 150))


def test_without_a_period_before_it_says_so():
    rng = np.random.default_rng(8)
    full = paired(rng, 100, 0.1)
    nothing = RatioSample(np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64))

    with pytest.raises(NotEnoughData, match="before the experiment: no impressions yet"):
        cuped(full, Paired(before=nothing, during=full.during))
    with pytest.raises(NotEnoughData, match=r"^no impressions yet"):
        cuped(full, Paired(before=full.before, during=nothing))
    with pytest.raises(NotEnoughData, match="explains every difference"):
        cuped(*[Paired(before=full.during, during=full.during)] * 2)


def test_periods_must_have_the_same_clusters():
    full = paired(np.random.default_rng(9), 100, 0.1)
    short = RatioSample(full.before.numerator[:-1], full.before.denominator[:-1])

    with pytest.raises(ValueError, match="the same clusters"):
        cuped(full, Paired(before=short, during=full.during))
