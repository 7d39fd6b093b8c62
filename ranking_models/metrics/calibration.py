"""Whether a score of 0.3 means three clicks in ten impressions."""

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.metrics.inputs import Scores, finite

BINS = 15
"""As in Guo et al. (2017)."""


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with similar scores: what was predicted and what happened."""

    rows: int
    low: float
    """Smallest score."""
    high: float
    """Largest score."""
    predicted: float
    """Mean score."""
    observed: float
    """Share of clicks."""


def bin_numbers(scores: Scores, bins: int = BINS) -> npt.NDArray[np.intp]:
    """The bin of each row, numbered from 0 by score: as many rows in each as ties allow.

    Rows with equal scores share a bin, so the order of the input does not
    matter; a long run of them makes one bin larger and leaves out others.
    """
    values = finite(scores)
    below = np.searchsorted(np.sort(values), values, "left")
    _, numbers = np.unique(below * bins // len(values), return_inverse=True)
    return numbers


def calibration_bins(
    scores: Scores, labels: Scores, bins: int = BINS
) -> tuple[CalibrationBin, ...]:
    """The reliability table: equal-mass bins by score, lowest first."""
    values, clicked = finite(scores), np.asarray(labels, np.float64)
    number = bin_numbers(values, bins)
    rows = np.bincount(number)
    predicted, observed = np.bincount(number, values) / rows, np.bincount(number, clicked) / rows
    starts = np.cumsum(rows) - rows
    ordered = np.sort(values)
    return tuple(
        CalibrationBin(
            rows=int(rows[b]),
            low=float(ordered[starts[b]]),
            high=float(ordered[starts[b] + rows[b] - 1]),
            predicted=float(predicted[b]),
            observed=float(observed[b]),
        )
        for b in range(len(rows))
    )


def calibration_error(scores: Scores, labels: Scores, bins: int = BINS) -> float:
    """ECE: mean over rows of their bin's ``|mean score - share of clicks|``; 0 is perfect.

    Source:
        Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated
        Probabilities Using Bayesian Binning", AAAI; equal-mass bins as Nguyen,
        O'Connor (2015), EMNLP, arXiv:1508.05154.
    """
    values = finite(scores)
    gap = np.bincount(bin_numbers(values, bins), values - np.asarray(labels, np.float64))
    return float(np.abs(gap).sum() / len(values))


def calibration_error_by_chance(scores: Scores, bins: int = BINS) -> float:
    """The ECE that a perfectly calibrated model would show on so many rows.

    Each bin's clicks then vary by ``sum p (1 - p)`` around their mean score,
    and the mean distance of a normal variable from its mean is
    ``sqrt(2 / pi)`` standard deviations. Rows are taken as independent.
    """
    p = np.clip(finite(scores), 0.0, 1.0)
    spread = np.sqrt(np.bincount(bin_numbers(p, bins), p * (1 - p)))
    return float(np.sqrt(2 / np.pi) * spread.sum() / len(p))
