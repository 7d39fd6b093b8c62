"""From one or two scorers and the same rows to an `Evaluation`."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.errors import InputError
from ranking_models.evaluation import figures
from ranking_models.evaluation.figures import Measures, Part
from ranking_models.evaluation.rows import EvaluationRows
from ranking_models.evaluation.segments import (
    SegmentColumn,
    SegmentRows,
    overlapping,
    segments_of,
)
from ranking_models.evaluation.values import (
    FORMAT,
    Comparison,
    Evaluation,
    Scored,
    Segment,
    SegmentTable,
)
from ranking_models.metrics import calibration
from ranking_models.metrics.bootstrap import weights
from ranking_models.metrics.inputs import Float64
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch

FEWEST_USERS = 20
FEWEST_OF_A_CLASS = 20
"""Clicks, and non-clicks, of a segment; with fewer its figures would be those of single users."""

HISTOGRAM_BINS = 40
ROC_POINTS = 200


class EvaluationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure."""

    k: int = 10
    """Length of a list's top, for NDCG and hit rate."""
    resamples: int = 1000
    seed: int = 0


class Subject(NamedTuple):
    """What is measured: a scorer, and the rows as it takes them."""

    name: str
    score: Scorer
    batch: FeatureBatch


def evaluate(
    subjects: Sequence[Subject],
    rows: EvaluationRows,
    columns: Sequence[SegmentColumn] = (),
    *,
    options: EvaluationOptions,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Measure one scorer, or two against each other, on the same rows.

    Args:
        subjects: One or two; row ``i`` of each batch is row ``i`` of `rows`.
        rows: Labels, users and lists.
        columns: The features to cut by.
        options: List length, resamples, seed.
        notes: What a reader must know; kept as given.

    Raises:
        InputError: the rows have one class only, or a score is not a
            probability; names the scorer.
    """
    labels = rows.labels
    if labels.min() == labels.max():
        raise InputError(
            f"{rows.evidence}: the label is {labels[0]:.0f} in all {len(labels):,} rows; "
            "a model is measured on clicks and non-clicks"
        )
    _, units = np.unique(rows.units, return_inverse=True)
    _, lists = np.unique(rows.lists, return_inverse=True)
    drawn = weights(units, options.resamples, options.seed)
    part = Part(labels=labels, units=units, lists=lists, weights=drawn)
    clicked = np.unique(lists[labels > 0])
    scores = [_scores(subject) for subject in subjects]
    measured = [figures.measures(values, part, k=options.k) for values in scores]
    return Evaluation(
        format=FORMAT,
        evidence=rows.evidence,
        notes=tuple(notes),
        rows=len(labels),
        users=drawn.counts.shape[1],
        clicks=int(labels.sum()),
        lists=len(clicked),
        long_lists=int((np.bincount(lists)[clicked] > options.k).sum()),
        list_kind=rows.list_kind,
        k=options.k,
        resamples=options.resamples,
        seed=options.seed,
        confidence=0.95,
        scored=tuple(
            _scored(subject.name, values, part, found)
            for subject, values, found in zip(subjects, scores, measured, strict=True)
        ),
        comparison=_comparison(scores, measured) if len(subjects) == 2 else None,
        segments=tuple(_table(column, scores, part) for column in columns),
    )


def _scores(subject: Subject) -> Float64:
    scores = np.asarray(subject.score(subject.batch), np.float64)
    good = (scores >= 0) & (scores <= 1)  # NaN is not good
    if not good.all():
        first = int(np.argmin(good))
        raise InputError(
            f"{subject.name}: {np.count_nonzero(~good):,} of {len(scores):,} scores are not "
            f"numbers in 0..1 (row {first} has {scores[first]:g}); this graph must not be served"
        )
    return scores


def _scored(name: str, scores: Float64, part: Part, measured: Measures) -> Scored:
    return Scored(
        name=name,
        figures=figures.figures_of(measured),
        ece_by_chance=calibration.calibration_error_by_chance(
            scores, figures.bins_for(len(scores))
        ),
        reliability=figures.reliability(scores, part),
        roc=_roc(scores, part.labels),
        histogram=_histogram(scores, part.labels),
    )


def _comparison(scores: Sequence[Float64], measured: Sequence[Measures]) -> Comparison:
    difference = np.abs(scores[0] - scores[1])
    return Comparison(
        figures=figures.differences(*measured),
        max_score_difference=float(difference.max()),
        p99_score_difference=float(np.quantile(difference, 0.99)),
    )


def _table(column: SegmentColumn, scores: Sequence[Float64], part: Part) -> SegmentTable:
    return SegmentTable(
        feature=column.feature,
        segments=tuple(_segment(segment, scores, part) for segment in segments_of(column)),
        overlapping=overlapping(column),
    )


def _segment(segment: SegmentRows, scores: Sequence[Float64], part: Part) -> Segment:
    inside = segment.inside
    labels = part.labels[inside]
    users = len(np.unique(part.units[inside]))
    note = _too_small(labels, users)
    measured: list[Measures] = []
    if note is None:
        cut = Part(labels, part.units[inside], part.lists[inside], part.weights.of_rows(inside))
        measured = [figures.segment_measures(values[inside], cut) for values in scores]
    return Segment(
        value=segment.value,
        rows=len(labels),
        users=users,
        note=note,
        figures=tuple(figures.figures_of(found) for found in measured),
        difference=figures.differences(*measured) if len(measured) == 2 else {},
    )


def _too_small(labels: Float64, users: int) -> str | None:
    clicks = int(labels.sum())
    for count, least, what in (
        (users, FEWEST_USERS, "users"),
        (clicks, FEWEST_OF_A_CLASS, "clicks"),
        (len(labels) - clicks, FEWEST_OF_A_CLASS, "rows without a click"),
    ):
        if count < least:
            return f"too small: {count} {what}, figures need {least}"
    return None


def _roc(scores: Float64, labels: Float64) -> tuple[tuple[float, float], ...]:
    """The curve from (0, 0) to (1, 1), thinned to `ROC_POINTS`; rows of one score are one step."""
    order = np.argsort(-scores, kind="stable")
    ordered, clicked = scores[order], labels[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    clicks, rows = np.cumsum(clicked)[ends], ends + 1.0
    x = np.append(0.0, (rows - clicks) / (len(labels) - labels.sum()))
    y = np.append(0.0, clicks / labels.sum())
    some = np.unique(np.linspace(0, len(x) - 1, ROC_POINTS).round().astype(np.intp))
    return tuple(zip(x[some].tolist(), y[some].tolist(), strict=True))


def _histogram(scores: Float64, labels: Float64) -> tuple[tuple[int, int], ...]:
    counts: list[npt.NDArray[np.intp]] = [
        np.histogram(scores[labels == label], HISTOGRAM_BINS, (0.0, 1.0))[0] for label in (0, 1)
    ]
    return tuple(zip(counts[0].tolist(), counts[1].tolist(), strict=True))
