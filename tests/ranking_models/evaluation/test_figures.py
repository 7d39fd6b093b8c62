"""Figures and their resamples: the plain metrics on rows that are really copied."""

import numpy as np
import pytest

from ranking_models import metrics
from ranking_models.evaluation.figures import (
    Part,
    bins_for,
    differences,
    figures_of,
    measures,
    reliability,
)
from ranking_models.metrics.bootstrap import weights
from ranking_models.metrics.calibration import bin_numbers
from tests.support.evaluations import clicks


def part_of(labels: np.ndarray, units: np.ndarray, resamples: int = 100) -> Part:
    return Part(labels, units, units, weights(units, resamples, 0))


def test_values_are_the_plain_metrics() -> None:
    labels, units, chances = clicks()
    scores = np.round(chances, 2)  # with ties

    found = {name: m.value for name, m in measures(scores, part_of(labels, units), k=3).items()}

    assert found == pytest.approx(
        {
            "auc": metrics.auc(scores, labels),
            "gauc": metrics.gauc(scores, labels, units),
            "log_loss": metrics.log_loss(scores, labels),
            "ndcg_at_k": metrics.ndcg_at_k(scores, labels, units, 3),
            "hit_rate_at_k": metrics.hit_rate_at_k(scores, labels, units, 3),
            "ece": metrics.calibration_error(scores, labels, bins_for(len(labels))),
            "predicted": scores.mean(),
            "observed": labels.mean(),
            "calibration": scores.mean() / labels.mean(),
        },
        abs=1e-12,
    )


def test_resamples_are_the_plain_metrics_of_copied_users() -> None:
    """A user drawn twice is two users: their lists count twice and are never mixed."""
    labels, units, scores = clicks(users=8, rows_each=9)
    part = part_of(labels, units, resamples=5)
    number = bin_numbers(scores, bins_for(len(scores)))

    found = measures(scores, part, k=3)

    for at, line in enumerate(part.weights.counts):
        copies = [(user, copy) for user in range(8) for copy in range(line[user])]
        rows = np.concatenate([np.flatnonzero(units == user) for user, _ in copies])
        copied = np.repeat(np.arange(len(copies)), 9)
        y, s = labels[rows], scores[rows]
        gaps = np.bincount(number[rows], s - y)
        expected = {
            "auc": metrics.auc(s, y),
            "gauc": metrics.gauc(s, y, copied),
            "log_loss": metrics.log_loss(s, y),
            "ndcg_at_k": metrics.ndcg_at_k(s, y, copied, 3),
            "hit_rate_at_k": metrics.hit_rate_at_k(s, y, copied, 3),
            "ece": np.abs(gaps).sum() / len(rows),
            "predicted": s.mean(),
            "observed": y.mean(),
            "calibration": s.mean() / y.mean(),
        }
        assert {n: m.resampled[at] for n, m in found.items()} == pytest.approx(expected, abs=1e-9)


def test_lists_of_sessions_follow_their_user() -> None:
    labels, units, scores = clicks(users=8, rows_each=8)
    sessions = units * 2 + np.arange(len(units)) % 2
    part = Part(labels, units, sessions, weights(units, 3, 0))

    found = measures(scores, part, k=1)["ndcg_at_k"]

    assert found.value == pytest.approx(metrics.ndcg_at_k(scores, labels, sessions, 1))
    line = part.weights.counts[0]
    values, counts = [], []
    for session in np.unique(sessions):
        rows = sessions == session
        if labels[rows].any():
            alone = metrics.ndcg_at_k(scores[rows], labels[rows], sessions[rows], 1)
            values.append(alone)
            counts.append(line[session // 2])
    assert found.resampled[0] == pytest.approx(np.average(values, weights=counts))


def test_equal_scorers_differ_by_exactly_nothing() -> None:
    labels, units, scores = clicks()
    part = part_of(labels, units)
    one = measures(scores, part, k=3)

    for figure in differences(one, measures(scores.copy(), part, k=3)).values():
        assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)


def test_a_paired_difference_is_surer_than_either_figure() -> None:
    labels, units, scores = clicks()
    part = part_of(labels, units, resamples=300)
    blurred = np.clip(scores + np.random.default_rng(1).normal(0, 0.02, len(scores)), 0, 1)
    first, second = measures(scores, part, k=3), measures(blurred, part, k=3)

    alone, paired = figures_of(first)["auc"], differences(first, second)["auc"]

    assert paired.value == first["auc"].value - second["auc"].value
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)
    assert "observed" not in differences(first, second)


def test_without_a_mixed_list_there_is_no_gauc() -> None:
    labels = np.repeat([0.0, 1.0], 30)
    units = np.arange(60)

    assert "gauc" not in measures(np.linspace(0, 1, 60), part_of(labels, units), k=3)


def test_the_reliability_table_has_the_bins_and_an_interval_each() -> None:
    labels, units, scores = clicks(users=100)

    table = reliability(scores, part_of(labels, units))

    plain = metrics.calibration_bins(scores, labels, bins_for(len(scores)))
    assert [b.rows for b in table] == [b.rows for b in plain]
    assert [b.observed.value for b in table] == [b.observed for b in plain]
    assert all(b.observed.low < b.observed.value < b.observed.high for b in table)


def test_bins_get_fewer_with_the_rows() -> None:
    assert [bins_for(rows) for rows in (1, 49, 100, 749, 10_000)] == [1, 1, 2, 14, 15]
