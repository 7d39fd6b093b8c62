from hypothesis import given
from hypothesis import strategies as st

from service.breaker import Breaker


def breaker(failures: int = 3, jitter: float = 0.5) -> Breaker:
    return Breaker(failures=failures, probe_s=1.0, jitter=lambda: jitter)


def fail(b: Breaker, at: float) -> bool:
    return b.failed(started=at, now=at)


def opened() -> Breaker:
    b = breaker()
    b.trip(10.0)
    return b


def test_it_opens_after_enough_failures_in_a_row_and_says_so_once():
    b = breaker(failures=3)

    assert [fail(b, at) for at in (1.0, 2.0, 3.0, 4.0)] == [False, False, True, False]
    assert b.state == "open"
    assert b.opened == 1


def test_a_success_between_failures_starts_the_count_again():
    b = breaker(failures=2)
    fail(b, 1.0)
    b.succeeded()
    fail(b, 2.0)

    assert b.state == "closed"


def test_calls_that_fail_together_count_once():
    """One pause of the event loop fails every call in flight; that is one sign, not many."""
    b = breaker(failures=2)
    for _ in range(100):
        b.failed(started=1.0, now=1.02)
    assert b.state == "closed"

    b.failed(started=1.03, now=1.05)
    assert b.state == "open"


def test_closed_it_lets_everything_through():
    assert all(breaker().admits(now) for now in (0.0, 0.0, 5.0))


def test_open_it_lets_one_probe_through_per_interval():
    b = opened()

    assert [b.admits(now) for now in (10.5, 10.99, 11.0, 11.0, 11.5, 12.0)] == [
        *(False, False, True),
        *(False, False, True),
    ]


def test_a_probe_that_goes_well_closes_it():
    b = opened()
    assert b.admits(11.0)
    b.succeeded()

    assert b.state == "closed"
    assert b.admits(11.0)


def test_a_probe_that_fails_keeps_it_open_until_the_next():
    b = opened()
    assert b.admits(11.0)
    assert not fail(b, 11.0)

    assert b.state == "open"
    assert not b.admits(11.5)
    assert b.admits(12.0)


def test_a_probe_that_never_reports_does_not_block_the_next():
    b = opened()
    assert b.admits(11.0)

    assert b.admits(12.0)


@given(st.floats(0, 1, exclude_max=True))
def test_probes_are_spread_over_a_quarter_to_either_side(jitter):
    b = breaker(jitter=jitter)
    b.trip(10.0)

    assert 10.75 <= b.probe_at <= 11.25


def test_after_closing_it_takes_as_many_failures_as_before_to_open_again():
    b = opened()
    b.succeeded()

    assert [fail(b, at) for at in (11.0, 12.0, 13.0)] == [False, False, True]
    assert b.opened == 2
