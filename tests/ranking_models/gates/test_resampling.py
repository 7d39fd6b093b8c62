"""The paired bootstrap, against scikit-learn on rows that really are repeated."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ranking_models.gates.resampling import paired_changes
from ranking_models.metrics.bootstrap import weights


def problem(rows: int = 300, users: int = 25, seed: int = 0, decimals: int = 9):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.4).astype(np.float32)
    reference = np.clip(0.3 * labels + random.uniform(0, 0.7, rows), 0, 1)
    candidate = np.clip(reference + random.normal(0, 0.1, rows), 0, 1)
    units = random.integers(0, users, rows) * 7 + 3  # any numbers, not 0..n
    round_ = [np.round(s, decimals).astype(np.float32) for s in (reference, candidate)]
    return round_[0], round_[1], labels, units


def relative(of, reference, candidate, labels) -> float:
    ours, theirs = (of(labels, scores.astype(np.float64)) for scores in (reference, candidate))
    return theirs / ours - 1


@pytest.mark.parametrize("decimals", [9, 1])
def test_the_changes_are_those_of_scikit_learn_with_ties_and_without(decimals):
    reference, candidate, labels, units = problem(decimals=decimals)

    changes = paired_changes(reference, candidate, labels, units)

    wanted = relative(roc_auc_score, reference, candidate, labels)
    assert changes.auc.value == pytest.approx(wanted, abs=1e-9)
    wanted = relative(log_loss, reference, candidate, labels)
    assert changes.log_loss.value == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("decimals", [9, 1])
def test_the_intervals_are_those_of_rows_that_are_really_repeated(decimals):
    """Brute force: every draw lists its users' rows as often as they were drawn."""
    reference, candidate, labels, units = problem(decimals=decimals)
    rows_of = [np.flatnonzero(units == user) for user in np.unique(units)]
    aucs, losses = [], []
    for counts in weights(units, 60, 4).counts:
        drawn = [r for r, n in zip(rows_of, counts, strict=True) for _ in range(int(n))]
        rows = np.concatenate(drawn)
        part = reference[rows], candidate[rows], labels[rows]
        aucs.append(relative(roc_auc_score, *part))
        losses.append(relative(log_loss, *part))

    changes = paired_changes(reference, candidate, labels, units, resamples=60, seed=4)

    for interval, values in ((changes.auc, aucs), (changes.log_loss, losses)):
        low, high = np.percentile(values, (2.5, 97.5))
        assert interval.low == pytest.approx(low, abs=1e-9)
        assert interval.high == pytest.approx(high, abs=1e-9)
        assert interval.low < interval.value < interval.high


def test_the_same_scores_change_nothing_at_all():
    reference, _, labels, units = problem()

    changes = paired_changes(reference, reference.copy(), labels, units)

    for interval in (changes.auc, changes.log_loss):
        assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_users_are_drawn_whole():
    """A log written twice under the same users has no more of them: the interval must not shrink.

    Drawing rows would make it 1.4 times narrower.
    """
    once = paired_changes(*problem())
    twice = paired_changes(*(np.concatenate([part, part]) for part in problem()))

    assert twice.auc.low == pytest.approx(once.auc.low, abs=1e-12)
    assert twice.auc.high == pytest.approx(once.auc.high, abs=1e-12)


def test_a_draw_without_clicks_has_no_auc_and_is_left_out():
    """One user clicked; a third of the draws miss that user, and all is still a number."""
    reference, candidate, _, units = problem(users=10)
    labels = (units == units[0]).astype(np.float32)

    changes = paired_changes(reference, candidate, labels, units)

    assert np.isfinite([changes.auc.low, changes.auc.high]).all()
    assert changes.auc.low < changes.auc.high


def test_one_user_alone_has_no_spread():
    reference, candidate, labels, units = problem()

    changes = paired_changes(reference, candidate, labels, np.zeros_like(units))

    assert changes.auc.low == changes.auc.high == changes.auc.value
    assert changes.log_loss.value == pytest.approx(changes.log_loss.low, abs=1e-12)


def test_a_reference_that_is_always_wrong_still_gives_numbers():
    labels = np.array([0, 1, 0, 1], np.float32)

    changes = paired_changes(1 - labels, labels, labels, np.arange(4))

    assert np.isfinite([changes.auc.value, changes.auc.low, changes.auc.high]).all()
    assert changes.auc.value > 0
