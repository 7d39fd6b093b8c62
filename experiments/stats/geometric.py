"""Geometric means of latencies, when units and not requests are random.

A mean latency is what the slowest requests make of it; the mean of the logarithms is
what a typical request feels, and a ratio of two geometric means is "20 % faster" for all
of them alike. Requests of one unit resemble each other (the same candidates, the same
cached slates, the same surface), so the variance comes from how cells of units differ
and not from requests: `experiments.stats.ratio` tells why and how, for a ratio of sums.
Here the ratio is the sum of log latencies over the number of slates, on the logarithm
already.

Source:
    Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics",
    KDD; arXiv:1803.06336. Cochran (1977), "Sampling Techniques", 3rd ed., section 6.5.
    Kish (1965), "Survey Sampling", section 8.2 (design effect).
"""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.stats import Estimate, Interval, NotEnoughData
from experiments.stats.effect import Effect, compare, compare_always, level
from experiments.stats.estimate import difference
from experiments.stats.quantile import Counts, log_variance, size
from experiments.stats.ratio import MINIMUM_CLUSTERS
from experiments.stats.sequential import TUNING, effective_size

Floats = npt.NDArray[np.floating[Any]]


class LatencySample(Struct, frozen=True):
    """Totals per cluster of one variant, shapes ``[clusters]``; empty clusters do no harm."""

    log_sum: Floats
    """Sums of the natural logarithms of latencies in milliseconds."""
    slates: npt.NDArray[np.int64]


def log_mean(sample: LatencySample) -> Estimate:
    """The mean log latency, log milliseconds.

    Its clock is that of a ratio's logarithm, so that latency and CTR are read alike:
    `experiments.stats.sequential`.

    Raises:
        NotEnoughData: no slates, too few clusters, or none that differs.
    """
    pulls, mean, effective = _left_out(sample)
    if effective < MINIMUM_CLUSTERS:
        raise NotEnoughData(f"{effective:.1f} of {MINIMUM_CLUSTERS:.0f} effective units")
    error = sqrt(float(np.sum(pulls**2)))
    if error < _NO_DIFFERENCE:
        raise NotEnoughData("all units have the same latency so far")
    return Estimate(value=mean, error=error, freedom=effective - 1, size=effective_size(error) / 4)


def log_change(control: LatencySample, treatment: LatencySample) -> Estimate:
    """The logarithm of treatment over control, as the readers of estimates take it.

    Raises:
        NotEnoughData: one of the samples has no standard error.
    """
    return difference(log_mean(control), log_mean(treatment))


def geometric_mean(sample: LatencySample, *, confidence: float = 0.95) -> Interval:
    """The geometric mean in milliseconds; to be read once.

    Raises:
        NotEnoughData: the sample has no standard error.
    """
    return level(log_mean(sample), confidence=confidence)


def geometric_change(
    control: LatencySample, treatment: LatencySample, *, confidence: float = 0.95
) -> Effect:
    """Compare two geometric means, in milliseconds and relatively; to be read once.

    Raises:
        NotEnoughData: one of the samples has no standard error.
    """
    return compare(log_mean(control), log_mean(treatment), confidence=confidence)


def always_valid_geometric_change(
    control: LatencySample,
    treatment: LatencySample,
    *,
    confidence: float = 0.95,
    tuning: float = TUNING,
) -> Effect:
    """The same comparison, to be read as often as one likes (`experiments.stats.sequential`).

    Raises:
        NotEnoughData: one of the samples has no standard error, or it is far too early.
    """
    return compare_always(
        log_mean(control), log_mean(treatment), confidence=confidence, tuning=tuning
    )


def design_effect(sample: LatencySample, latencies: Counts) -> float:
    """By how much the mean log latency varies more than if requests were independent; at least 1.

    For `quantile.quantile_interval`, whose sketch knows nothing of units. That a request is
    above a quantile varies less between units than how long it takes, so intervals of
    quantiles that this widens are rather too wide than too narrow.

    Args:
        sample: Of the same slates as the sketch.
        latencies: Their sketch. Slates of a release that kept no cells may be in it besides.

    Returns:
        1 as long as the sample cannot tell.
    """
    try:
        error = log_mean(sample).error
    except NotEnoughData:
        return 1.0
    alone = log_variance(latencies) / int(sample.slates.sum()) if size(latencies) else 0.0
    return max(1.0, error**2 / alone) if alone > 0 else 1.0


_NO_DIFFERENCE = 1e-9
"""Log latencies are kept to a millionth; what differs by less is rounding."""


def _left_out(sample: LatencySample) -> tuple[Floats, float, float]:
    """How each cluster pulls at the mean, the mean, and the effective number of clusters."""
    filled = sample.slates > 0
    y = sample.slates[filled].astype(np.float64)
    if not len(y):
        raise NotEnoughData("no latencies yet")
    x, weight = sample.log_sum[filled], y / y.sum()
    mean = float(x.sum() / y.sum())
    # A single cluster has weight 1 and cannot be left out; what it pulls is not defined.
    rest = np.where(weight < 1, 1 - weight, np.inf)
    pulls = sqrt((len(y) - 1) / len(y)) * (x - mean * y) / rest / y.sum()
    return pulls, mean, 1 / float(np.sum(weight**2))
