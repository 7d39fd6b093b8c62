"""Shares of requests that went wrong: failed, degraded, or served by a fallback engine.

Such shares are small, often 0, and failures come in bursts that hit few units or many.
So intervals are Wilson's, which are right near 0 and never leave 0 to 1, on an effective
number of requests: the number divided by the design effect, which says how much more
the share varies between cells of units than independent requests would.

As long as nothing has gone wrong there is no design effect to see, and requests count
as independent: the upper end is then somewhat low if units send many requests each.

Source:
    Wilson (1927), "Probable inference, the law of succession, and statistical inference",
    JASA 22. Newcombe (1998), "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17 (method 10). Dean, Pagano (2015), "Evaluating
    confidence interval methods for binomial proportions in clustered surveys", Journal of
    Survey Statistics and Methodology 3 (Wilson on the effective sample size). Agresti,
    Coull (1998), The American Statistician 52 (the centre of `rate_estimate`).
"""

from math import hypot, sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy import special

from experiments.stats import Estimate, Interval, NotEnoughData
from experiments.stats.estimate import difference

Counts = npt.NDArray[np.int64]


class RateSample(Struct, frozen=True):
    """Per cluster of one variant, shapes ``[clusters]``; empty clusters do no harm."""

    events: Counts
    """Requests that went wrong."""
    requests: Counts
    """All requests, those included."""

    @property
    def rate(self) -> float:
        """
        Raises:
            NotEnoughData: there were no requests.
        """
        if not self.requests.any():
            raise NotEnoughData("no requests yet")
        return float(self.events.sum() / self.requests.sum())


def rate_interval(sample: RateSample, *, confidence: float = 0.95) -> Interval:
    """The rate with Wilson's interval on the effective number of requests; to be read once.

    Raises:
        NotEnoughData: there were no requests.
    """
    return wilson(sample.rate, effective_requests(sample), confidence=confidence)


def wilson(share: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """A share of so many independent trials with its score interval.

    Args:
        share: 0 to 1.
        trials: Above 0; need not be whole where they stand for dependent ones.
        confidence: Two-sided.
    """
    z = float(special.ndtri((1 + confidence) / 2))
    shrink = 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # Where nothing or everything went wrong the end is exactly there; rounding must not move it.
    return Interval(
        share,
        0.0 if share == 0 else max(0.0, middle - half),
        1.0 if share == 1 else min(1.0, middle + half),
    )


def rate_difference(
    control: RateSample, treatment: RateSample, *, confidence: float = 0.95
) -> Interval:
    """Treatment's rate minus the control's, absolute; to be read once.

    Raises:
        NotEnoughData: one of them had no requests.
    """
    c = rate_interval(control, confidence=confidence)
    t = rate_interval(treatment, confidence=confidence)
    value = t.value - c.value
    below = hypot(t.value - t.low, c.high - c.value)
    above = hypot(t.high - t.value, c.value - c.low)
    return Interval(value, value - below, value + above)


def rate_estimate(sample: RateSample) -> Estimate:
    """The rate for readers that look again and again, as `experiments.stats.sequential`.

    Drawn towards one half by two events and two non-events, so that no failure so far
    is not taken for a proof that there will be none.

    Raises:
        NotEnoughData: there were no requests.
    """
    rate, n = sample.rate, effective_requests(sample)
    drawn = (rate * n + 2) / (n + 4)
    return Estimate(value=drawn, error=sqrt(drawn * (1 - drawn) / (n + 4)), size=n + 4)


def rate_change(control: RateSample, treatment: RateSample) -> Estimate:
    """Treatment's rate minus the control's, absolute, for the same readers.

    Raises:
        NotEnoughData: one of them had no requests.
    """
    return difference(rate_estimate(control), rate_estimate(treatment))


def effective_requests(sample: RateSample) -> float:
    """How many independent requests would say as much."""
    return float(sample.requests.sum()) / design_effect(sample)


def design_effect(sample: RateSample) -> float:
    """Variance of the rate between clusters, over that of independent requests; at least 1."""
    rate = sample.rate
    total = float(sample.requests.sum())
    filled = sample.requests > 0
    clusters = int(filled.sum())
    if clusters < 2 or rate in (0.0, 1.0):
        return 1.0
    residual = sample.events[filled] - rate * sample.requests[filled]
    clustered = float(np.sum(residual**2)) * clusters / (clusters - 1) / total**2
    return max(1.0, clustered / (rate * (1 - rate) / total))
