"""From a scorer and held-out rows to what each cache mode costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle.parts import SegmentArrays
from ranking_models.cache_evaluation.modes import rescored, segment_scorer
from ranking_models.cache_evaluation.users import Places, columns_of, positions_of, with_columns
from ranking_models.cache_evaluation.values import FORMAT, CacheEvaluation
from ranking_models.errors import InputError
from ranking_models.manifest import Interval, ModeCost
from ranking_models.metrics import auc, ordering
from ranking_models.metrics.bootstrap import Weights, percentile_interval, weighted_auc, weights
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema

Float64 = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Told the rows scored exactly so far, and in all."""

MOST_LISTS = 2_000
CATALOGUES = 100
"""Users whose whole catalogue is ordered."""
MOST_CATALOGUE_ROWS = 2_000_000
BLOCK_LISTS = 64


class CacheOptions(Struct, frozen=True, kw_only=True):
    """What to measure, and how."""

    modes: tuple[str, ...] = ("segment", "segment_rescore")
    top: tuple[int, ...] = (10, 20, 30, 50)
    candidates: int = 100
    k: int = 10
    resamples: int = 1000
    seed: int = 0


class CacheEvidence(Struct, frozen=True, kw_only=True):
    """The model's tables, and rows that it has not seen."""

    schema: FeatureSchema
    users: FeatureBatch
    items: FeatureBatch
    rows: FeatureBatch
    """Held out, with all columns."""
    labels: Float64
    units: Places
    words: str


class _Measured(NamedTuple):
    """A metric, and the same in every resample."""

    value: float
    resampled: Float64


_Measures = dict[str, _Measured]


class _Scores(NamedTuple):
    """Of all rows, of lists ``[lists, candidates]`` and of catalogues ``[catalogues, items]``."""

    rows: Float64
    lists: Float64
    catalogues: Float64


def evaluate_modes(
    scorer: Scorer,
    evidence: CacheEvidence,
    segmentations: Sequence[SegmentArrays],
    *,
    model: str,
    precision: str,
    options: CacheOptions,
    progress: Progress | None = None,
) -> CacheEvaluation:
    """Measure exact scores and every mode against them.

    Args:
        scorer: Of the model, for any number of rows.
        evidence: What it is measured on.
        segmentations: One or more ways to group the users.
        model: ``name@version``.
        precision: Of the scorer.
        options: Modes and their parameters.
        progress: Called after every block of rows.

    Raises:
        InputError: the rows have one class only, or the catalogue is smaller than a list.
    """
    labels = evidence.labels
    if labels.min() == labels.max():
        raise InputError(f"{evidence.words}: all labels are {labels[0]:.0f}; there is no order")
    lists = _Lists(evidence, options)
    at = positions_of(evidence.schema, evidence.rows, evidence.users)
    total = lists.rows * (1 + len(segmentations))
    count = _counter(total, progress)
    judge = _Judge(evidence, lists, options)
    exact = lists.scores(lambda rows, _: scorer(rows).astype(np.float64), at, count)
    reference = judge.measures(exact, exact)
    modes = [ModeCost(mode="exact", rows_saved=0.0, figures=_intervals(reference))]
    for segments in segmentations:
        score = segment_scorer(scorer, evidence.schema, evidence.users, segments)
        coarse = lists.scores(score, at, count)
        modes += _modes(judge, exact, coarse, reference, segments.figures.count, options)
    return CacheEvaluation(
        format=FORMAT,
        model=model,
        precision=precision,
        evidence=evidence.words,
        rows=evidence.rows.rows,
        users=len(np.unique(evidence.units)),
        known_users=len(np.unique(evidence.units[at >= 0])),
        lists=len(lists.rows_of_clicks),
        candidates=options.candidates,
        k=options.k,
        resamples=options.resamples,
        seed=options.seed,
        confidence=0.95,
        modes=tuple(modes),
    )


def _modes(
    judge: "_Judge",
    exact: _Scores,
    coarse: _Scores,
    reference: _Measures,
    segments: int,
    options: CacheOptions,
) -> Iterator[ModeCost]:
    if "segment" in options.modes:
        found = judge.measures(coarse, exact)
        yield ModeCost(
            mode="segment",
            segments=segments,
            rows_saved=1.0,
            figures=_intervals(found),
            change=_intervals(_against(reference, found)),
        )
    if "segment_rescore" in options.modes:
        for top in options.top:
            found = judge.rescored(exact, coarse, top)
            yield ModeCost(
                mode="segment_rescore",
                segments=segments,
                top=top,
                rows_saved=max(0.0, 1 - top / options.candidates),
                figures=_intervals(found),
                change=_intervals(_against(reference, found)),
            )


class _Lists:
    """Held-out clicks among candidates drawn from the catalogue, and whole catalogues."""

    def __init__(self, evidence: CacheEvidence, options: CacheOptions) -> None:
        random = np.random.default_rng(options.seed)
        items = evidence.items.rows
        if items < options.candidates:
            raise InputError(
                f"the catalogue has {items} items, lists of {options.candidates} cannot be drawn; "
                "ask for fewer candidates"
            )
        clicks = np.flatnonzero(evidence.labels > 0)
        few = min(MOST_LISTS, len(clicks))
        self._evidence = evidence
        self.rows_of_clicks = np.sort(random.choice(clicks, few, replace=False))
        self.candidates = np.stack(
            [random.choice(items, options.candidates - 1, replace=False) for _ in range(few)]
        )
        wanted = max(1, min(CATALOGUES, MOST_CATALOGUE_ROWS // items, evidence.rows.rows))
        shuffled = random.permutation(evidence.rows.rows)
        _, first = np.unique(evidence.units[shuffled], return_index=True)
        self.rows_of_catalogues = np.sort(shuffled[first][:wanted])

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        of_lists = self.candidates.size + len(self.rows_of_clicks)
        of_catalogues = len(self.rows_of_catalogues) * self._evidence.items.rows
        return self._evidence.rows.rows + of_lists + of_catalogues

    def scores(
        self,
        score: Callable[[FeatureBatch, Places], Float64],
        at: Places,
        count: Callable[[int], None],
    ) -> _Scores:
        """Score everything.

        Args:
            score: Rows, and the position of each one's user.
            at: Of the user of each held-out row.
            count: Told how many rows were scored.
        """
        evidence, every = self._evidence, np.arange(self._evidence.items.rows)
        own = columns_of(evidence.schema, evidence.rows, "item")
        step = BLOCK_LISTS * 100
        rows = [
            score(evidence.rows.take(np.arange(a, b)), at[a:b])
            for a, b in _parts(evidence.rows.rows, step)
        ]
        count(evidence.rows.rows)
        lists = []
        for a, b in _parts(len(self.rows_of_clicks), BLOCK_LISTS):
            clicks, drawn = self.rows_of_clicks[a:b], self.candidates[a:b]
            others = self._beside(clicks, evidence.items.take(drawn.reshape(-1)), drawn.shape[1])
            found = score(others, at[clicks].repeat(drawn.shape[1])).reshape(drawn.shape)
            clicked = score(self._beside(clicks, own.take(clicks), 1), at[clicks])
            lists.append(np.column_stack([clicked, found]))
            count(lists[-1].size)
        catalogues = []
        for row in self.rows_of_catalogues.tolist():
            rows_of_one = self._beside(np.array([row]), evidence.items, len(every))
            catalogues.append(score(rows_of_one, at[[row]].repeat(len(every))))
            count(len(every))
        return _Scores(np.concatenate(rows), np.concatenate(lists), np.stack(catalogues))

    def _beside(self, rows: Places, items: FeatureBatch, each: int) -> FeatureBatch:
        """Rows' users and contexts beside so many items each."""
        evidence = self._evidence
        repeated = evidence.rows.take(rows.repeat(each))
        return with_columns(evidence.schema, repeated, "item", items)


class _Judge:
    """Measures scores on the same rows, lists and resamples each time."""

    def __init__(self, evidence: CacheEvidence, lists: _Lists, options: CacheOptions) -> None:
        self._labels, self._k = evidence.labels, options.k
        _, self._units = np.unique(evidence.units, return_inverse=True)
        draw = (options.resamples, options.seed)
        self._of_rows = weights(self._units, *draw)
        self._of_lists = self._of_rows.of_rows(lists.rows_of_clicks)
        self._of_catalogues = self._of_rows.of_rows(lists.rows_of_catalogues)
        self._clicked = np.zeros(lists.candidates.shape[1] + 1)
        self._clicked[0] = 1.0

    def measures(self, scores: _Scores, exact: _Scores) -> _Measures:
        """Every metric of a mode that scores everything by itself."""
        drawn = self._of_rows
        area = _Measured(
            auc(scores.rows, self._labels), weighted_auc(scores.rows, self._labels, drawn)
        )
        return {"auc": area} | self._orders(scores, exact)

    def rescored(self, exact: _Scores, coarse: _Scores, top: int) -> _Measures:
        """Those of ``segment_rescore``: its scores order lists, and nothing else."""
        lists, catalogues = exact.lists, exact.catalogues
        scores = _Scores(
            rescored(exact.rows, coarse.rows, self._units, top),
            _rescored_lines(lists, coarse.lists, top),
            _rescored_lines(catalogues, coarse.catalogues, top),
        )
        return self._orders(scores, exact)

    def _orders(self, scores: _Scores, exact: _Scores) -> _Measures:
        found: _Measures = {}
        for name, per_list in (
            ("gauc", ordering.auc_per_list(scores.rows, self._labels, self._units)),
            ("ndcg_rows", ordering.ndcg_per_list(scores.rows, self._labels, self._units, self._k)),
        ):
            if len(per_list.value):
                found[name] = self._mean_of_users(per_list)
        rank = (scores.lists[:, 1:] > scores.lists[:, :1]).sum(axis=1).astype(np.float64)
        # Ties at the click's score share their places.
        rank += (scores.lists[:, 1:] == scores.lists[:, :1]).sum(axis=1) / 2
        gain = np.where(rank < self._k, 1 / np.log2(rank + 2), 0.0)
        found["ndcg"] = _mean(gain, self._of_lists)
        found["hit_rate"] = _mean((rank < self._k).astype(np.float64), self._of_lists)
        found["overlap"] = _mean(_overlaps(scores.lists, exact.lists, self._k), self._of_lists)
        found["catalogue_overlap"] = _mean(
            _overlaps(scores.catalogues, exact.catalogues, self._k), self._of_catalogues
        )
        return found

    def _mean_of_users(self, figures: ordering.ListFigures) -> _Measured:
        first_row = np.unique(self._units, return_index=True)[1]
        drawn = self._of_rows.of_rows(first_row[figures.list_of])
        return _Measured(figures.mean(), _mean_by(figures.value, figures.weight, drawn))


def _rescored_lines(exact: Float64, coarse: Float64, top: int) -> Float64:
    lines, width = exact.shape
    of_line = np.repeat(np.arange(lines), width)
    return rescored(exact.reshape(-1), coarse.reshape(-1), of_line, top).reshape(exact.shape)


def _overlaps(scores: Float64, exact: Float64, k: int) -> Float64:
    """Share of each line's exact first k that are among the first k of these scores."""
    k = min(k, exact.shape[1])
    firsts = [np.argsort(-s, axis=1, kind="stable")[:, :k] for s in (scores, exact)]
    return np.array(
        [len(np.intersect1d(a, b)) / k for a, b in zip(*firsts, strict=True)], np.float64
    )


def _mean(values: Float64, drawn: Weights) -> _Measured:
    return _Measured(float(values.mean()), _mean_by(values, np.ones(len(values)), drawn))


def _mean_by(values: Float64, weight: Float64, drawn: Weights) -> Float64:
    with np.errstate(invalid="ignore", divide="ignore"):
        return drawn.totals(values * weight) / drawn.totals(weight)


def _against(reference: _Measures, found: _Measures) -> _Measures:
    return {
        name: _Measured(
            one.value - reference[name].value, one.resampled - reference[name].resampled
        )
        for name, one in found.items()
    }


def _intervals(measured: _Measures) -> dict[str, Interval]:
    """With the value at both ends where too few resamples have the metric."""
    return {
        name: percentile_interval(one.value, one.resampled)
        or Interval(value=one.value, low=one.value, high=one.value)
        for name, one in measured.items()
    }


def _parts(count: int, step: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + step, count)) for first in range(0, count, step))


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    return count
