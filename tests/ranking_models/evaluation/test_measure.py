"""From scorers to an evaluation: whole, the same for a seed, silent where it knows too little."""

import msgspec
import numpy as np
import pytest

from ranking_models.errors import InputError
from ranking_models.evaluation import (
    Evaluation,
    SegmentColumn,
    encode_evaluation,
    evaluate,
    in_batches,
)
from ranking_models.metrics import auc
from ranking_models.schema import FeatureBatch, Float32
from tests.support.evaluations import OPTIONS, clicks, rows_of, subject


def test_an_evaluation_says_what_it_rests_on() -> None:
    labels, units, scores = clicks()

    found = evaluate([subject("m", scores)], rows_of(labels, units), options=OPTIONS, notes=["n"])

    assert (found.rows, found.users, found.clicks) == (720, 60, int(labels.sum()))
    assert (found.k, found.resamples, found.seed, found.confidence) == (3, 200, 1, 0.95)
    assert (found.evidence, found.notes, found.comparison) == ("made-up rows", ("n",), None)
    with_click = [user for user in range(60) if labels[units == user].any()]
    assert found.lists == found.long_lists == len(with_click)
    assert all(
        figure.low < figure.value < figure.high
        for name, figure in found.scored[0].figures.items()
        if name not in ("ece", "hit_rate_at_k")
    )


def test_the_same_seed_gives_the_same_bytes_and_json_reads_back() -> None:
    labels, units, scores = clicks()
    once, again = (
        evaluate([subject("m", scores)], rows_of(labels, units), options=OPTIONS) for _ in range(2)
    )

    assert encode_evaluation(once) == encode_evaluation(again)
    assert msgspec.json.decode(encode_evaluation(once), type=Evaluation) == once


def test_two_scorers_are_compared_first_minus_second() -> None:
    labels, units, scores = clicks(users=200)
    noisy = np.clip(scores + np.random.default_rng(0).normal(0, 0.2, len(scores)), 0, 1)
    subjects = [subject("good", scores), subject("noisy", noisy)]

    found = evaluate(subjects, rows_of(labels, units), options=OPTIONS)

    assert found.comparison is not None
    difference = found.comparison.figures["auc"]
    a, b = (scored.figures["auc"].value for scored in found.scored)
    assert difference.value == a - b
    assert difference.low > 0  # truly better, and the interval says so
    gaps = np.abs(scores.astype(np.float32) - noisy.astype(np.float32).astype(float))
    assert found.comparison.max_score_difference == pytest.approx(gaps.max(), abs=1e-6)
    assert found.comparison.p99_score_difference == pytest.approx(np.quantile(gaps, 0.99), abs=1e-6)


def test_a_segment_has_the_figures_of_its_rows_alone() -> None:
    labels, units, scores = clicks()
    codes = units % 2
    column = SegmentColumn("device", False, ("web", "ios"), codes)

    found = evaluate([subject("m", scores)], rows_of(labels, units), [column], options=OPTIONS)

    (table,) = found.segments
    scores = scores.astype(np.float32)
    for segment in table.segments:
        inside = codes == ["web", "ios"].index(segment.value)
        (figures,) = segment.figures
        assert (segment.rows, segment.users) == (360, 30)
        assert figures["auc"].value == auc(scores[inside], labels[inside])
        assert figures["observed"].value == labels[inside].mean()
        assert set(figures) == {"auc", "log_loss", "ece", "predicted", "observed", "calibration"}


def test_a_segment_that_is_too_small_has_a_note_and_no_figures() -> None:
    labels, units, scores = clicks()
    labels[units < 40] = 0
    labels[:25] = 1
    codes = np.where(units < 19, 0, np.where(units < 40, 1, 2))
    column = SegmentColumn("device", False, ("few", "cold", "fine"), codes)

    found = evaluate([subject("m", scores)], rows_of(labels, units), [column], options=OPTIONS)

    notes = {s.value: (s.note, len(s.figures)) for s in found.segments[0].segments}
    assert notes == {
        "few": ("too small: 19 users, figures need 20", 0),
        "cold": ("too small: 0 clicks, figures need 20", 0),
        "fine": (None, 1),
    }


def test_segments_of_two_scorers_have_both_and_the_difference() -> None:
    labels, units, scores = clicks()
    column = SegmentColumn("all", False, ("x",), np.zeros(len(units), int))
    subjects = [subject("a", scores), subject("b", scores**2)]

    found = evaluate(subjects, rows_of(labels, units), [column], options=OPTIONS)

    (segment,) = found.segments[0].segments
    assert len(segment.figures) == 2
    assert (segment.difference["auc"].value, segment.difference["auc"].high) == (0.0, 0.0)
    assert segment.difference["log_loss"].high < 0
    assert found.comparison is not None
    assert segment.difference["log_loss"] == found.comparison.figures["log_loss"]


def test_the_roc_curve_encloses_the_auc_and_the_histogram_holds_all_rows() -> None:
    labels, units, scores = clicks()
    scores = np.round(scores, 2)

    (scored,) = evaluate([subject("m", scores)], rows_of(labels, units), options=OPTIONS).scored

    x, y = np.array(scored.roc).T
    assert (scored.roc[0], scored.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert np.trapezoid(y, x) == pytest.approx(scored.figures["auc"].value, abs=1e-9)
    counts = np.array(scored.histogram).sum(axis=0)
    assert counts.tolist() == [len(labels) - labels.sum(), labels.sum()]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_one_class_are_refused(label: float) -> None:
    rows = rows_of(np.full(30, label), np.arange(30))

    with pytest.raises(InputError, match=rf"made-up rows: the label is {label:.0f} in all 30 rows"):
        evaluate([subject("m", np.linspace(0, 1, 30))], rows, options=OPTIONS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, -0.1])
def test_scores_that_are_no_probabilities_are_refused_by_name(bad: float) -> None:
    labels, units, scores = clicks()
    scores[7] = bad

    with pytest.raises(InputError, match=r"broken: 1 of 720 scores .*row 7 has"):
        evaluate([subject("broken", scores)], rows_of(labels, units), options=OPTIONS)


def test_rows_are_scored_in_batches_that_the_engine_takes() -> None:
    sizes = []

    def score(batch: FeatureBatch) -> Float32:
        sizes.append(batch.rows)
        return batch.dense[:, 0]

    column = np.arange(10, dtype=np.float32)[:, None]
    batch = FeatureBatch(dense=column, ids=np.zeros((10, 0), np.int32))

    assert in_batches(score, 4)(batch).tolist() == list(range(10))
    assert sizes == [4, 4, 2]
