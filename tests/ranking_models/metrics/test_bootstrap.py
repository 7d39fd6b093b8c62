"""Resampled figures are those of rows really copied, and intervals cover as they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ranking_models import metrics
from ranking_models.metrics.bootstrap import (
    CELLS,
    Weights,
    basic_interval,
    percentile_interval,
    weighted_auc,
    weights,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 99), st.sampled_from([3, 100]))
def test_a_weighted_auc_is_that_of_the_copied_rows(
    rows: int, users: int, seed: int, levels: int
) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, rows) / levels
    labels, units = random.integers(0, 2, rows).astype(float), random.integers(0, users, rows) * 7
    drawn = weights(units, 6, seed)

    found = weighted_auc(scores, labels, drawn)

    for line, value in zip(drawn.counts, found, strict=True):
        copied = np.repeat(np.arange(rows), line[drawn.unit])
        if len(np.unique(labels[copied])) == 2:
            assert value == pytest.approx(roc_auc_score(labels[copied], scores[copied]), abs=1e-9)
        else:
            assert np.isnan(value)


def test_a_total_is_that_of_the_copied_rows() -> None:
    values, units = np.arange(6.0), np.array([3, 3, 1, 5, 5, 5])
    drawn = weights(units, 20, 1)

    copied = [np.repeat(values, line[drawn.unit]).sum() for line in drawn.counts]

    assert drawn.totals(values) == pytest.approx(copied)


def test_totals_by_group_are_those_of_the_groups_rows() -> None:
    values, units = np.arange(6.0), np.array([3, 3, 1, 5, 5, 5])
    group = np.array([0, 2, 2, 0, 2, 0])
    drawn = weights(units, 20, 1)

    found = drawn.totals_by(values, group)

    assert found.shape == (20, 3)
    for number in range(3):
        assert found[:, number] == pytest.approx(drawn.totals(values * (group == number)))


def test_a_user_is_drawn_with_all_rows_and_as_many_users_as_there_are() -> None:
    drawn = weights(np.array([9, 4, 4, 9, 2]), 50, 3)

    assert drawn.unit.tolist() == [2, 1, 1, 2, 0]
    assert drawn.counts.shape == (50, 3)
    assert set(drawn.counts.sum(axis=1).tolist()) == {3}


def test_users_are_drawn_with_replacement() -> None:
    counts = weights(np.arange(40), 130, 0).counts

    assert counts.astype(float).var() == pytest.approx(1 - 1 / 40, rel=0.1)


def test_the_same_seed_draws_the_same_users() -> None:
    units = np.arange(30)

    assert (weights(units, 10, 5).counts == weights(units, 10, 5).counts).all()
    assert (weights(units, 10, 5).counts != weights(units, 10, 6).counts).any()


def test_resamples_in_parts_give_the_figures_of_one_part() -> None:
    random = np.random.default_rng(0)
    rows = CELLS // 10  # ten resamples at a time
    scores, labels = random.random(rows), random.integers(0, 2, rows).astype(float)
    drawn = weights(random.integers(0, 50, rows), 12, 0)

    found = weighted_auc(scores, labels, drawn)

    last = Weights(unit=drawn.unit, counts=drawn.counts[10:])
    assert len(list(drawn.parts(rows))) == 2
    assert found[10:] == pytest.approx(weighted_auc(scores, labels, last), abs=1e-12)


def test_the_interval_of_the_auc_covers_the_truth_nineteen_times_in_twenty() -> None:
    """Users differ in taste; an interval that took rows for independent would cover less."""
    truth = metrics.auc(*clustered(40_000, seed=10_000)[:2])
    covered = 0
    for seed in range(100):
        scores, labels, users = clustered(80, seed=seed)
        drawn = weighted_auc(scores, labels, weights(users, 200, seed))
        interval = percentile_interval(metrics.auc(scores, labels), drawn)
        assert interval is not None
        covered += interval.low <= truth <= interval.high

    assert 88 <= covered <= 99


def clustered(users: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten rows per user, whose clicks share a mood that the scores do not know."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 10)
    logit = random.normal(0, 1, len(user))
    mood = random.normal(0, 1.5, users)[user]
    chance = 1 / (1 + np.exp(-logit - mood))
    return 1 / (1 + np.exp(-logit)), (random.random(len(user)) < chance).astype(float), user


def test_an_interval_holds_the_middle_of_the_resamples() -> None:
    interval = percentile_interval(0.5, np.linspace(0, 1, 1001))

    assert interval is not None
    assert (interval.value, interval.low, interval.high) == (0.5, 0.025, 0.975)


def test_a_figure_that_resampling_lifts_has_its_interval_mirrored() -> None:
    lifted = basic_interval(0.02, np.linspace(0.01, 0.05, 1001))
    all_above = basic_interval(0.02, np.linspace(0.03, 0.05, 1001))

    assert lifted is not None
    assert all_above is not None
    assert (lifted.low, lifted.high) == (0.0, pytest.approx(0.029))
    assert (all_above.low, all_above.high) == (0.0, 0.02)


def test_a_figure_that_many_resamples_lack_has_no_interval() -> None:
    resampled = np.linspace(0, 1, 100)
    resampled[:5] = np.nan
    assert percentile_interval(0.5, resampled) is not None

    resampled[5] = np.nan
    assert percentile_interval(0.5, resampled) is None
    assert basic_interval(0.5, resampled) is None
    assert percentile_interval(0.5, np.array([])) is None
