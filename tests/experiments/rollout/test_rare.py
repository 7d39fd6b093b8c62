"""Bounds for failures that are few, come in clumps, and are read again and again."""

from math import inf, log

import numpy as np
import pytest

from experiments.rollout.rare import evidence_above, evidence_below, highest_ratio, lower_bound
from experiments.variant_statistics import CELLS


def test_no_failure_shows_nothing_and_more_failures_show_more():
    bounds = [lower_bound(events, 1_000, confidence=0.95) for events in (0, 5, 20, 100)]

    assert bounds[0] == 0.0
    assert sorted(bounds) == bounds
    assert bounds[-1] < 0.1 < lower_bound(300, 1_000, confidence=0.95)
    assert lower_bound(0, 0, confidence=0.95) == 0.0


def test_the_bound_is_where_the_evidence_is_just_enough():
    bound = lower_bound(20, 1_000, confidence=0.95)

    assert evidence_above(bound, 20, 1_000) == pytest.approx(log(20), abs=1e-6)


def test_a_rate_at_the_limit_is_called_higher_at_any_look_in_one_of_twenty_at_most():
    """Four hundred services that fail at exactly the limit, each looked at a hundred times."""
    rng, limit, alarms = np.random.default_rng(5), 0.05, 0
    for _ in range(400):
        failures = np.cumsum(rng.random(2_000) < limit)
        looks = range(20, 2_000, 20)
        alarms += any(evidence_above(limit, failures[n - 1], n) >= log(20) for n in looks)

    assert 0 < alarms <= 20


def test_silence_says_more_the_more_the_others_click():
    ratios = [highest_ratio(0, cells, 0.5, confidence=0.95) for cells in (0, 1, 5, 50)]

    assert ratios[0] == inf
    assert sorted(ratios, reverse=True) == ratios
    # Five clicks of the other half and none here: 0.5^5 < 0.05, so equal they are not.
    assert ratios[1] > 1 > ratios[2]
    assert highest_ratio(0, 5, 0.1, confidence=0.95) > 1


@pytest.mark.parametrize("share", [0.5, 0.1, 0.8])
def test_a_handful_of_clicks_that_stop_show_a_loss_and_a_handful_of_few_shows_none(share):
    def after(others):
        return highest_ratio(4, others, share, confidence=0.95)

    fair = round(4 * (1 - share) / share)
    assert after(fair) > 1
    bounds = [after(fair * times) for times in (1, 3, 10, 30)]
    assert sorted(bounds, reverse=True) == bounds
    assert bounds[-1] < 0.5
    assert evidence_below(bounds[-1], 4, fair * 30, share) == pytest.approx(log(20), abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_equal_arms_with_heavy_users_are_called_different_in_one_of_twenty_at_most(share):
    """Six hundred experiments of two thousand clicks, of cells that click very unequally; each
    is looked at after every click as long as the treatment has few."""
    rng, alarms = np.random.default_rng(7), 0
    for _ in range(600):
        liking = rng.pareto(1.5, CELLS) + 0.05
        cells = rng.choice(CELLS, 2_000, p=liking / liking.sum())
        treated = rng.random(2_000) < share
        first = np.unique(np.where(treated, cells, cells + CELLS), return_index=True)[1]
        mine = np.cumsum(treated[np.sort(first)])
        looks = range(min(60, len(mine)))
        alarms += any(
            evidence_below(1.0, int(mine[n]), n + 1 - int(mine[n]), share) >= log(20) for n in looks
        )

    assert 0 < alarms <= 30
