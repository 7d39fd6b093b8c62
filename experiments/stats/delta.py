"""The textbook delta method for means and ratios of sums, from raw units.

What a statistics course, GrowthBook or tea-tasting computes, for notebooks and for
comparing with them: moments of units with ``n - 1``, Welch's degrees of freedom, relative
changes either on the logarithm or divided by the control's mean. A mean is a ratio whose
denominators are 1.

`experiments.stats.ratio` is what reports and rollouts use. It differs by the share of a
unit in the denominator (leave-one-out residuals) and by degrees of freedom that count
effective units. Both vanish with many units: with a thousand heavy-tailed users the errors
are 1 % apart, and theirs is the larger. With thirty the textbook's 95 % interval covers
only 88 % (``python -m tests.bench statistics`` measures both).

Source:
    Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics", KDD;
    arXiv:1803.06336. Deng, Xu, Kohavi, Walker (2013), WSDM (CUPED). Welch (1947).
"""

from math import inf, log, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.stats import ROUNDING, Estimate, NotEnoughData
from experiments.stats.ratio import RatioSample

Floats = npt.NDArray[np.float64]

Scale = Literal["absolute", "relative", "logarithm"]
"""Treatment minus control; that over the control; logarithm of treatment over control."""


class Moments(Struct, frozen=True, kw_only=True):
    """Means and covariances of units: numerator, denominator and, for CUPED, both before."""

    units: int
    mean: Floats
    """Shape ``[2]`` or ``[4]``."""
    covariance: Floats
    """Of one unit, divided by ``n - 1``; shape ``[2, 2]`` or ``[4, 4]``."""


def moments(sample: RatioSample, before: RatioSample | None = None) -> Moments:
    """The moments of a variant's units; unit ``i`` of both samples is the same.

    Raises:
        NotEnoughData: fewer than two units.
    """
    columns = [sample.numerator, sample.denominator]
    if before is not None:
        columns += [before.numerator, before.denominator]
    units = np.stack(columns).astype(np.float64)
    if units.shape[1] < 2:
        raise NotEnoughData(f"{units.shape[1]} of 2 units")
    return Moments(units=units.shape[1], mean=units.mean(axis=1), covariance=np.cov(units))


def ratio_of(units: Moments) -> Estimate:
    """Sum of numerators over sum of denominators; what was before plays no part.

    Raises:
        NotEnoughData: no denominator, or no unit differs.
    """
    value, variance = _level(units, 0.0, 0.0)
    return _estimate(value, variance, freedom=units.units - 1, size=units.units)


def change_of(control: Moments, treatment: Moments, *, scale: Scale = "relative") -> Estimate:
    """What the treatment changes, adjusted by CUPED if the moments reach back.

    Args:
        control: Moments of independent units.
        treatment: The same of the other variant.
        scale: Of the change. From the logarithm, `estimate.relative` leads back.

    Raises:
        NotEnoughData: no denominator, no numerator for a relative change, or no unit differs.
    """
    slope, before = _slope(_together(control, treatment))
    (c, v_c), (t, v_t) = _level(control, slope, before), _level(treatment, slope, before)
    if scale != "absolute" and min(c, t) <= 0:
        raise NotEnoughData("no clicks yet")
    freedom = _welch(v_c, control.units, v_t, treatment.units)
    value, variance = t - c, v_c + v_t
    if scale == "relative":
        value, variance = t / c - 1, v_t / c**2 + v_c * t**2 / c**4
    if scale == "logarithm":
        value, variance = log(t / c), v_t / t**2 + v_c / c**2
        freedom = _welch(v_c / c**2, control.units, v_t / t**2, treatment.units)
    return _estimate(value, variance, freedom=freedom, size=control.units + treatment.units)


def _level(units: Moments, slope: float, before: float) -> tuple[float, float]:
    """A variant's ratio, adjusted towards the common ratio before, and its variance."""
    value, gradient = _ratio(units, 0)
    if slope:
        earlier, earlier_gradient = _ratio(units, 2)
        value -= slope * (earlier - before)
        gradient = gradient - slope * earlier_gradient
    variance = float(gradient @ units.covariance @ gradient) / units.units
    return value, variance if variance > (ROUNDING * value) ** 2 else 0.0


def _slope(units: Moments) -> tuple[float, float]:
    """CUPED's theta and the ratio before, of all units; 0 without a period before."""
    if len(units.mean) == 2:
        return 0.0, 0.0
    _, now = _ratio(units, 0)
    before, earlier = _ratio(units, 2)
    variance = float(earlier @ units.covariance @ earlier)
    # Units that were all alike before have nothing to explain.
    return (float(now @ units.covariance @ earlier) / variance if variance else 0.0), before


def _ratio(units: Moments, first: int) -> tuple[float, Floats]:
    """A ratio of two neighbouring means and its gradient, shape of `Moments.mean`."""
    x, y = units.mean[first : first + 2]
    if y == 0:
        raise NotEnoughData("no impressions yet")
    gradient: Floats = np.zeros(len(units.mean))
    gradient[first : first + 2] = 1 / y, -x / y**2
    return float(x / y), gradient


def _together(one: Moments, other: Moments) -> Moments:
    """The moments of all units."""
    units = one.units + other.units
    apart = other.mean - one.mean
    squares = (
        (one.units - 1) * one.covariance
        + (other.units - 1) * other.covariance
        + one.units * other.units / units * np.outer(apart, apart)
    )
    mean = one.mean + other.units / units * apart
    return Moments(units=units, mean=mean, covariance=squares / (units - 1))


def _welch(v_c: float, n_c: int, v_t: float, n_t: int) -> float:
    below = v_c**2 / (n_c - 1) + v_t**2 / (n_t - 1)
    return (v_c + v_t) ** 2 / below if below > 0 else inf


def _estimate(value: float, variance: float, *, freedom: float, size: float) -> Estimate:
    if not variance > 0:
        raise NotEnoughData("no unit differs from another so far")
    return Estimate(value=value, error=sqrt(variance), freedom=freedom, size=size)
