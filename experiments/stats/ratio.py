"""Ratios of sums, such as CTR, when the units and not the impressions are random.

Impressions of one unit resemble each other, so a binomial interval on
impressions is too narrow: with heavy users it covers the truth 60 to 80 % of
the time instead of 95 % (`tests/experiments/stats/test_ratio.py` shows it).
The variance here comes from how the ratio differs between clusters: units, or
cells of units, which are as good because a unit is always in the same cell.

Three choices keep the coverage near 95 % from 20 units on, and change nothing
for many:

* a cluster's residual is divided by ``1 - h`` with ``h`` its share of the
  denominator. This is the delta method made exact by leaving one cluster out;
  it corrects for residuals that heavy clusters have pulled towards zero;
* degrees of freedom are ``1 / sum(h^2) - 1``: the effective number of clusters,
  not the number of cells, of which few may be filled and fewer matter;
* intervals are symmetric for the logarithm, since few clicks are skewed.

Source:
    Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics",
    KDD; arXiv:1803.06336 (clustered variance of a ratio). Cochran (1977),
    "Sampling Techniques", 3rd ed., sections 6.5 and 6.17 (jackknife of a ratio).

`experiments.stats.delta` has the textbook form without these choices.
"""

from math import log, sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.stats import ROUNDING, Estimate, Interval, NotEnoughData
from experiments.stats.effect import Effect, compare, compare_always, level, level_always
from experiments.stats.estimate import difference
from experiments.stats.sequential import TUNING, effective_size

MINIMUM_CLUSTERS = 5.0
"""Effective clusters that an interval needs. Ten units of which one has nearly all
impressions are as good as one."""

Sums = npt.NDArray[np.int64] | npt.NDArray[np.float64]


class RatioSample(Struct, frozen=True):
    """Totals per cluster of one variant, shapes ``[clusters]``; empty clusters do no harm."""

    numerator: Sums
    denominator: Sums

    @property
    def ratio(self) -> float:
        """Sum over sum.

        Raises:
            NotEnoughData: the denominator is zero.
        """
        total = float(self.denominator.sum())
        if total == 0:
            raise NotEnoughData("no impressions yet")
        return float(self.numerator.sum()) / total


class LeftOut(Struct, frozen=True):
    """How each cluster pulls at the logarithm of a ratio."""

    log_ratio: float
    pulls: npt.NDArray[np.float64]
    """Shape ``[clusters]``: how far the logarithm would be lower without the cluster, to first
    order; 0 for an empty one. Sums of their squares and products are variances and covariances."""
    effective: float
    """``1 / sum(h^2)``: how many equal clusters would be as good."""


def ratio_interval(sample: RatioSample, *, confidence: float = 0.95) -> Interval:
    """The ratio with an interval that treats clusters as the random units.

    Raises:
        NotEnoughData: no numerator, too few clusters, or none that differs.
    """
    return level(log_ratio(sample), confidence=confidence)


def always_valid_ratio(sample: RatioSample, *, confidence: float = 0.95) -> Interval:
    """The same, to be read as often as one likes (`experiments.stats.sequential`).

    Raises:
        NotEnoughData: no numerator, too few clusters, none that differs, or far too early.
    """
    return level_always(log_ratio(sample), confidence=confidence)


def ratio_difference(
    control: RatioSample, treatment: RatioSample, *, confidence: float = 0.95
) -> Effect:
    """Compare two ratios of sums, absolutely and relatively; to be read once.

    Args:
        control: Totals per cluster; clusters of the two samples are independent.
        treatment: The same for the other variant.
        confidence: Two-sided coverage, in ``(0, 1)``.

    Raises:
        NotEnoughData: one of the samples has no interval of its own.
    """
    return compare(log_ratio(control), log_ratio(treatment), confidence=confidence)


def always_valid_difference(
    control: RatioSample,
    treatment: RatioSample,
    *,
    confidence: float = 0.95,
    tuning: float = TUNING,
) -> Effect:
    """The same comparison, to be read as often as one likes (`experiments.stats.sequential`).

    Raises:
        NotEnoughData: one of the samples has no interval of its own, or it is far too early.
    """
    return compare_always(
        log_ratio(control), log_ratio(treatment), confidence=confidence, tuning=tuning
    )


def log_ratio(sample: RatioSample) -> Estimate:
    """The logarithm of a ratio.

    Its size are the clicks that would say as much if impressions were independent.

    Raises:
        NotEnoughData: no numerator, too few clusters, or none that differs.
    """
    return as_estimate(left_out(sample))


def log_change(control: RatioSample, treatment: RatioSample) -> Estimate:
    """The logarithm of treatment over control, as the readers of estimates take it.

    Raises:
        NotEnoughData: one of the samples has no standard error.
    """
    return difference(log_ratio(control), log_ratio(treatment))


def as_estimate(sample: LeftOut) -> Estimate:
    """The logarithm of a ratio with its error from how the clusters pull.

    Raises:
        NotEnoughData: too few clusters, or none that differs.
    """
    if sample.effective < MINIMUM_CLUSTERS:
        raise NotEnoughData(f"{sample.effective:.1f} of {MINIMUM_CLUSTERS:.0f} effective units")
    error = sqrt(float(np.sum(sample.pulls**2)))
    if error < ROUNDING:
        raise NotEnoughData("all units have the same CTR so far")
    return Estimate(
        value=sample.log_ratio,
        error=error,
        freedom=sample.effective - 1,
        size=effective_size(error) / 4,
    )


def left_out(sample: RatioSample) -> LeftOut:
    """Leave out one cluster at a time.

    Raises:
        NotEnoughData: no numerator or no denominator.
    """
    ratio = sample.ratio
    if ratio == 0:
        raise NotEnoughData("no clicks yet")
    x, y = sample.numerator.astype(np.float64), sample.denominator.astype(np.float64)
    weight = y / y.sum()
    effective, filled = 1 / float(np.sum(weight**2)), int(np.sum((x > 0) | (y > 0)))
    # A single cluster has weight 1 and cannot be left out; what it pulls is not defined.
    rest = np.where(weight < 1, 1 - weight, np.inf)
    pulls = sqrt((filled - 1) / filled) * (x / ratio - y) / rest / y.sum()
    return LeftOut(log(ratio), pulls, effective)
