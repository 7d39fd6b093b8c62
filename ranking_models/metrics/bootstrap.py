"""Intervals by resampling users: how much a figure would move with other users like these.

Rows of one user are alike, so users are drawn with replacement and take all
their rows with them (a cluster bootstrap). A resample is never copied out: it
is the number of times that each user was drawn, which weighs the rows. Two
scorers that are measured with the same weights are compared pair by pair, and
what they share cancels out.

Source:
    Efron, Tibshirani (1993), "An Introduction to the Bootstrap", ch. 13
    (percentile interval); Davison, Hinkley (1997), "Bootstrap Methods and
    their Application", §2.4 and §3.8 (basic interval, clustered data).
"""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.manifest import Interval
from ranking_models.metrics.inputs import Float64, Groups, Scores, finite

CELLS = 2**19
"""Numbers held at once while rows are weighted: 4 MB of float64, which caches hold."""

MOST_UNDEFINED = 0.05
"""Share of resamples that may lack a figure (no click was drawn) before there is no interval."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How often each unit is drawn in each resample."""

    unit: npt.NDArray[np.intp]
    """Whose row it is, ``[rows]``: a column of ``counts``."""
    counts: npt.NDArray[np.uint16]
    """``[resamples, units]``; every line sums to the number of units."""

    @property
    def resamples(self) -> int:
        return len(self.counts)

    def totals(self, values: Float64) -> Float64:
        """The sum over each resample's rows of one value per row, ``[resamples]``."""
        return self.totals_by(values, np.zeros(len(values), np.intp))[:, 0]

    def totals_by(self, values: Float64, group: npt.NDArray[np.intp]) -> Float64:
        """The same for each group of rows, numbered from 0: ``[resamples, groups]``."""
        units, groups = self.counts.shape[1], int(group.max()) + 1
        cells = np.bincount(self.unit * groups + group, values, units * groups)
        per_unit = cells.reshape(units, groups)
        return np.concatenate([self.counts[part] @ per_unit for part in self.parts(units)])

    def of_rows(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Weights":
        """The same resamples seen by some of the rows."""
        return Weights(unit=self.unit[rows], counts=self.counts)

    def parts(self, width: int) -> Iterator[slice]:
        """The resamples in as many parts as keep so many numbers of each in `CELLS`."""
        size = max(1, CELLS // max(width, 1))
        return (slice(at, at + size) for at in range(0, self.resamples, size))


def weights(units: Groups, resamples: int, seed: int) -> Weights:
    """Draw users with replacement, as many as there are, so many times.

    Args:
        units: Who saw each row, ``[rows]``; equal numbers are drawn together.
        resamples: 1,000 give the ends of a 95 % interval to a few percent of its width.
        seed: The same seed and units give the same weights.
    """
    distinct, unit = np.unique(units, return_inverse=True)
    random = np.random.default_rng(seed)
    counts = np.empty((resamples, len(distinct)), np.uint16)
    for line in counts:
        drawn = random.integers(0, len(distinct), len(distinct))
        line[:] = np.bincount(drawn, minlength=len(distinct))
    return Weights(unit=unit, counts=counts)


def weighted_auc(scores: Scores, labels: Scores, weights: Weights) -> Float64:
    """The AUC of each resample, ``[resamples]``; NaN where it has one class only.

    Rows are sorted once. A click counts the weight of the non-clicks below it,
    and half the weight of those with its own score.
    """
    values = finite(scores)
    order = np.argsort(values, kind="stable")
    values, unit = values[order], weights.unit[order]
    clicked = np.asarray(labels, np.float64)[order] > 0
    others = values[~clicked]
    below = np.searchsorted(others, values[clicked], "left")
    upto = np.searchsorted(others, values[clicked], "right")
    found = []
    for part in weights.parts(len(unit)):
        of_others = weights.counts[part][:, unit[~clicked]].astype(np.float64)
        of_clicks = weights.counts[part][:, unit[clicked]]
        summed = np.zeros((len(of_others), len(others) + 1))
        np.cumsum(of_others, axis=1, out=summed[:, 1:])
        ordered = np.einsum("rc,rc->r", of_clicks, (summed[:, below] + summed[:, upto]) / 2)
        pairs = of_clicks.sum(axis=1) * summed[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(ordered / pairs)
    return np.concatenate(found)


def percentile_interval(value: float, resampled: Float64) -> Interval | None:
    """The middle 95 % of a figure over the resamples.

    None where more than `MOST_UNDEFINED` of the resamples have no such figure.
    """
    ends = _ends(resampled)
    return None if ends is None else Interval(value=value, low=ends[0], high=ends[1])


def basic_interval(value: float, resampled: Float64) -> Interval | None:
    """The same mirrored at the figure, for one that resampling pushes to one side.

    Noise can only add to a calibration error, so the resamples lie above the
    figure as the figure lies above the truth; the truth is to be looked for
    below. Ends below 0 are cut, and the figure itself is always inside.
    """
    ends = _ends(resampled)
    if ends is None:
        return None
    low, high = 2 * value - ends[1], 2 * value - ends[0]
    return Interval(value=value, low=max(min(low, value), 0.0), high=max(high, value))


def _ends(resampled: Float64) -> tuple[float, float] | None:
    defined = resampled[np.isfinite(resampled)]
    if not len(resampled) or len(defined) < (1 - MOST_UNDEFINED) * len(resampled):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
