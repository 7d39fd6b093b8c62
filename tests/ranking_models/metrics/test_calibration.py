"""Bins of equal mass, ties together, and an error that a calibrated model keeps small."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from ranking_models import metrics
from ranking_models.metrics.calibration import calibration_error_by_chance


def data(rows: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.beta(2, 3, rows)
    return scores, (random.random(rows) < scores).astype(float)


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_without_ties_the_reliability_table_is_scikit_learns(bins: int) -> None:
    scores, labels = data(1000)

    observed, predicted = calibration_curve(labels, scores, n_bins=bins, strategy="quantile")

    table = metrics.calibration_bins(scores, labels, bins)
    assert [found.observed for found in table] == pytest.approx(observed.tolist(), abs=1e-9)
    assert [found.predicted for found in table] == pytest.approx(predicted.tolist(), abs=1e-9)
    assert [found.rows for found in table] == [1000 // bins] * bins


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1)), min_size=1, max_size=60),
    st.integers(1, 8),
)
def test_the_error_is_the_mean_gap_of_the_rows_bins(rows: list[tuple[int, int]], bins: int) -> None:
    """Written out, with ties: a row's bin is that of the first row with its score."""
    ordered = sorted(score / 10 for score, _ in rows)
    members: dict[int, list[tuple[float, int]]] = {}
    for score, label in rows:
        number = ordered.index(score / 10) * bins // len(rows)
        members.setdefault(number, []).append((score / 10, label))
    gaps = [abs(sum(s for s, _ in part) - sum(y for _, y in part)) for part in members.values()]

    scores, labels = np.array([s / 10 for s, _ in rows]), np.array([y for _, y in rows], float)

    found = metrics.calibration_error(scores, labels, bins)
    table = metrics.calibration_bins(scores, labels, bins)
    assert found == pytest.approx(sum(gaps) / len(rows), abs=1e-9)
    assert found == pytest.approx(
        sum(b.rows * abs(b.predicted - b.observed) for b in table) / len(rows), abs=1e-9
    )
    assert sum(b.rows for b in table) == len(rows)
    assert all(a.high < b.low for a, b in itertools.pairwise(table))


def test_one_score_for_all_is_one_bin() -> None:
    (only,) = metrics.calibration_bins(np.full(100, 0.5), np.arange(100) % 2 * 1.0, 15)

    assert (only.rows, only.predicted, only.observed) == (100, 0.5, 0.5)


def test_a_calibrated_model_shows_the_error_of_chance_and_a_wrong_one_more() -> None:
    errors = [metrics.calibration_error(*data(3000, seed=seed)) for seed in range(40)]
    by_chance = calibration_error_by_chance(data(3000)[0])
    scores, labels = data(3000)

    assert np.mean(errors) == pytest.approx(by_chance, rel=0.1)
    assert metrics.calibration_error(scores**2, labels) > 5 * by_chance
