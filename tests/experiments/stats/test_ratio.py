"""CTR intervals: against other libraries, against definitions, and against known truths."""

from math import exp, log, sqrt

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.stats import NotEnoughData
from experiments.stats.ratio import (
    RatioSample,
    always_valid_ratio,
    ratio_difference,
    ratio_interval,
)
from experiments.variant_statistics import CELLS


def shoppers(
    rng: np.random.Generator, users: int, ctr: float, *, heavy: float = 1.0
) -> RatioSample:
    """Totals per user: log-normal activity, a taste of one's own, so clicks are correlated."""
    rate = rng.lognormal(log(10) - heavy**2 / 2, heavy, users)
    impressions = 1 + rng.poisson(rate)
    concentration = 20 if ctr > 0.01 else 100
    taste = rng.beta(ctr * concentration, (1 - ctr) * concentration, users)
    return RatioSample(rng.binomial(impressions, taste), impressions)


def in_cells(rng: np.random.Generator, sample: RatioSample) -> RatioSample:
    """The same totals by cell, which is all that the service keeps."""
    cell = rng.integers(0, CELLS, len(sample.numerator))
    return RatioSample(
        np.bincount(cell, sample.numerator, CELLS), np.bincount(cell, sample.denominator, CELLS)
    )


def binomial_width(sample: RatioSample) -> float:
    p, n = sample.ratio, float(sample.denominator.sum())
    return 2 * 1.96 * sqrt(p * (1 - p) / n)


def clustered_fit(samples: list[RatioSample]):
    """statsmodels: regression of clicks on the variant, impression by impression."""
    clicks, variant, unit = [], [], []
    for at, sample in enumerate(samples):
        for user, (x, y) in enumerate(zip(sample.numerator, sample.denominator, strict=True)):
            clicks += [1] * int(x) + [0] * int(y - x)
            variant += [at] * int(y)
            unit += [at * 1_000_000 + user] * int(y)
    design = sm.add_constant(np.array(variant)) if len(samples) > 1 else np.ones(len(clicks))
    return sm.OLS(np.array(clicks), design).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(unit), "use_correction": False}
    )


def test_the_standard_error_is_the_cluster_robust_one_of_statsmodels():
    sample = shoppers(np.random.default_rng(1), 3000, 0.1)
    interval = ratio_interval(sample)

    fit = clustered_fit([sample])

    assert interval.value == pytest.approx(fit.params[0], rel=1e-9)
    half_width = interval.value * log(interval.high / interval.value)
    assert half_width / 1.96 == pytest.approx(fit.bse[0], rel=0.01)


def test_the_difference_and_its_p_value_are_those_of_statsmodels():
    rng = np.random.default_rng(2)
    samples = [shoppers(rng, 3000, 0.10), shoppers(rng, 3000, 0.106)]

    effect, fit = ratio_difference(*samples), clustered_fit(samples)

    assert effect.absolute.value == pytest.approx(fit.params[1], rel=1e-9)
    low, high = fit.conf_int()[1]
    assert effect.absolute.high - effect.absolute.low == pytest.approx(high - low, rel=0.01)
    assert effect.p_value == pytest.approx(fit.pvalues[1], rel=0.1)
    assert 0.001 < effect.p_value < 0.2  # a case in which a wrong variance would show


def test_the_variance_is_what_leaving_out_one_cluster_at_a_time_gives():
    sample = shoppers(np.random.default_rng(3), 40, 0.1)
    x, y, k = sample.numerator, sample.denominator, 40
    left_out = np.array([(x.sum() - x[j]) / (y.sum() - y[j]) for j in range(k)])
    error = sqrt((k - 1) / k * np.sum((left_out - sample.ratio) ** 2))
    share = y / y.sum()
    t = stats.t.ppf(0.975, 1 / np.sum(share**2) - 1)

    interval = ratio_interval(sample)

    assert interval.high == pytest.approx(sample.ratio * exp(t * error / sample.ratio))
    assert interval.low == pytest.approx(sample.ratio * exp(-t * error / sample.ratio))


COVERAGE_CASES = [
    (users, runs, ctr, heavy)
    for users, runs in ((20, 500), (100, 500), (1000, 300), (10_000, 100))
    for ctr in (0.005, 0.03, 0.3)
    for heavy in (1.0, 1.5)
] + [(50_000, 60, 0.03, 1.5)]


@pytest.mark.parametrize(("users", "runs", "ctr", "heavy"), COVERAGE_CASES)
def test_the_interval_covers_the_truth_whatever_the_number_of_users(users, runs, ctr, heavy):
    """From a few users in a few cells to fifty users a cell; nominal is 95 %.

    The bounds leave three standard errors of simulation noise around 93 to 98 %.
    """
    rng = np.random.default_rng(users)
    covered = usable = 0
    for _ in range(runs):
        try:
            interval = ratio_interval(in_cells(rng, shoppers(rng, users, ctr, heavy=heavy)))
        except NotEnoughData:
            continue
        usable += 1
        covered += interval.low <= ctr <= interval.high

    noise = 3 * sqrt(0.05 * 0.95 / usable)
    assert 0.93 - noise <= covered / usable <= 0.98 + noise


def test_the_always_valid_interval_covers_the_truth_at_every_look():
    """The page draws it every few seconds, and the one for one look is then wrong too often."""
    rng = np.random.default_rng(8)
    runs, ctr = 60, 0.1
    missed = {"always": 0, "once": 0}
    for _ in range(runs):
        everybody = shoppers(rng, 4000, ctr)
        outside = {"always": False, "once": False}
        for users in range(200, 4001, 200):
            seen = RatioSample(everybody.numerator[:users], everybody.denominator[:users])
            always, once = always_valid_ratio(seen), ratio_interval(seen)
            assert always.low < once.low < once.value < once.high < always.high
            outside["always"] |= not always.low <= ctr <= always.high
            outside["once"] |= not once.low <= ctr <= once.high
        for kind, was in outside.items():
            missed[kind] += was

    assert missed["always"] / runs <= 0.05
    assert missed["once"] / runs >= 0.2


def test_a_binomial_interval_would_miss_the_truth_far_too_often():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        sample = shoppers(rng, 1000, 0.3, heavy=1.5)
        covered += abs(sample.ratio - 0.3) <= binomial_width(sample) / 2

    assert covered / 300 < 0.75


def test_the_interval_is_wider_than_the_binomial_one():
    sample = shoppers(np.random.default_rng(5), 2000, 0.05)
    interval = ratio_interval(sample)

    assert interval.high - interval.low > 1.2 * binomial_width(sample)


def test_cells_lose_nothing_against_users():
    rng = np.random.default_rng(6)
    by_user = shoppers(rng, 20_000, 0.05)
    users, cells = ratio_interval(by_user), ratio_interval(in_cells(rng, by_user))

    assert cells.value == pytest.approx(users.value)
    assert cells.high - cells.low == pytest.approx(users.high - users.low, rel=0.1)


def test_showing_everything_twice_teaches_nothing_new():
    """A doubled log has no more users, so the interval must not shrink.

    A binomial interval on impressions would become 1.4 times narrower here.
    """
    rng = np.random.default_rng(7)
    a, b = shoppers(rng, 500, 0.10), shoppers(rng, 500, 0.11)
    doubled = [RatioSample(s.numerator * 2, s.denominator * 2) for s in (a, b)]

    once, twice = ratio_difference(a, b), ratio_difference(*doubled)

    assert twice.absolute.low == pytest.approx(once.absolute.low)
    assert twice.relative.high == pytest.approx(once.relative.high)


@pytest.mark.parametrize(
    ("users", "other_users", "ctr"),
    [(30, 30, 0.3), (100, 100, 0.03), (900, 100, 0.03), (1000, 1000, 0.005), (1000, 1000, 0.3)],
)
@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_a_difference_covers_the_truth_also_with_a_small_arm(users, other_users, ctr, lift):
    rng = np.random.default_rng(users)
    usable = absolute = relative = 0
    while usable < 300:
        control = in_cells(rng, shoppers(rng, users, ctr))
        treatment = in_cells(rng, shoppers(rng, other_users, ctr * (1 + lift)))
        try:
            effect = ratio_difference(control, treatment)
        except NotEnoughData:  # one of thirty users has nearly all impressions
            continue
        usable += 1
        absolute += effect.absolute.low <= ctr * lift <= effect.absolute.high
        relative += effect.relative.low <= lift <= effect.relative.high

    assert 0.92 <= absolute / usable <= 0.99
    assert 0.92 <= relative / usable <= 0.99


def test_equal_variants_are_called_different_one_time_in_twenty():
    rng = np.random.default_rng(8)
    p_values = [
        ratio_difference(shoppers(rng, 400, 0.05), shoppers(rng, 400, 0.05)).p_value
        for _ in range(1000)
    ]

    assert 0.03 <= np.mean(np.array(p_values) < 0.05) <= 0.07
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_the_detectable_increase_is_found_eight_times_in_ten():
    rng = np.random.default_rng(9)
    detectable = np.median(
        [
            ratio_difference(shoppers(rng, 600, 0.05), shoppers(rng, 600, 0.05)).detectable
            for _ in range(50)
        ]
    )
    found = [
        ratio_difference(
            shoppers(rng, 600, 0.05), shoppers(rng, 600, 0.05 * (1 + detectable))
        ).p_value
        < 0.05
        for _ in range(500)
    ]

    assert 0.75 <= np.mean(found) <= 0.87


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.5), st.floats(-0.5, 1.0))
def test_p_and_relative_interval_say_the_same(seed, ctr, lift):
    rng = np.random.default_rng(seed)
    try:
        effect = ratio_difference(
            shoppers(rng, 50, ctr), shoppers(rng, 50, min(ctr * (1 + lift), 0.9))
        )
    except NotEnoughData:
        return

    excludes_zero = effect.relative.low > 0 or effect.relative.high < 0
    assert excludes_zero == (effect.p_value < 0.05)
    assert effect.relative.low <= effect.relative.value <= effect.relative.high
    assert effect.absolute.low <= effect.absolute.value <= effect.absolute.high


def test_swapping_the_variants_turns_the_effect_around():
    rng = np.random.default_rng(10)
    a, b = shoppers(rng, 200, 0.1), shoppers(rng, 200, 0.12)
    there, back = ratio_difference(a, b), ratio_difference(b, a)

    assert back.absolute.low == pytest.approx(-there.absolute.high)
    assert 1 + back.relative.low == pytest.approx(1 / (1 + there.relative.high))
    assert back.p_value == pytest.approx(there.p_value)


def test_empty_cells_change_nothing():
    sample = shoppers(np.random.default_rng(11), 100, 0.1)
    padded = RatioSample(
        np.concatenate([sample.numerator, np.zeros(900, np.int64)]),
        np.concatenate([sample.denominator, np.zeros(900, np.int64)]),
    )

    assert ratio_interval(padded) == ratio_interval(sample)


def sums(clicks: list[int], impressions: list[int]) -> RatioSample:
    return RatioSample(np.array(clicks, np.int64), np.array(impressions, np.int64))


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (sums([], []), "no impressions yet"),
        (sums([0] * 9, [0] * 9), "no impressions yet"),
        (sums([0] * 9, [5] * 9), "no clicks yet"),
        (sums([3], [10]), r"1\.0 of 5 effective units"),
        (sums([3, 1, 0, 2], [10] * 4), r"4\.0 of 5 effective units"),
        (sums([900, 1, 0, 2, 0, 1], [9000, 2, 2, 2, 2, 2]), r"1\.0 of 5 effective units"),
        (sums([1] * 9, [5] * 9), "all units have the same CTR"),
        (sums([1, 2], [0, 0]), "no impressions yet"),
    ],
)
def test_too_little_data_says_what_is_missing(sample, says):
    enough = shoppers(np.random.default_rng(12), 100, 0.1)

    with pytest.raises(NotEnoughData, match=says):
        ratio_interval(sample)
    with pytest.raises(NotEnoughData, match=says):
        ratio_difference(enough, sample)
    with pytest.raises(NotEnoughData, match=says):
        ratio_difference(sample, enough)


def test_clicks_whose_impressions_were_lost_are_kept():
    sample = sums([2, 1, 0, 3, 1, 1, 2], [10, 9, 8, 11, 9, 10, 0])

    assert ratio_interval(sample).value == pytest.approx(10 / 57)


def test_more_clicks_than_impressions_is_a_ratio_all_the_same():
    assert ratio_interval(sums([3, 5, 4, 6, 4, 5], [2, 2, 3, 2, 3, 3])).value == pytest.approx(1.8)
