"""What an estimate says if it is read once: intervals and p-values at a fixed horizon.

Who looks again and again until something is significant finds something in equal
variants as well: use `experiments.stats.sequential` for that.

Source:
    Welch (1947), "The generalization of Student's problem when several different
    population variances are involved", Biometrika 34 (degrees of freedom of a difference).
"""

from math import expm1, isinf, log, sqrt

from scipy import special

from experiments.stats import Estimate, Interval, NotEnoughData


def interval(estimate: Estimate, *, confidence: float = 0.95) -> Interval:
    """The two-sided interval: Student's t, or normal if the degrees of freedom are infinite."""
    reach = quantile_of_t((1 + confidence) / 2, estimate.freedom) * estimate.error
    return Interval(estimate.value, estimate.value - reach, estimate.value + reach)


def p_value(estimate: Estimate, *, null: float = 0.0) -> float:
    """Two-sided: how often an estimate lies this far from ``null`` if that is the truth."""
    return 2 * tail(-abs(estimate.value - null) / estimate.error, estimate.freedom)


def one_sided_p(estimate: Estimate, *, null: float = 0.0) -> float:
    """How often an estimate lies this far above ``null`` if the truth is not above it."""
    return tail((null - estimate.value) / estimate.error, estimate.freedom)


def lower_bound(estimate: Estimate, *, confidence: float = 0.95) -> float:
    """The value that the truth is above with this confidence, one-sided."""
    return estimate.value - quantile_of_t(confidence, estimate.freedom) * estimate.error


def difference(control: Estimate, treatment: Estimate) -> Estimate:
    """Treatment minus control for independent estimates, with Welch's degrees of freedom.

    Its size is that of two equal samples with the same error: for 90 and 10 it is 36.
    """
    c, t = control.error**2, treatment.error**2
    return Estimate(
        value=treatment.value - control.value,
        error=sqrt(c + t),
        freedom=1 / ((c / (c + t)) ** 2 / control.freedom + (t / (c + t)) ** 2 / treatment.freedom)
        if not (isinf(control.freedom) and isinf(treatment.freedom))
        else control.freedom,
        size=4 / (1 / control.size + 1 / treatment.size),
    )


def relative(logarithm: Interval) -> Interval:
    """From an interval of ``log(treatment / control)`` to the change: treatment / control - 1.

    Raises:
        NotEnoughData: the change could be a billionfold.
    """
    return Interval(
        relative_change(logarithm.value),
        relative_change(logarithm.low),
        relative_change(logarithm.high),
    )


def relative_change(logarithm: float) -> float:
    """From ``log(treatment / control)`` to treatment / control - 1.

    Raises:
        NotEnoughData: it is a billionfold, as a bound can be that came far too early.
    """
    if logarithm > log(1e9):
        raise NotEnoughData("far too early: the change could still be a billionfold")
    return expm1(logarithm)


def turned(estimate: Estimate) -> Estimate:
    """The same with the sign turned: what was an increase is a decrease."""
    return Estimate(
        value=-estimate.value, error=estimate.error, freedom=estimate.freedom, size=estimate.size
    )


def quantile_of_t(share: float, freedom: float) -> float:
    """The t-quantile; the normal one for infinite degrees of freedom."""
    return float(special.ndtri(share) if isinf(freedom) else special.stdtrit(freedom, share))


def tail(t: float, freedom: float) -> float:
    """The probability of a value below ``t``."""
    return float(special.ndtr(t) if isinf(freedom) else special.stdtr(freedom, t))
