"""Verdicts: by the figure against the threshold, in words, and never softened unseen."""

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.errors import BundleError
from ranking_models.gates import (
    GateFailed,
    check_verdict,
    enforce,
    evidence_of,
    gate,
    judge,
    thresholds_for,
)
from ranking_models.manifest import GateThresholds, Interval
from tests.support.gated import SCHEMA, catalogue, random_rows, sound_figures

SOUND = sound_figures()
ROWS = random_rows(10, 0)
EVIDENCE = evidence_of(
    SCHEMA, catalogue(), ROWS, np.arange(10, dtype=np.float32) % 2, np.arange(10), source="x"
)


def change(value: float) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1)


@pytest.mark.parametrize("kind", ["fp16", "rows-fp16", "rows-int8", "int8", "smaller"])
def test_what_is_sound_passes(kind):
    assert judge(SOUND, thresholds_for(kind)) == ()


def test_rows_of_8_bits_may_move_one_score_further_than_rows_of_16():
    moved = replace(SOUND, max_difference=0.005)

    assert judge(moved, thresholds_for("rows-int8")) == ()
    assert len(judge(moved, thresholds_for("rows-fp16"))) == 1


@pytest.mark.parametrize(
    ("kind", "most_auc", "most_loss", "overlap", "worst", "tau"),
    [
        ("fp16", 0.0005, 0.0005, 0.995, 0.9, 0.995),
        ("rows-fp16", 0.0002, 0.0002, 0.99, 0.9, 0.99),
        ("rows-int8", 0.0002, 0.0002, 0.99, 0.9, 0.99),
        ("int8", 0.003, 0.005, 0.90, 0.7, 0.85),
        ("smaller", 0.005, 0.01, 0.85, None, 0.7),
    ],
)
def test_the_thresholds_are_those_that_are_promised(kind, most_auc, most_loss, overlap, worst, tau):
    """A figure on its threshold passes; the next one fails."""
    on = replace(
        SOUND,
        auc_change=change(-most_auc),
        log_loss_change=change(most_loss),
        top10_overlap=overlap,
        top10_overlap_worst=worst or 0.0,
        kendall_tau=tau,
    )
    assert judge(on, thresholds_for(kind)) == ()

    beyond = replace(
        SOUND,
        auc_change=change(-most_auc - 1e-6),
        log_loss_change=change(most_loss + 1e-6),
        top10_overlap=overlap - 1e-6,
        top10_overlap_worst=(worst or 0.0) - 1e-6,
        kendall_tau=tau - 1e-6,
    )
    assert len(judge(beyond, thresholds_for(kind))) == 4 + (worst is not None)


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (
            "int8",
            {"auc_change": change(-0.0041)},
            "AUC changed by -0.410% of the reference's, allowed is -0.30%",
        ),
        (
            "rows-fp16",
            {"log_loss_change": change(0.0003)},
            "log loss changed by +0.030% of the reference's, allowed is +0.02%",
        ),
        (
            "fp16",
            {"max_difference": 0.003},
            "the largest score difference is 0.003, allowed is 0.002",
        ),
        (
            "rows-fp16",
            {"max_difference": 0.003},
            "the largest score difference is 0.003, allowed is 0.002",
        ),
        (
            "rows-int8",
            {"max_difference": 0.0051},
            "the largest score difference is 0.0051, allowed is 0.005",
        ),
        (
            "fp16",
            {"max_activation": 70_000.0},
            "the largest value inside the graph is 70000, allowed is 65504",
        ),
        (
            "int8",
            {"top10_overlap": 0.871},
            "the top-10 overlap is 0.8710, at least 0.9 is due",
        ),
        (
            "int8",
            {"top10_overlap_worst": 0.65},
            "the top-10 overlap of the worst 5 % of lists is 0.6500, at least 0.7 is due",
        ),
        (
            "int8",
            {"kendall_tau": 0.8},
            "Kendall's tau on the first 100 is 0.8000, at least 0.85 is due",
        ),
        (
            "int8",
            {"not_finite": 1200},
            "1,200 scores are NaN, infinite or outside 0..1, allowed are none",
        ),
        (
            "smaller",
            {"auc": 0.74},
            "AUC is 0.74000, logistic regression has 0.75000 on the same rows",
        ),
        (
            "smaller",
            {"baseline_auc": None},
            "no logistic regression was measured, which the AUC must not be below",
        ),
    ],
)
def test_a_failure_names_the_figure_and_the_threshold(kind, changes, sentence):
    assert judge(replace(SOUND, **changes), thresholds_for(kind)) == (sentence,)


def test_better_than_the_reference_is_no_failure():
    better = replace(SOUND, auc_change=change(0.2), log_loss_change=change(-0.2), auc=0.96)

    assert judge(better, thresholds_for("fp16")) == ()


def test_scores_that_are_no_numbers_fail_without_any_threshold():
    assert len(judge(replace(SOUND, not_finite=1), GateThresholds())) == 1


def test_a_gate_keeps_its_figures_thresholds_and_verdict():
    figures = replace(SOUND, kendall_tau=0.5)

    kept = gate(figures, thresholds_for("int8"), reference="fp32", evidence=EVIDENCE)

    assert (kept.reference, kept.evidence) == ("fp32", EVIDENCE.words)
    assert (kept.figures, kept.thresholds) == (figures, thresholds_for("int8"))
    assert not kept.passed
    assert not kept.forced
    assert "tau" in kept.failures[0]


def test_what_failed_is_published_only_by_force_and_says_so():
    passed, failed = (
        gate(f, thresholds_for("int8"), reference="fp32", evidence=EVIDENCE)
        for f in (SOUND, replace(SOUND, kendall_tau=0.5))
    )

    assert enforce(passed, what="int8-cpu", force=True) is passed
    assert enforce(failed, what="int8-cpu", force=True) == replace(failed, forced=True)
    with pytest.raises(GateFailed, match=r"^int8-cpu does not pass its gate: Kendall.* --force"):
        enforce(failed, what="int8-cpu", force=False)


def test_a_verdict_that_its_figures_deny_is_refused():
    passed = gate(SOUND, thresholds_for("int8"), reference="fp32", evidence=EVIDENCE)
    bad = replace(SOUND, kendall_tau=0.5)
    forced = replace(passed, figures=bad, failures=("tau",), forced=True)

    check_verdict(passed, what="x")
    check_verdict(forced, what="x")
    for wrong, words in (
        (replace(passed, figures=bad), "x: its gate says passed, its figures say Kendall"),
        (replace(passed, failures=("tau",)), "says failed, its figures say that no threshold"),
        (replace(forced, forced=False), "failed and is not marked forced"),
        (replace(passed, forced=True), "passed and is marked forced"),
    ):
        with pytest.raises(BundleError, match=words):
            check_verdict(wrong, what="x")
