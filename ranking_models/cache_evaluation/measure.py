"""From a scorer and held-out rows to what each cache mode costs."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle.parts import SegmentArrays
from ranking_models.cache_evaluation.judging import Judge, Measures, against, intervals
from ranking_models.cache_evaluation.lists import CacheEvidence, Lists, ModeScores
from ranking_models.cache_evaluation.modes import segment_scorer
from ranking_models.cache_evaluation.users import positions_of
from ranking_models.cache_evaluation.values import FORMAT, CacheEvaluation
from ranking_models.errors import InputError
from ranking_models.manifest import ModeCost
from ranking_models.parity import Scorer

Float64 = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Told the rows scored so far, and in all."""


class CacheOptions(Struct, frozen=True, kw_only=True):
    """What to measure, and how."""

    modes: tuple[str, ...] = ("segment", "segment_rescore")
    top: tuple[int, ...] = (10, 20, 30, 50)
    """Candidates that ``segment_rescore`` scores exactly, one measurement each; `k` where fewer
    are asked for, since the service scores all of a slate exactly."""
    candidates: int = 100
    k: int = 10
    resamples: int = 1000
    seed: int = 0


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
    lists = Lists(evidence, candidates=options.candidates, seed=options.seed)
    at = positions_of(evidence.schema, evidence.rows, evidence.users)
    count = _counter(lists.rows * (1 + len(segmentations)), progress)
    judge = Judge(evidence, lists, k=options.k, resamples=options.resamples, seed=options.seed)
    exact = lists.scores(lambda rows, _: scorer(rows).astype(np.float64), at, count)
    reference = judge.measures(exact, exact)
    modes = [ModeCost(mode="exact", rows_saved=0.0, figures=intervals(reference))]
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
    judge: Judge,
    exact: ModeScores,
    coarse: ModeScores,
    reference: Measures,
    segments: int,
    options: CacheOptions,
) -> Iterator[ModeCost]:
    if "segment" in options.modes:
        found = judge.measures(coarse, exact)
        yield ModeCost(
            mode="segment",
            segments=segments,
            rows_saved=1.0,
            figures=intervals(found),
            change=intervals(against(reference, found)),
        )
    if "segment_rescore" in options.modes:
        for top in dict.fromkeys(max(top, options.k) for top in options.top):
            found = judge.rescored(exact, coarse, top)
            yield ModeCost(
                mode="segment_rescore",
                segments=segments,
                top=top,
                rows_saved=max(0.0, 1 - top / options.candidates),
                figures=intervals(found),
                change=intervals(against(reference, found)),
            )


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    return count
