"""Intervals and p-values that may be read at any time, as often as one likes.

A fixed-horizon test that is read ten times calls one in five pairs of equal variants
different, and a rollout reads every few seconds. An asymptotic confidence sequence
covers the truth at all times at once, with the stated confidence, at the price of an
interval that is 1.5 to 2 times as wide. The p-values stay below ``alpha`` at any time
with probability ``alpha`` at most; intervals exclude a value if and only if its p is
below ``1 - confidence``.

**The clock.** The sequence watches a mean of ``n`` observations with variance ``sigma^2``
and needs of ``n`` only ``n / N*``: what counts is that ``error^2`` falls like ``1 / n``, so
that estimate times ``n`` moves like a Brownian motion. Neither users nor impressions do
that for a CTR: users come back, and impressions of one user resemble each other. So the
clock of a logarithm of ratios is what its standard error says, `effective_size`:
``n = 4 / error^2``, the clicks in both variants together that independent impressions
would need for this error. It is the information clock of group-sequential trials
(Jennison, Turnbull): estimates of growing information have independent increments in it;
where users come back they are more alike than that, and cross a bound less often.
``python -m tests.bench statistics`` shows it with returning, arriving and heavy users.

**The tuning** ``N*`` is where the interval is tightest. Twenty times later it is 10 %
wider than it could have been, ten times earlier 27 %; so rather too small than too large.
The default finds changes of about 8 %; `tuning_for` finds the one for a smaller change.
Choose it before the data.

**Few units.** The sequence is for normal estimates. Where the standard error itself is
uncertain, the bound is moved to the point of Student's t that has the same tail.

Source:
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2021), "Time-uniform central limit theory
    and asymptotic confidence sequences", Annals of Statistics 52 (2024); arXiv:2103.06476v7:
    equation 9 (interval), 155 (p), 161 (rho), 134 (one-sided).
    Jennison, Turnbull (2000), "Group Sequential Methods", section 3.5 and chapter 11.
"""

from math import exp, expm1, isinf, log, log1p, sqrt

from scipy import special

from experiments.stats import Estimate, Interval, NotEnoughData
from experiments.stats.estimate import tail

TUNING = 5000.0
"""The size at which intervals are tightest, for a logarithm effective clicks of both variants
together: a standard error of 2.8 %. It is also the default of GrowthBook."""


def effective_size(error: float) -> float:
    """The clock of a change on the logarithm, from its standard error.

    The clicks of two equal variants together that have this error if impressions are
    independent and clicks rare: the variance is then ``1 / clicks`` of each.
    """
    return 4 / error**2


def always_valid_interval(
    estimate: Estimate, *, confidence: float = 0.95, tuning: float = TUNING
) -> Interval:
    """The interval that covers the truth at every look at once, two-sided.

    Args:
        estimate: Where it stands now.
        confidence: That the truth is never outside, in ``(0, 1)``.
        tuning: The size at which to be tightest, chosen before the data.

    Raises:
        NotEnoughData: far too early; there is no finite interval.
    """
    half = reach(estimate, confidence=confidence, tuning=tuning) * estimate.error
    return Interval(estimate.value, estimate.value - half, estimate.value + half)


def always_valid_p(
    estimate: Estimate, *, null: float = 0.0, confidence: float = 0.95, tuning: float = TUNING
) -> float:
    """Two-sided p-value that may be read at every look.

    ``confidence`` enters through the tuning alone: it makes this p and the interval of
    the same confidence say the same.
    """
    grown = _grown(estimate, 1 - confidence, tuning)
    z = _as_normal((estimate.value - null) / estimate.error, estimate.freedom)
    return min(1.0, exp(log1p(grown) / 2 - grown / (grown + 1) * z**2 / 2))


def always_valid_lower_bound(
    estimate: Estimate, *, confidence: float = 0.95, tuning: float = TUNING
) -> float:
    """The value that the truth is above at every look at once, one-sided.

    Raises:
        NotEnoughData: far too early; there is no finite bound.
    """
    grown = _grown(estimate, 2 * (1 - confidence), tuning)
    z = sqrt(2 * (1 + 1 / grown) * log1p(sqrt(grown + 1) / (2 * (1 - confidence))))
    return estimate.value - _as_t(z, estimate.freedom) * estimate.error


def always_valid_one_sided_p(
    estimate: Estimate, *, null: float = 0.0, confidence: float = 0.95, tuning: float = TUNING
) -> float:
    """The p-value of "the truth is not above ``null``" that may be read at every look."""
    grown = _grown(estimate, 2 * (1 - confidence), tuning)
    z = _as_normal((estimate.value - null) / estimate.error, estimate.freedom)
    evidence = grown / (grown + 1) * z**2 / 2
    if z <= 0 or evidence == 0:
        return 1.0
    # sqrt(grown + 1) / (2 (e^evidence - 1)), without an overflow for strong evidence
    return min(1.0, sqrt(grown + 1) / 2 * exp(-evidence) / -expm1(-evidence))


def reach(estimate: Estimate, *, confidence: float = 0.95, tuning: float = TUNING) -> float:
    """Half the width of the always-valid interval, in standard errors of the estimate.

    The fixed-horizon interval has 1.96 here; this is 3.0 at its best and grows slowly.

    Raises:
        NotEnoughData: far too early; there is no finite interval.
    """
    grown = _grown(estimate, 1 - confidence, tuning)
    z = sqrt((1 + 1 / grown) * (log1p(grown) - 2 * log(1 - confidence)))
    return _as_t(z, estimate.freedom)


def tuning_for(change: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The tuning that is tightest when a relative change of this size becomes detectable.

    Args:
        change: Relative to the control, such as 0.02 or -0.02, not 0.
        confidence: Of the interval that will be read.
        power: How often the change is to be found at that time.
    """
    if change == 0 or change <= -1:
        raise ValueError(f"a change must be above -1 and not 0, got {change}")
    best = reach(Estimate(value=0.0, error=1.0, size=1.0), confidence=confidence, tuning=1.0)
    return effective_size(abs(log1p(change)) / (best + float(special.ndtri(power))))


def _grown(estimate: Estimate, alpha: float, tuning: float) -> float:
    """``n rho^2`` of the paper: how far the clock has gone, with rho optimal at the tuning.

    ``alpha`` is twice the error of a one-sided bound. From 1 on there is no optimum.
    """
    if not 0 < alpha < 1 or not tuning > 0:
        raise ValueError(f"confidence {1 - alpha:g} or tuning {tuning:g} is out of range")
    return estimate.size / tuning * (-2 * log(alpha) + log(-2 * log(alpha) + 1))


def _as_t(z: float, freedom: float) -> float:
    """The point of Student's t with the tail of ``z`` in the normal."""
    point = z if isinf(freedom) else -float(special.stdtrit(freedom, float(special.ndtr(-z))))
    # A tail too small for a float comes back as infinity of either sign.
    if not 0 < point < exp(50):
        raise NotEnoughData("far too early for an interval that is always valid")
    return point


def _as_normal(t: float, freedom: float) -> float:
    """The normal point with the tail of ``t``, as a distance from 0 with its sign."""
    if isinf(freedom):
        return t
    distance = -float(special.ndtri(tail(-abs(t), freedom)))
    return distance if t > 0 else -distance
