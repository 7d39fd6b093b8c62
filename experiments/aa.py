"""How often our own tests find a difference where there is none.

In an A/A phase everybody is served the same, so every difference that a test
finds is a mistake of the test. One A/A comparison makes one mistake or none;
the cells of its units can be dealt into two halves again and again, and each
deal is another A/A comparison on the service's own traffic, with its own heavy
users and its own click rates. Cells of units stand for users who arrive one
after another, so a deal can also be looked at while it grows.

What this cannot see: dependence between units of different cells, since it is
the deal that makes the halves independent.

Source:
    Kohavi, Tang, Xu (2020), "Trustworthy Online Controlled Experiments",
    chapter 19 (A/A tests, and simulating them from one).
"""

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy import special

from experiments.stats import Interval, NotEnoughData
from experiments.stats.estimate import p_value
from experiments.stats.ratio import RatioSample, log_change
from experiments.stats.sequential import always_valid_p

MINIMUM_CELLS = 100
"""Filled cells below which a deal has too few units to be a comparison."""

Test = Literal["fixed", "fixed, peeking", "always-valid, peeking", "impressions, naive"]
Counts = npt.NDArray[np.int64]


class FalsePositives(Struct, frozen=True, kw_only=True):
    """How often one test was wrong."""

    test: Test
    """Read once at the end, or at every look and stopped at the first find; the naive one
    takes impressions for independent."""
    found: int
    """Deals in which it found a difference."""
    rate: Interval
    """The share of the deals, with its exact binomial interval."""


class SelfCheck(Struct, frozen=True, kw_only=True):
    """The false-positive rates of our tests on the data of an A/A phase."""

    deals: int
    looks: int
    """How often each deal was looked at by the tests that peek."""
    alpha: float
    """The rate that a test promises to stay within."""
    cells: int
    """Groups of units that were dealt."""
    tests: tuple[FalsePositives, ...]

    def of(self, test: Test) -> FalsePositives:
        return next(found for found in self.tests if found.test == test)


def self_check(
    samples: Iterable[RatioSample],
    *,
    deals: int = 400,
    looks: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> SelfCheck:
    """Deal the cells of an A/A phase into halves and count what each test finds.

    Args:
        samples: Clicks over impressions by cell, of each variant; all of one length.
        deals: Each costs some ``looks`` tests of 0.1 ms.
        looks: Equally spaced, the last at the end.
        confidence: Of the tests.
        seed: The same seed deals the same.

    Raises:
        NotEnoughData: fewer than 100 cells have impressions, or there are no clicks.
    """
    clicks, impressions = _filled(tuple(samples))
    random = np.random.default_rng(seed)
    alpha, half = 1 - confidence, len(clicks) // 2
    found = dict.fromkeys(_TESTS, 0)
    for _ in range(deals):
        order = random.permutation(len(clicks))
        halves = tuple(
            RatioSample(clicks[part], impressions[part])
            for part in (order[:half], order[half : 2 * half])
        )
        for test in _finds(halves[0], halves[1], looks, alpha):
            found[test] += 1
    return SelfCheck(
        deals=deals,
        looks=looks,
        alpha=alpha,
        cells=len(clicks),
        tests=tuple(
            FalsePositives(test=test, found=count, rate=binomial_interval(count, deals))
            for test, count in found.items()
        ),
    )


def binomial_interval(found: int, tried: int, *, confidence: float = 0.95) -> Interval:
    """A share with its exact interval (Clopper, Pearson (1934), Biometrika 26)."""
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(found, tried - found + 1, tail)) if found else 0.0
    high = float(special.betaincinv(found + 1, tried - found, 1 - tail)) if found < tried else 1.0
    return Interval(found / tried, low, high)


_TESTS: tuple[Test, ...] = (
    "fixed",
    "fixed, peeking",
    "always-valid, peeking",
    "impressions, naive",
)


def _filled(samples: Sequence[RatioSample]) -> tuple[Counts, Counts]:
    """Clicks and impressions of the cells that have some; a cell of each variant is one."""
    clicks = np.concatenate([sample.numerator for sample in samples]).astype(np.int64)
    impressions = np.concatenate([sample.denominator for sample in samples]).astype(np.int64)
    seen = impressions > 0
    if seen.sum() < MINIMUM_CELLS:
        raise NotEnoughData(f"{seen.sum()} of {MINIMUM_CELLS} cells have impressions")
    if not clicks.any():
        raise NotEnoughData("no clicks yet")
    return clicks[seen], impressions[seen]


def _finds(one: RatioSample, other: RatioSample, looks: int, alpha: float) -> set[Test]:
    """Which tests find a difference between two halves of the same."""
    found: set[Test] = set()
    size = len(one.numerator)
    for look in range(1, looks + 1):
        end = size * look // looks
        try:
            change = log_change(_first(one, end), _first(other, end))
        except NotEnoughData:
            continue  # no clicks in one of them so far: nobody can claim anything
        if p_value(change) < alpha:
            found.add("fixed, peeking")
            if look == looks:
                found.add("fixed")
        if always_valid_p(change, confidence=1 - alpha) < alpha:
            found.add("always-valid, peeking")
    if _naive_p(one, other) < alpha:
        found.add("impressions, naive")
    return found


def _first(sample: RatioSample, cells: int) -> RatioSample:
    return RatioSample(sample.numerator[:cells], sample.denominator[:cells])


def _naive_p(one: RatioSample, other: RatioSample) -> float:
    """The two-proportion z-test on impressions: wrong where units are split, shown to compare."""
    clicks = float(one.numerator.sum() + other.numerator.sum())
    shown = [float(sample.denominator.sum()) for sample in (one, other)]
    pooled = clicks / sum(shown)
    error = sqrt(pooled * (1 - pooled) * (1 / shown[0] + 1 / shown[1]))
    if error == 0:
        return 1.0
    return float(2 * special.ndtr(-abs(one.ratio - other.ratio) / error))
