"""Less noise by what the same units did before: CUPED for a ratio of sums.

Users differ, and one variant gets somewhat keener ones than the other. How much keener
shows before the experiment: there, nothing separates the variants. What the variants
differed by before, times the slope of "during" on "before", is taken off what they
differ by now. The variance shrinks by the square of the correlation, so
that a correlation of 0.7 is worth twice the users.

The period before is the experiment's phase ``aa``: units are drawn into the same variants
and counted, and everybody is served alike. Cells make pairs: cell ``i`` holds the same
units in both periods. Units that are new bring no information and do no harm.

Everything happens on the logarithm of the CTR. The relative effect is then a plain
difference whose variance is complete: the usual way, an adjusted difference divided by
a mean that is taken as known, covers too little (growthbook #3610).

Source:
    Deng, Xu, Kohavi, Walker (2013), "Improving the Sensitivity of Online Controlled
    Experiments by Utilizing Pre-Experiment Data", WSDM (CUPED, section 3; ratios by
    their linearisation, appendix B).
"""

from math import log, sqrt

import numpy as np
from msgspec import Struct

from experiments.stats import ROUNDING, Estimate, NotEnoughData
from experiments.stats.effect import Effect, compare, compare_always
from experiments.stats.estimate import difference
from experiments.stats.ratio import LeftOut, RatioSample, as_estimate, left_out
from experiments.stats.sequential import TUNING, effective_size


class Paired(Struct, frozen=True, kw_only=True):
    """One variant in two periods; cluster ``i`` of both holds the same units."""

    before: RatioSample
    during: RatioSample


class Adjusted(Struct, frozen=True, kw_only=True):
    """The two variants' CTRs, as logarithms, without what separated them before."""

    control: Estimate
    treatment: Estimate
    slope: float
    """How much of a difference before is found again during the experiment (theta)."""
    variance_kept: float
    """Variance of the change over the one without adjustment: 0.5 is worth twice the users."""

    @property
    def change(self) -> Estimate:
        """The logarithm of treatment over control."""
        return difference(self.control, self.treatment)


def cuped(control: Paired, treatment: Paired) -> Adjusted:
    """Adjust both variants by the period before.

    Raises:
        NotEnoughData: one of the four samples has no standard error.
        ValueError: a sample differs in its clusters from the one it is paired with.
    """
    c, t = _pulls(control), _pulls(treatment)
    before = _product(c[1], c[1]) + _product(t[1], t[1])
    slope = (_product(*c) + _product(*t)) / before
    level = _level(control.before, treatment.before)
    adjusted = [_adjusted(arm, slope, before, level) for arm in (c, t)]
    plain = _product(c[0], c[0]) + _product(t[0], t[0])
    return Adjusted(
        control=adjusted[0],
        treatment=adjusted[1],
        slope=slope,
        variance_kept=(adjusted[0].error ** 2 + adjusted[1].error ** 2) / plain,
    )


def cuped_difference(control: Paired, treatment: Paired, *, confidence: float = 0.95) -> Effect:
    """Compare the adjusted CTRs, absolutely and relatively; to be read once.

    Raises:
        NotEnoughData: one of the four samples has no standard error.
        ValueError: a sample differs in its clusters from the one it is paired with.
    """
    both = cuped(control, treatment)
    return compare(both.control, both.treatment, confidence=confidence)


def always_valid_cuped_difference(
    control: Paired, treatment: Paired, *, confidence: float = 0.95, tuning: float = TUNING
) -> Effect:
    """The same, to be read as often as one likes; the period before must be over.

    Raises:
        NotEnoughData: one of the four samples has no standard error, or it is far too early.
        ValueError: a sample differs in its clusters from the one it is paired with.
    """
    both = cuped(control, treatment)
    return compare_always(both.control, both.treatment, confidence=confidence, tuning=tuning)


def _pulls(arm: Paired) -> tuple[LeftOut, LeftOut]:
    """During and before."""
    if arm.before.denominator.shape != arm.during.denominator.shape:
        raise ValueError("the two periods of a variant must have the same clusters")
    during = left_out(arm.during)
    as_estimate(during)
    try:
        before = left_out(arm.before)
        as_estimate(before)
    except NotEnoughData as missing:
        raise NotEnoughData(f"before the experiment: {missing}") from missing
    return during, before


def _product(one: LeftOut, other: LeftOut) -> float:
    """The covariance of two logarithms of one arm."""
    return float(np.sum(one.pulls * other.pulls))


def _level(control: RatioSample, treatment: RatioSample) -> float:
    """The logarithm of both variants' CTR together, before."""
    clicks = control.numerator.sum() + treatment.numerator.sum()
    return log(float(clicks) / float(control.denominator.sum() + treatment.denominator.sum()))


def _adjusted(
    arm: tuple[LeftOut, LeftOut], slope: float, variance_before: float, level: float
) -> Estimate:
    during, before = arm
    # A cluster that was heavy before pulls the slope towards itself, and what is then left of
    # it looks too small: leave it out of the slope as well.
    kept = 1 - before.pulls**2 / variance_before
    pulls = (during.pulls - slope * before.pulls) / kept
    error = sqrt(float(np.sum(pulls**2)))
    if error < ROUNDING:
        raise NotEnoughData("the period before explains every difference between the units")
    return Estimate(
        value=during.log_ratio - slope * (before.log_ratio - level),
        error=error,
        # One degree of freedom goes into the slope.
        freedom=min(during.effective, before.effective) - 2,
        size=effective_size(error) / 4,
    )
