"""Bounds for failures that are few, come in clumps, and are read again and again."""

from math import inf, log

import numpy as np
import pytest

from experiments.rollout.rare import evidence_above, highest_silent_ratio, lower_bound


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
    ratios = [highest_silent_ratio(cells, 0.5, confidence=0.95) for cells in (0, 1, 5, 50)]

    assert ratios[0] == inf
    assert sorted(ratios, reverse=True) == ratios
    # Five clicks of the other half and none here: 0.5^5 < 0.05, so equal they are not.
    assert ratios[1] > 1 > ratios[2]
    assert highest_silent_ratio(5, 0.1, confidence=0.95) > 1
