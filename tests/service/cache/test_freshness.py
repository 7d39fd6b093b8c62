"""Lifetimes, and how often a hot slate is computed anew."""

import random
from collections import deque

import numpy as np
import pytest

from service.cache.freshness import Lifetimes

LIFETIMES = Lifetimes(ttl_s=10.0, jitter=0.1, hard_factor=3.0, refresh_beta=1.0)


def test_lifetimes_are_spread_evenly_within_the_jitter_and_the_same_for_every_reader():
    tags = [random.Random(n).randbytes(8) for n in range(2000)]

    ends = [LIFETIMES.soft_s(tag) for tag in tags]

    assert min(ends) >= 9.0
    assert max(ends) <= 11.0
    assert np.histogram(ends, 10, (9.0, 11.0))[0].min() > 140
    assert ends == [LIFETIMES.soft_s(tag) for tag in tags]


@pytest.mark.parametrize(
    ("age_s", "state"),
    [(0.0, "fresh"), (9.99, "fresh"), (10.0, "stale"), (29.9, "stale"), (30.0, "gone")],
)
def test_an_entry_is_fresh_then_stale_then_gone(age_s, state):
    assert LIFETIMES.state(age_s, 10.0) == state


def test_with_a_factor_of_one_nothing_is_ever_stale():
    lifetimes = Lifetimes(ttl_s=10.0, jitter=0.0, hard_factor=1.0, refresh_beta=1.0)

    assert {lifetimes.state(age, 10.0) for age in np.arange(0, 30, 0.1)} == {"fresh", "gone"}


def test_the_closer_the_end_and_the_dearer_the_slate_the_sooner_it_is_due():
    def due(age_s, computed_s):
        draws = np.random.default_rng(1).random(5000)
        return np.mean([LIFETIMES.is_due(age_s, 10.0, computed_s, d) for d in draws])

    assert due(9.0, 0.03) < 0.001
    assert due(9.97, 0.03) == pytest.approx(np.exp(-1), abs=0.03)
    assert due(9.97, 0.03) < due(9.99, 0.03) < due(10.0, 0.03) == 1.0
    assert due(9.97, 0.003) < due(9.97, 0.03) < due(9.97, 0.3)


def test_without_eagerness_nothing_is_due_before_its_end():
    lifetimes = Lifetimes(ttl_s=10.0, jitter=0.1, hard_factor=3.0, refresh_beta=0.0)

    assert not lifetimes.is_due(9.999, 10.0, 5.0, 1 - 1e-16)


@pytest.mark.parametrize("reads_per_s", [10, 100, 1000])
def test_a_hot_slate_is_computed_about_once_per_lifetime_and_nobody_waits(reads_per_s):
    """As measured in the facts: 31 computations at 1,000 reads/s with nothing, 1.0 with both."""
    computed, waited = hot_slate(reads_per_s, LIFETIMES, lifetimes_seen=60)

    assert computed <= 1.1
    assert waited == 0


def hot_slate(reads_per_s, lifetimes, *, lifetimes_seen, compute_s=0.03):
    """Computations per lifetime, and readers who found nothing, on a clock made of numbers."""
    draws, soft_s = random.Random(3), lifetimes.ttl_s
    now, created, computations, waited = 0.0, 0.0, 0, 0
    under_way: deque[float] = deque()
    while now < soft_s * lifetimes_seen:
        now += draws.expovariate(reads_per_s)
        while under_way and under_way[0] <= now:
            created = under_way.popleft()
        age_s = now - created
        waited += lifetimes.state(age_s, soft_s) == "gone"
        due = lifetimes.is_due(age_s, soft_s, compute_s, draws.random())
        if due and not under_way:  # the lock
            computations += 1
            under_way.append(now + compute_s)
    return computations / lifetimes_seen, waited
