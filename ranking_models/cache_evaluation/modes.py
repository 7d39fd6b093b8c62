"""The scores that the segment modes give, with every row in the cache."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ranking_models.bundle.parts import SegmentArrays
from ranking_models.cache_evaluation.users import NOBODY, Places, users_at, with_columns
from ranking_models.joining import SMALLEST_SCORE
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema

Float64 = npt.NDArray[np.float64]
LARGEST_LOG_ODDS, STEPS = 16.0, 65_535
"""How a cached row keeps log odds: see `service.cache.row_codec`."""


def log_odds(scores: npt.NDArray[np.floating]) -> Float64:
    """Of scores, none of them surer than float32 can tell."""
    sure = np.clip(scores.astype(np.float64), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.log(sure) - np.log1p(-sure)


def segment_scorer(
    scorer: Scorer, schema: FeatureSchema, users: FeatureBatch, segments: SegmentArrays
) -> Callable[[FeatureBatch, Places], Float64]:
    """What a row's segment scores its item in its context, as a cached row has it.

    Args:
        scorer: Of the model.
        schema: Of its rows.
        users: The bundle's table.
        segments: Its segments.

    Returns:
        From rows with all columns, and the position of each one's user, to scores.
    """
    places = segments.representatives.shape[1]

    def scores(rows: FeatureBatch, at: Places) -> Float64:
        known = at != NOBODY
        segment = np.where(known, segments.users[np.where(known, at, 0)], 0)
        sums, speak = np.zeros(rows.rows), np.zeros(rows.rows)
        for place in range(places):
            speaker = segments.representatives[segment, place]
            speaks = (speaker >= 0) | ((segment == 0) & (place == 0))
            which = np.flatnonzero(speaks)
            if not len(which):
                continue
            theirs = users_at(schema, users, speaker[which].astype(np.intp))
            asked = with_columns(schema, rows.take(which), "user", theirs)
            sums[which] += log_odds(scorer(asked))
            speak[which] += 1
        return _kept(sums / speak)

    return scores


def rescored(exact: Float64, coarse: Float64, top: int) -> Float64:
    """The scores that order as ``segment_rescore`` does: the first of each list exactly.

    Args:
        exact: Exact scores of all rows, ``[lists, candidates]``.
        coarse: What their segments score.
        top: How many of each list are scored exactly.
    """
    first = np.argsort(-coarse, axis=1, kind="stable")[:, :top]
    # All scores are in 0..1: those behind are lowered below everything in front.
    scores = coarse - 1.0
    np.put_along_axis(scores, first, np.take_along_axis(exact, first, axis=1), axis=1)
    return scores


def _kept(odds: Float64) -> Float64:
    step = 2 * LARGEST_LOG_ODDS / STEPS
    cut = np.clip(odds, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    kept = np.rint((cut + LARGEST_LOG_ODDS) / step) * step - LARGEST_LOG_ODDS
    return 1 / (1 + np.exp(-kept))
