"""Our own tests on data without a difference: how often each finds one."""

import numpy as np
import pytest

from experiments.aa import binomial_interval, self_check
from experiments.stats import NotEnoughData
from experiments.stats.ratio import RatioSample

CELLS = 1024


def phase(seed, *, resemblance, users=20_000):
    """Two variants of an A/A phase; users see some 10 items, with click rates of their own.

    Args:
        resemblance: How alike a user's impressions are: 0 makes clicks independent.
    """
    random = np.random.default_rng(seed)
    shown = random.geometric(0.1, users)
    spread = 1e6 if resemblance == 0 else 1 / resemblance - 1
    rate = random.beta(0.05 * spread, 0.95 * spread, users)
    clicks = random.binomial(shown, rate)
    cell, variant = random.integers(0, CELLS, users), random.integers(0, 2, users)
    return [
        RatioSample(
            np.bincount(cell[variant == v], clicks[variant == v], CELLS).astype(np.int64),
            np.bincount(cell[variant == v], shown[variant == v], CELLS).astype(np.int64),
        )
        for v in (0, 1)
    ]


def test_on_clean_data_every_test_keeps_its_promise():
    found = self_check(phase(2, resemblance=0), deals=1000, looks=1)

    assert found.cells == pytest.approx(2 * CELLS, rel=0.01)
    for test in ("fixed", "impressions, naive"):
        assert found.of(test).rate.low < 0.05 < found.of(test).rate.high


def test_peeking_breaks_the_fixed_test_and_not_the_always_valid_one():
    found = self_check(phase(3, resemblance=0.15), deals=300, looks=20)

    assert found.of("fixed, peeking").rate.low > 0.10
    assert found.of("always-valid, peeking").rate.high < 0.05
    assert found.of("fixed").rate.value < found.of("fixed, peeking").rate.value


def test_impressions_that_resemble_each_other_fool_the_naive_test_alone():
    found = self_check(phase(4, resemblance=0.15), deals=1000, looks=1)

    assert found.of("impressions, naive").rate.low > 0.15
    assert found.of("fixed").rate.low < 0.05 < found.of("fixed").rate.high


def test_the_same_seed_deals_the_same():
    samples = phase(5, resemblance=0.1)

    assert self_check(samples, deals=50, seed=1) == self_check(samples, deals=50, seed=1)
    assert self_check(samples, deals=50, seed=1) != self_check(samples, deals=50, seed=2)


def test_too_little_data_says_what_is_missing():
    few = np.zeros(CELLS, np.int64)
    few[:99] = 10
    with pytest.raises(NotEnoughData, match="99 of 100 cells"):
        self_check([RatioSample(few, few)])
    with pytest.raises(NotEnoughData, match="no clicks yet"):
        self_check([RatioSample(few * 0, np.ones(CELLS, np.int64))])


@pytest.mark.parametrize(
    ("found", "tried", "low", "high"),
    [
        # R: binom.test(x, n)$conf.int
        (0, 20, 0.0, 0.1684335),
        (5, 100, 0.01643187, 0.1128349),
        (20, 20, 0.8315665, 1.0),
    ],
)
def test_the_binomial_interval_is_the_exact_one(found, tried, low, high):
    interval = binomial_interval(found, tried)

    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-6)
