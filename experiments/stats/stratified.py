"""One effect from several phases of an experiment, each compared within itself.

A ramp from 1 to 50 % changes the shares, and the CTR changes with the day. Adding up
the raw sums then compares a treatment seen mostly on good days with a control
seen mostly on bad ones, and can turn the effect around (Simpson's paradox). Pooling by
Mantel and Haenszel compares only within phases, and weights a phase by how many
impressions both variants have in it; a phase in which one variant has none has no weight.

Units are in several phases, so phases are not independent. The variance therefore leaves
out a cluster in all phases at once; for one phase it is that of `ratio.log_change`.

Source:
    Mantel, Haenszel (1959), "Statistical aspects of the analysis of data from
    retrospective studies of disease", JNCI 22. Greenland, Robins (1985), "Estimation of a
    common effect parameter from sparse follow-up data", Biometrics 41 (the ratio of rates).
    Cochran (1977), "Sampling Techniques", 3rd ed., section 6.17 (jackknife).
"""

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.stats import ROUNDING, Estimate, NotEnoughData
from experiments.stats.estimate import difference
from experiments.stats.ratio import MINIMUM_CLUSTERS, RatioSample
from experiments.stats.sequential import effective_size

Floats = npt.NDArray[np.float64]


class Phase(Struct, frozen=True, kw_only=True):
    """The two samples of one phase; cluster ``i`` of every phase holds the same units."""

    control: RatioSample
    treatment: RatioSample


def pooled_change(phases: Sequence[Phase]) -> Estimate:
    """The logarithm of treatment over control, pooled over phases.

    Raises:
        NotEnoughData: no phase in which both variants have impressions, no clicks,
            too few clusters, or none that differs.
        ValueError: samples differ in their clusters.
    """
    control = _arm([phase.control for phase in phases])
    treatment = _arm([phase.treatment for phase in phases])
    if control.x.shape != treatment.x.shape:
        raise ValueError("all samples of all phases must have the same clusters")
    value = log(_rate_ratio(control, treatment))
    # The logarithm is all the treatment's here and the errors are each arm's own: only the
    # difference has a meaning.
    return difference(_estimate(0.0, treatment, control), _estimate(value, control, treatment))


class _Arm(Struct, frozen=True):
    """A variant in all phases, shapes ``[phases, clusters]``."""

    x: Floats
    y: Floats


def _arm(samples: Sequence[RatioSample]) -> _Arm:
    if not samples:
        raise NotEnoughData("no phases yet")
    return _Arm(
        np.stack([sample.numerator for sample in samples]).astype(np.float64),
        np.stack([sample.denominator for sample in samples]).astype(np.float64),
    )


def _rate_ratio(other: _Arm, own: _Arm) -> float:
    """Mantel and Haenszel's ratio of rates, own over other."""
    x, y = own.x.sum(axis=1, keepdims=True), own.y.sum(axis=1, keepdims=True)
    if not bool(np.any(_weights(other, y) * y > 0)):
        raise NotEnoughData("no impressions yet in one and the same phase of both variants")
    above, below = _sums(other, x, y)
    if above[0] == 0 or below[0] == 0:
        raise NotEnoughData("no clicks yet")
    return float(above[0] / below[0])


def _estimate(value: float, other: _Arm, own: _Arm) -> Estimate:
    """A logarithm with the error that the clusters of one arm bring into it."""
    weighted = _weights(other, own.y.sum(axis=1, keepdims=True)) * own.y
    share = weighted.sum(axis=0) / weighted.sum()
    effective = 1 / float(np.sum(share**2))
    if effective < MINIMUM_CLUSTERS:
        raise NotEnoughData(f"{effective:.1f} of {MINIMUM_CLUSTERS:.0f} effective units")
    error = sqrt(float(np.sum(_pulls(other, own) ** 2)))
    if error < ROUNDING:
        raise NotEnoughData("all units have the same CTR so far")
    return Estimate(value=value, error=error, freedom=effective - 1, size=effective_size(error) / 4)


def _pulls(other: _Arm, own: _Arm) -> Floats:
    """How far the ratio, relatively, would be lower without each cluster, shape ``[clusters]``."""
    filled = int(np.sum(np.any((own.x > 0) | (own.y > 0), axis=0)))
    above, below = _sums(
        other,
        own.x.sum(axis=1, keepdims=True) - own.x,
        own.y.sum(axis=1, keepdims=True) - own.y,
    )
    return sqrt((filled - 1) / filled) * (1 - above / below / _rate_ratio(other, own))


def _sums(other: _Arm, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The two sums of the ratio, for totals ``[phases, n]`` of the own arm; each ``[n]``."""
    weight = _weights(other, y)
    other_x, other_y = (sums.sum(axis=1, keepdims=True) for sums in (other.x, other.y))
    other_ctr = np.divide(other_x, other_y, out=np.zeros_like(other_x), where=other_y > 0)
    return (weight * x).sum(axis=0), (weight * other_ctr * y).sum(axis=0)


def _weights(other: _Arm, y: Floats) -> Floats:
    """The other arm's share of a phase's impressions, 0 where the own arm has none."""
    other_y = other.y.sum(axis=1, keepdims=True)
    together = other_y + y
    share: Floats = np.zeros_like(together)
    np.divide(other_y * np.ones_like(y), together, out=share, where=y > 0)
    return share
