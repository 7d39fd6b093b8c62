"""A gate on a real graph: what is sound passes, and every planted regression is caught."""

from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from ranking_models.gates import Kind, judge, measure, thresholds_for
from ranking_models.manifest import GateFigures
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import ParityFailed, Scorer
from ranking_models.schema import FeatureBatch, Float32
from tests.support.gated import changed, evidence, random_rows, random_weights, ranker

WEIGHTS = random_weights()
EVIDENCE = evidence(WEIGHTS)
REFERENCE = onnx_runtime_scorer(ranker(WEIGHTS))
KINDS = get_args(Kind)


def measured(candidate: Scorer, *, reference: Scorer = REFERENCE) -> GateFigures:
    return measure(reference, candidate, EVIDENCE, max_activation=100.0, baseline_auc=0.5)


def coarse(levels: int):
    """Rounds to a few levels, as ranges from a bad calibration set do."""
    return lambda weights: np.round(weights / np.abs(weights).max() * levels) / levels


def shuffled(table: Float32) -> Float32:
    return table[np.random.default_rng(2).permutation(len(table))]


REGRESSIONS = {
    "two layers swapped": WEIGHTS | {"second": WEIGHTS["third"], "third": WEIGHTS["second"]},
    "a hidden layer scaled": changed(WEIGHTS, second=lambda w: 1.5 * w),
    "the head scaled": changed(WEIGHTS, head=lambda w: 1.5 * w),
    "one column scaled": changed(WEIGHTS, first=lambda w: w * np.r_[8, np.ones(w.shape[1] - 1)]),
    "embedding rows permuted": changed(WEIGHTS, table=shuffled),
    "embedding rows one off": changed(WEIGHTS, table=lambda t: np.roll(t, 1, axis=0)),
    "rounded to five levels": changed(WEIGHTS, **dict.fromkeys(("second", "third"), coarse(2))),
    "a layer lost": changed(WEIGHTS, third=lambda w: np.eye(len(w))),
}


@pytest.mark.parametrize("weights", REGRESSIONS.values(), ids=REGRESSIONS)
def test_a_planted_regression_is_caught_by_every_gate(weights):
    figures = measured(onnx_runtime_scorer(ranker(weights)))

    for kind in KINDS:
        assert judge(figures, thresholds_for(kind)), kind


class Rows(CalibrationDataReader):
    """Calibration rows, given once."""

    def __init__(self, rows: FeatureBatch) -> None:
        self._waiting = [rows.inputs()]

    def get_next(self):
        return self._waiting.pop() if self._waiting else None


def int8(folder: Path, calibration: FeatureBatch) -> Scorer:
    """The ranker in 8 bits by ONNX Runtime's own tool, ranges by minimum and maximum."""
    whole, small = folder / "whole.onnx", folder / "small.onnx"
    whole.write_bytes(ranker(WEIGHTS))
    quantize_static(
        whole,
        small,
        Rows(calibration),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx_runtime_scorer(small.read_bytes())


def test_int8_ranges_from_too_few_rows_are_caught(tmp_path):
    """512 rows keep AUC, log loss and the order; one row's ranges cut off what others need."""
    calibration = random_rows(512, 77)
    figures = measured(int8(tmp_path, calibration))
    one_row = measured(int8(tmp_path, calibration.take(slice(0, 1))))

    allowed = thresholds_for("int8")
    assert judge(figures, replace(allowed, min_top10_overlap_worst=None)) == ()
    assert len(judge(one_row, allowed)) == 5


def test_a_scaled_head_keeps_the_order_and_is_caught_by_the_log_loss():
    figures = measured(onnx_runtime_scorer(ranker(REGRESSIONS["the head scaled"])))

    assert figures.kendall_tau > 0.999
    assert [line.split()[0] for line in judge(figures, thresholds_for("int8"))] == ["log"]


def test_the_same_graph_passes_with_exact_zeros():
    figures = measured(onnx_runtime_scorer(ranker(WEIGHTS)))

    for change in (figures.auc_change, figures.log_loss_change):
        assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)
    assert (figures.max_difference, figures.p99_difference, figures.not_finite) == (0.0, 0.0, 0)
    assert (figures.top10_overlap, figures.top10_overlap_worst, figures.kendall_tau) == (1, 1, 1)
    for kind in KINDS:
        assert judge(figures, thresholds_for(kind)) == ()


def test_embedding_rows_in_half_precision_pass():
    half = changed(WEIGHTS, table=lambda t: t.astype(np.float16))

    figures = measured(onnx_runtime_scorer(ranker(half)))

    assert 0 < figures.max_difference < 2e-3
    assert judge(figures, thresholds_for("rows-fp16")) == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.5, -1e-3])
def test_one_score_that_is_no_probability_fails_every_gate(bad):
    """The very first row alone: 1 of 26,000."""
    spoiled = 0

    def candidate(batch: FeatureBatch) -> Float32:
        nonlocal spoiled
        scores = REFERENCE(batch).copy()
        if not spoiled:
            scores[0], spoiled = bad, 1
        return scores

    figures = measured(candidate)

    assert figures.not_finite == 1
    for kind in KINDS:
        assert "1 scores are NaN, infinite" in judge(figures, thresholds_for(kind))[0]


@pytest.mark.parametrize("value", [np.nan, -np.inf, 0.5, 0.0])
def test_a_constant_passes_nothing_and_gives_only_numbers(value):
    figures = measured(lambda batch: np.full(batch.rows, value, np.float32))

    assert len(judge(figures, thresholds_for("smaller"))) >= 4
    assert b"null" not in msgspec.json.encode(figures)
    numbers = msgspec.json.decode(msgspec.json.encode(figures), type=GateFigures)
    assert numbers == figures
    assert figures.auc == 0.5
    assert figures.kendall_tau == 0.0


def test_a_reference_that_is_broken_passes_nothing_either():
    def broken(batch: FeatureBatch) -> Float32:
        return np.full(batch.rows, np.nan, np.float32)

    figures = measured(broken, reference=broken)

    assert figures.not_finite == 2 * (figures.rows + figures.lists * figures.list_items)
    assert judge(figures, thresholds_for("smaller"))
    assert b"null" not in msgspec.json.encode(figures)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda scores: scores[:, None], r"float32 \[2000, 1\]"),
        (lambda scores: scores[1:], r"float32 \[1999\]"),
        (lambda scores: scores.astype(np.float64), r"float64 \[2000\]"),
    ],
)
def test_a_scorer_of_the_wrong_shape_is_no_scorer(wrong, got):
    with pytest.raises(ParityFailed, match=rf"the candidate: the scores are {got} where"):
        measured(lambda batch: wrong(REFERENCE(batch)))


def test_the_figures_are_those_of_other_libraries():
    candidate = onnx_runtime_scorer(ranker(changed(WEIGHTS, second=lambda w: w.round(1))))

    figures = measured(candidate)

    ours, theirs = REFERENCE(EVIDENCE.held_out), candidate(EVIDENCE.held_out)
    difference = np.abs(ours.astype(np.float64) - theirs)
    assert figures.reference_auc == pytest.approx(roc_auc_score(EVIDENCE.labels, ours), abs=1e-9)
    assert figures.auc == pytest.approx(roc_auc_score(EVIDENCE.labels, theirs), abs=1e-9)
    assert figures.auc_change.value == pytest.approx(figures.auc / figures.reference_auc - 1)
    assert figures.p99_difference == pytest.approx(np.percentile(difference, 99), abs=1e-9)

    overlaps, taus, largest = [], [], [difference.max()]
    for at in range(EVIDENCE.lists.count):
        (block,) = EVIDENCE.lists.blocks(at)
        ours, theirs = REFERENCE(block), candidate(block)
        largest.append(np.abs(ours.astype(np.float64) - theirs).max())
        first = np.argsort(-ours, kind="stable")
        top = set(np.argsort(-theirs, kind="stable")[:10])
        overlaps.append(len(top & set(first[:10])) / 10)
        taus.append(kendalltau(ours[first[:100]], theirs[first[:100]]).statistic)
    assert figures.max_difference == pytest.approx(max(largest), abs=1e-9)
    assert figures.top10_overlap == pytest.approx(np.mean(overlaps), abs=1e-9)
    worst = sorted(overlaps)[: -(-len(overlaps) // 20)]
    assert figures.top10_overlap_worst == pytest.approx(np.mean(worst), abs=1e-9)
    assert figures.kendall_tau == pytest.approx(np.mean(taus), abs=1e-9)
    assert figures.top10_overlap < 1


def test_what_was_compared_and_given_is_told():
    figures = measured(REFERENCE)

    assert (figures.rows, figures.users) == (2000, len(set(EVIDENCE.units)))
    assert (figures.lists, figures.list_items) == (EVIDENCE.lists.count, 400)
    assert (figures.max_activation, figures.baseline_auc) == (100.0, 0.5)


@pytest.mark.parametrize("overflow", [np.inf, np.nan])
def test_an_activation_that_is_no_number_stays_a_number_in_the_manifest(overflow):
    figures = measure(REFERENCE, REFERENCE, EVIDENCE, max_activation=overflow)

    assert np.isfinite(figures.max_activation)
    assert "inside the graph" in judge(figures, thresholds_for("fp16"))[0]


def test_progress_ends_at_the_rows_in_all():
    told: list[tuple[int, int]] = []

    measure(
        REFERENCE,
        REFERENCE,
        EVIDENCE,
        max_activation=1.0,
        progress=lambda done, total: told.append((done, total)),
    )

    total = 2000 + EVIDENCE.lists.count * 400
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
