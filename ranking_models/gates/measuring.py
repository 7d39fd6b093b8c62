"""A candidate and its reference on the same rows and lists, as figures."""

from collections.abc import Callable, Iterable
from math import isfinite

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.gates.evidence import Evidence
from ranking_models.gates.lists import BLOCK_ROWS
from ranking_models.gates.orders import mean_of_worst, top_overlap, top_tau
from ranking_models.gates.resampling import paired_changes
from ranking_models.manifest import GateFigures
from ranking_models.metrics import auc
from ranking_models.parity import ParityFailed, Scorer
from ranking_models.schema import FeatureBatch, Float32

Progress = Callable[[int, int], None]
"""Told the rows scored so far and the rows in all, per scorer."""

LARGEST = float(np.finfo(np.float32).max)
"""Stands for a value inside the graph that is infinite or NaN."""


class _Pair(Struct, frozen=True):
    """What both scored on the same rows."""

    reference: Float32
    candidate: Float32
    not_finite: int

    @property
    def difference(self) -> npt.NDArray[np.float64]:
        difference = self.reference.astype(np.float64) - self.candidate
        return np.abs(difference)


def measure(
    reference: Scorer,
    candidate: Scorer,
    evidence: Evidence,
    *,
    max_activation: float,
    baseline_auc: float | None = None,
    progress: Progress | None = None,
) -> GateFigures:
    """Score the held-out rows and the lists with both, and compare.

    A score that is no probability is counted in ``not_finite``, which nothing
    passes. So that every other figure stays a number, NaN stands as 0 (such
    an item would come last) and anything else outside 0..1 as the nearer end;
    a ``max_activation`` that is not finite stands as the largest float32.

    Args:
        reference: Scores of the model as it was.
        candidate: Scores of what is to replace it.
        evidence: The rows and lists.
        max_activation: From `largest_activation` of the reference graph.
        baseline_auc: AUC of logistic regression on the held-out rows.
        progress: Called after every block of rows.

    Raises:
        ParityFailed: a scorer does not give one float32 per row.
    """
    count = _counter(evidence, progress)
    rows = _scored(reference, candidate, _blocks(evidence.held_out), count)
    lists = evidence.lists
    overlap, tau = np.empty(lists.count), np.empty(lists.count)
    largest, not_finite = float(rows.difference.max()), rows.not_finite
    for at in range(lists.count):
        scored = _scored(reference, candidate, lists.blocks(at), count)
        overlap[at] = top_overlap(scored.reference, scored.candidate)
        tau[at] = top_tau(scored.reference, scored.candidate)
        largest = max(largest, float(scored.difference.max()))
        not_finite += scored.not_finite
    changes = paired_changes(rows.reference, rows.candidate, evidence.labels, evidence.units)
    return GateFigures(
        rows=evidence.held_out.rows,
        users=len(np.unique(evidence.units)),
        lists=lists.count,
        list_items=lists.list_items,
        reference_auc=auc(rows.reference, evidence.labels),
        auc=auc(rows.candidate, evidence.labels),
        auc_change=changes.auc,
        log_loss_change=changes.log_loss,
        max_difference=largest,
        p99_difference=float(np.quantile(rows.difference, 0.99)),
        top10_overlap=float(overlap.mean()),
        top10_overlap_worst=mean_of_worst(overlap),
        kendall_tau=float(tau.mean()),
        not_finite=not_finite,
        max_activation=float(max_activation) if isfinite(max_activation) else LARGEST,
        baseline_auc=baseline_auc,
    )


def _counter(evidence: Evidence, progress: Progress | None) -> Callable[[int], None]:
    total = evidence.held_out.rows + evidence.lists.count * evidence.lists.list_items
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    return count


def _blocks(batch: FeatureBatch) -> Iterable[FeatureBatch]:
    for first in range(0, batch.rows, BLOCK_ROWS):
        yield batch.take(slice(first, first + BLOCK_ROWS))


def _scored(
    reference: Scorer,
    candidate: Scorer,
    blocks: Iterable[FeatureBatch],
    count: Callable[[int], None],
) -> _Pair:
    ours: list[Float32] = []
    theirs: list[Float32] = []
    for block in blocks:
        ours.append(_scores(reference, block, "the reference"))
        theirs.append(_scores(candidate, block, "the candidate"))
        count(block.rows)
    raw = np.concatenate(ours), np.concatenate(theirs)
    # NaN compares false, so it is counted here.
    not_finite = sum(int(np.count_nonzero(~((s >= 0) & (s <= 1)))) for s in raw)
    return _Pair(_finite(raw[0]), _finite(raw[1]), not_finite)


def _scores(scorer: Scorer, block: FeatureBatch, what: str) -> Float32:
    scores = scorer(block)
    if scores.shape != (block.rows,) or scores.dtype != np.float32:
        got = f"{scores.dtype} {list(scores.shape)}"
        raise ParityFailed(what, f"the scores are {got} where float32 [{block.rows}] is due")
    return scores


def _finite(scores: Float32) -> Float32:
    return np.clip(np.nan_to_num(scores, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
