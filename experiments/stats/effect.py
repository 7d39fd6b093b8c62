"""What a treatment changes, absolutely and relatively, from two logarithms of ratios.

The relative effect is a Welch test on the logarithms; the absolute interval is put
together from the intervals of the two ratios (Zou, Donner), which keeps their skew.

Source:
    Zou, Donner (2008), "Construction of confidence limits about effect measures: a
    general approach", Statistics in Medicine 27 (difference from two intervals).
"""

from math import exp, hypot

from msgspec import Struct

from experiments.stats import Estimate, Interval
from experiments.stats.estimate import (
    difference,
    interval,
    p_value,
    quantile_of_t,
    relative,
    relative_change,
)
from experiments.stats.sequential import TUNING, always_valid_interval, always_valid_p, reach


class Effect(Struct, frozen=True):
    """How a treatment's ratio differs from the control's."""

    absolute: Interval
    """Treatment minus control, as a fraction (0.01 is one percentage point of CTR)."""
    relative: Interval
    """Treatment over control, minus 1 (0.05 is five percent more)."""
    p_value: float
    """Two-sided, of the relative effect: below ``1 - confidence`` if and only if
    `relative` excludes 0."""
    detectable: float
    """The relative increase that a sample of this size finds 8 times in 10."""


def compare(control: Estimate, treatment: Estimate, *, confidence: float = 0.95) -> Effect:
    """Compare two ratios, given as independent estimates of their logarithms; to be read once.

    Args:
        control: `ratio.log_ratio` of the control, or what `cuped` made of it.
        treatment: The same of the treatment.
        confidence: Two-sided coverage, in ``(0, 1)``.
    """
    change = difference(control, treatment)
    return Effect(
        absolute=_absolute(
            level(control, confidence=confidence), level(treatment, confidence=confidence)
        ),
        relative=relative(interval(change, confidence=confidence)),
        p_value=p_value(change),
        detectable=_detectable(change, quantile_of_t((1 + confidence) / 2, change.freedom)),
    )


def compare_always(
    control: Estimate, treatment: Estimate, *, confidence: float = 0.95, tuning: float = TUNING
) -> Effect:
    """The same, to be read as often as one likes: see `experiments.stats.sequential`.

    `Effect.p_value` and both intervals hold at all looks at once; `Effect.detectable` is
    the increase that a reader who looks only now would find 8 times in 10.

    Raises:
        NotEnoughData: far too early; there is no finite interval.
    """
    change = difference(control, treatment)

    def far(estimate: Estimate) -> float:
        # All run on the clock of the difference: each ratio on its own clock would give
        # two intervals that together are not the interval of the difference.
        on_one_clock = Estimate(
            value=estimate.value,
            error=estimate.error,
            freedom=estimate.freedom,
            size=change.size,
        )
        return reach(on_one_clock, confidence=confidence, tuning=tuning)

    return Effect(
        absolute=_absolute(_around(control, far(control)), _around(treatment, far(treatment))),
        relative=relative(always_valid_interval(change, confidence=confidence, tuning=tuning)),
        p_value=always_valid_p(change, confidence=confidence, tuning=tuning),
        detectable=_detectable(change, far(change)),
    )


def level(log_ratio: Estimate, *, confidence: float = 0.95) -> Interval:
    """The ratio itself with its interval, from its logarithm; to be read once."""
    return _around(log_ratio, quantile_of_t((1 + confidence) / 2, log_ratio.freedom))


def level_always(
    log_ratio: Estimate, *, confidence: float = 0.95, tuning: float = TUNING / 2
) -> Interval:
    """The same, to be read as often as one likes; by itself, and not against another ratio.

    The tuning is half of a comparison's, which counts the clicks of both variants.

    Raises:
        NotEnoughData: far too early; there is no finite interval.
    """
    return _around(log_ratio, reach(log_ratio, confidence=confidence, tuning=tuning))


def _around(log_ratio: Estimate, far: float) -> Interval:
    """The interval of a ratio, so many standard errors around its logarithm."""
    ratio, half = exp(log_ratio.value), far * log_ratio.error
    up = 1 + relative_change(half)
    return Interval(ratio, ratio / up, ratio * up)


def _absolute(control: Interval, treatment: Interval) -> Interval:
    value = treatment.value - control.value
    below = hypot(treatment.value - treatment.low, control.high - control.value)
    above = hypot(treatment.high - treatment.value, control.value - control.low)
    return Interval(value, value - below, value + above)


def _detectable(change: Estimate, far: float) -> float:
    """The relative increase that is found 8 times in 10 with a bound so many errors away."""
    return relative_change((far + quantile_of_t(0.8, change.freedom)) * change.error)
