"""Scores compared with those of ONNX Runtime on the CPU, golden rows first."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import Scorer, check_batches
from ranking_models.schema import FeatureBatch, Float32
from service.doctor.proof.figures import Scores
from service.doctor.proof.rig import Rig
from service.doctor.proof.sections import Trouble
from service.engines import Engine, valid_scores
from service.engines.calibration import sample_of
from service.engines.precisions import REFERENCE
from service.engines.rows import as_features

SAME_GRAPH_LIMIT = 0.1
"""The tolerance of a quantised graph is for what quantising changed, and may be large. Two runtimes
of the same graph differ by a step of it here and there, no more."""


def prove_scores(rig: Rig, trouble: Trouble) -> tuple[Scores, ...]:
    """Golden rows in every bucket, and many random rows, of every precision."""

    def score(precision: str) -> Scores:
        rig.course.tell(f"scores of {precision}")
        plan = rig.load(precision, slots=1)
        try:
            return compare(plan.slots[0], rig.bundle, rig.buckets, rig.effort.score_rows, trouble)
        finally:
            plan.close()

    found = (trouble.attempt(p, score, p) for p in rig.precisions)
    return tuple(one for one in found if one is not None)


def compare(
    engine: Engine, bundle: Bundle, sizes: Sequence[int], count: int, trouble: Trouble
) -> Scores:
    """One engine against the CPU; what is too far is told to ``trouble``.

    Raises:
        ParityFailed: a score is not a number, or there are not as many as rows.
    """
    precision = engine.info.precision
    tolerance = bundle.manifest.precisions[precision].tolerance
    golden = golden_difference(engine.score, bundle, sizes)
    if golden > tolerance:
        trouble.add(f"{precision}: golden rows differ by {golden:.3g}, {tolerance:.3g} is allowed")
    rows = as_features(sample_of(bundle)(count))
    scores = _in_calls(engine.score, rows, engine.info.max_batch_rows)
    if not (valid := valid_scores(scores)).all():
        trouble.add(f"{precision}: {int((~valid).sum())} of {count} scores are no probabilities")
    against = {name: _on_the_cpu(bundle, name, rows) for name in {precision, REFERENCE}}
    deltas = {name: np.abs(scores.astype(np.float64) - cpu) for name, cpu in against.items()}
    same, limit = float(deltas[precision].max()), min(tolerance, SAME_GRAPH_LIMIT)
    if not same <= limit:
        what = f"{same:.3g} from the same graph on the CPU, {limit:.3g} is allowed"
        trouble.add(f"{precision}: of {count} random rows one is {what}")
    return Scores(
        engine=engine.info.name,
        precision=precision,
        tolerance=tolerance,
        golden_max=golden,
        rows=count,
        reference_max=float(deltas[REFERENCE].max()),
        reference_p99=float(np.percentile(deltas[REFERENCE], 99)),
        reference_mean=float(deltas[REFERENCE].mean()),
        same_graph_max=same,
    )


def golden_difference(score: Scorer, bundle: Bundle, sizes: Sequence[int]) -> float:
    """The largest difference from a golden score, in batches of every size.

    Raises:
        ParityFailed: a score is not a number, or there are not as many as rows.
    """
    rows, expected = bundle.golden
    return check_batches(
        score, rows, expected, sizes=tuple(sizes), tolerance=math.inf, what="golden rows"
    )


def _on_the_cpu(bundle: Bundle, precision: str, rows: FeatureBatch) -> Float32:
    scorer = onnx_runtime_scorer(bundle.graph(precision))
    return _in_calls(scorer, rows, bundle.manifest.max_batch_rows)


def _in_calls(score: Scorer, rows: FeatureBatch, most: int) -> Float32:
    return np.concatenate([score(part) for part in _parts(rows, most)])


def _parts(rows: FeatureBatch, most: int) -> Iterator[FeatureBatch]:
    for start in range(0, rows.rows, most):
        yield rows.take(slice(start, start + most))
