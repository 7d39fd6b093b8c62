"""Every metric of one scorer on some rows, with its value in each bootstrap resample.

Most metrics are ratios of sums over rows or lists, so a resample is a matrix
product away. AUC is weighted from one sort. The bins of the calibration error
are those of the whole data in every resample.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranking_models.evaluation.values import Figure, Figures, ReliabilityBin
from ranking_models.manifest import Interval
from ranking_models.metrics import auc, calibration, ordering, probabilities
from ranking_models.metrics.bootstrap import (
    Weights,
    basic_interval,
    percentile_interval,
    weighted_auc,
)
from ranking_models.metrics.inputs import Float64

ROWS_PER_BIN = 50
"""At least, on average: an ECE over thinner bins measures their noise."""


class Measured(NamedTuple):
    """A metric, and the same in every resample."""

    value: float
    resampled: Float64


Measures = dict[str, Measured]


class Part(NamedTuple):
    """Some rows and all that a metric needs to know of them."""

    labels: Float64
    units: npt.NDArray[np.intp]
    lists: npt.NDArray[np.intp]
    """The list that each row belongs to; every list has one unit."""
    weights: Weights


def measures(scores: Float64, part: Part, *, k: int) -> Measures:
    """All metrics of rows that hold both clicks and non-clicks."""
    found = {
        "auc": Measured(auc(scores, part.labels), weighted_auc(scores, part.labels, part.weights))
    }
    by_user = ordering.auc_per_list(scores, part.labels, part.units)
    if len(by_user.value):
        found["gauc"] = _mean_of_lists(by_user, part.units, part)
    found["log_loss"] = _mean(probabilities.log_losses(scores, part.labels), part.weights)
    for name, per_list in (
        ("ndcg_at_k", ordering.ndcg_per_list(scores, part.labels, part.lists, k)),
        ("hit_rate_at_k", ordering.hits_per_list(scores, part.labels, part.lists, k)),
    ):
        found[name] = _mean_of_lists(per_list, part.lists, part)
    return found | calibration_measures(scores, part)


def segment_measures(scores: Float64, part: Part) -> Measures:
    """The metrics of a segment: those that do not depend on whole lists."""
    return {
        "auc": Measured(auc(scores, part.labels), weighted_auc(scores, part.labels, part.weights)),
        "log_loss": _mean(probabilities.log_losses(scores, part.labels), part.weights),
    } | calibration_measures(scores, part)


def calibration_measures(scores: Float64, part: Part) -> Measures:
    """ECE, mean score, CTR, and the ratio of the two."""
    number = calibration.bin_numbers(scores, bins_for(len(scores)))
    gaps = scores - part.labels
    rows = part.weights.totals(np.ones(len(scores)))
    off = np.abs(part.weights.totals_by(gaps, number)).sum(axis=1)
    value = float(np.abs(np.bincount(number, gaps)).sum() / len(scores))
    predicted, observed = _mean(scores, part.weights), _mean(part.labels, part.weights)
    return {
        "ece": Measured(value, _ratio(off, rows)),
        "predicted": predicted,
        "observed": observed,
        "calibration": Measured(
            predicted.value / observed.value, _ratio(predicted.resampled, observed.resampled)
        ),
    }


def reliability(scores: Float64, part: Part) -> tuple[ReliabilityBin, ...]:
    """The reliability table, each bin's share of clicks with its interval."""
    bins = bins_for(len(scores))
    number = calibration.bin_numbers(scores, bins)
    shares = _ratio(
        part.weights.totals_by(part.labels, number),
        part.weights.totals_by(np.ones(len(scores)), number),
    )
    return tuple(
        ReliabilityBin(
            rows=found.rows,
            low=found.low,
            high=found.high,
            predicted=found.predicted,
            observed=_figure(
                found.observed, percentile_interval(found.observed, shares[:, position])
            ),
        )
        for position, found in enumerate(calibration.calibration_bins(scores, part.labels, bins))
    )


def figures_of(measured: Mapping[str, Measured]) -> Figures:
    """Each metric with its interval; the ECE's is the mirrored one."""
    return {
        name: _figure(
            found.value, (basic_interval if name == "ece" else percentile_interval)(*found)
        )
        for name, found in measured.items()
    }


def differences(first: Measures, second: Measures) -> Figures:
    """First minus second, resample by resample: what both share cancels out.

    The CTR is left out, for it is the same rows' in both.
    """
    found = {}
    for name in [name for name in first if name in second and name != "observed"]:
        value = first[name].value - second[name].value
        resampled = first[name].resampled - second[name].resampled
        found[name] = _figure(value, percentile_interval(value, resampled))
    return found


def bins_for(rows: int) -> int:
    """15 bins, fewer where these would hold under 50 rows each."""
    return max(1, min(calibration.BINS, rows // ROWS_PER_BIN))


def _mean(values: Float64, weights: Weights) -> Measured:
    return Measured(
        float(np.mean(values)),
        _ratio(weights.totals(values), weights.totals(np.ones(len(values)))),
    )


def _mean_of_lists(
    figures: ordering.ListFigures, lists: npt.NDArray[np.intp], part: Part
) -> Measured:
    first_row = np.unique(lists, return_index=True)[1]
    weights = part.weights.of_rows(first_row[figures.list_of])
    resampled = _ratio(
        weights.totals(figures.value * figures.weight), weights.totals(figures.weight)
    )
    return Measured(figures.mean(), resampled)


def _ratio(total: Float64, rows: Float64) -> Float64:
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / rows


def _figure(value: float, interval: Interval | None) -> Figure:
    if interval is None:
        return Figure(value=value, low=None, high=None)
    return Figure(value=value, low=interval.low, high=interval.high)
