"""Losses: a server of which every tenth call is lost is not worth asking."""

from service.breaker import Breaker
from service.cache.losses import WITHIN_S, Losses

NEVER = 1_000_000
"""Failures in a row that open a breaker by themselves."""


def losses_of(limit: int) -> Losses:
    return Losses(Breaker(failures=NEVER, probe_s=1.0), limit)


def lose(losses: Losses, *times: float) -> list[bool]:
    """Calls that begin and are lost one after the other."""
    return [losses.lost(started=at - 0.0001, now=at) for at in times]


def test_so_many_within_a_second_are_too_many():
    assert lose(losses_of(3), 0.0, 0.1, 0.2) == [False, False, True]


def test_a_second_later_they_are_counted_anew():
    losses = losses_of(3)

    assert lose(losses, 0.0, 0.1, WITHIN_S + 0.01, 1.1) == [False] * 4
    assert lose(losses, 1.2) == [True]


def test_calls_that_are_lost_together_are_one():
    losses = losses_of(2)

    assert not any(losses.lost(started=0.0, now=0.02) for _ in range(50))
    assert losses.lost(started=0.03, now=0.05)


def test_fewer_than_a_tenth_of_the_calls_are_borne():
    losses = losses_of(3)
    assert lose(losses, 0.0) == [False]  # the second begins
    for _ in range(30):
        losses.answered()

    assert lose(losses, 0.1, 0.2) == [False, False]
    assert lose(losses, 0.3) == [True]  # the fourth of 34
