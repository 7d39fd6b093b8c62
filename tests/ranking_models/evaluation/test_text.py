"""The tables of the terminal."""

import numpy as np

from ranking_models.evaluation import Evaluation, SegmentColumn, evaluate
from ranking_models.evaluation.text import cell, render_text
from ranking_models.evaluation.values import Figure
from tests.support.evaluations import OPTIONS, clicks, rows_of, subject


def evaluation(scorers: int, *, values: tuple[str, str, str] = ("web", "ios", "tv")) -> Evaluation:
    labels, units, scores = clicks()
    codes = np.where(units < 10, 2, units % 2)
    return evaluate(
        [subject("first", scores), subject("second", scores**2)][:scorers],
        rows_of(labels, units),
        [SegmentColumn("device", False, values, codes)],
        options=OPTIONS,
        notes=["one thing to know"],
    )


def test_one_scorer_has_one_column_with_every_metric() -> None:
    found = evaluation(1)
    lines = render_text(found).splitlines()
    auc = found.scored[0].figures["auc"]

    assert "Model: first" in lines
    assert "Note: one thing to know" in lines
    start = next(at for at, line in enumerate(lines) if line.startswith("metric"))
    table = lines[start : start + 10]
    assert [line[:16].rstrip() for line in table] == [
        "metric", "AUC", "gAUC", "log loss", "NDCG@3", "HR@3", "ECE", "mean score", "CTR",
        "mean score / CTR",
    ]  # fmt: skip
    assert table[1].endswith(f"{auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]")


def test_two_scorers_have_a_third_column_for_the_difference() -> None:
    found = evaluation(2)
    text = render_text(found)
    lines = text.splitlines()
    assert found.comparison is not None
    loss = found.comparison.figures["log_loss"]

    assert {"A: first", "B: second"} <= set(lines)
    (line,) = [line for line in lines if line.startswith("log loss")]
    assert line.endswith(f"{loss.value:+.6f} [{loss.low:+.6f}, {loss.high:+.6f}]")
    (ctr,) = [line for line in lines if line.startswith("CTR")]
    assert ctr.endswith(" -")  # the rows are the same
    assert max(len(line) for line in lines[: lines.index("")]) <= 100


def test_a_small_segment_shows_its_note_in_place_of_figures() -> None:
    lines = render_text(evaluation(1)).splitlines()

    (small,) = [line for line in lines if line.startswith("tv")]
    (fine,) = [line for line in lines if line.startswith("web")]
    assert small.split()[1:3] == ["120", "10"]
    assert small.endswith("too small: 10 users, figures need 20")
    assert fine.count("[") == 2


def test_a_value_of_the_log_cannot_break_the_table() -> None:
    text = render_text(evaluation(1, values=("a\nb\x1b[31mred", "x" * 80, "tv")))

    assert "\x1b" not in text
    assert "a b [31mred " in text
    assert "x" * 33 + "…" in text


def test_a_figure_without_an_interval_is_shown_alone() -> None:
    assert cell(Figure(value=0.5, low=None, high=None)) == "0.5000"
    assert cell(Figure(value=0.5, low=0.25, high=0.75)) == "0.5000 [0.2500, 0.7500]"
    assert cell(None) == "-"
