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


# --- with a rate ---


def rated(rate: float = 0.5) -> Breaker:
    return Breaker(failures=1000, rate=rate, probe_s=1.0)


def test_it_opens_when_that_share_of_the_last_twenty_calls_failed():
    b = rated()
    for at in range(9):
        fail(b, at)
        b.succeeded()
    fail(b, 9.0)
    assert b.state == "closed", "19 calls are too few to tell"

    assert fail(b, 10.0)
    assert (b.state, b.opened) == ("open", 1)


def test_what_is_longer_ago_than_twenty_calls_is_forgotten():
    b = rated()
    for at in range(9):
        fail(b, at)
    for _ in range(11):
        b.succeeded()
    for at in range(9):
        fail(b, 20.0 + at)
        b.succeeded()

    assert b.state == "closed"


def test_a_call_that_failed_in_part_counts_by_its_part():
    b = rated()
    opened_by = [b.failed_in_part(0.5, at) for at in range(20)]

    assert opened_by == [False] * 19 + [True]


def test_what_fails_in_part_while_it_is_open_opens_it_no_second_time():
    b = rated()
    for at in range(20):
        b.failed_in_part(0.5, at)
    b.failed_in_part(0.5, 20.0)

    assert b.opened == 1


def test_what_is_forgiven_counts_no_more():
    b = rated()
    for at in range(19):
        b.failed_in_part(1.0, at)
    b.forgive()
    for at in range(19):
        b.failed_in_part(1.0, 20.0 + at)

    assert b.state == "closed"


def test_after_closing_the_old_calls_count_no_more():
    b = rated()
    for at in range(20):
        fail(b, at)
    assert b.state == "open"

    b.succeeded()
    fail(b, 30.0)

    assert b.state == "closed"


@given(st.lists(st.sampled_from([0.0, 0.2, 1.0]), max_size=60), st.floats(0.05, 1.0))
def test_it_is_open_only_after_twenty_calls_of_which_enough_failed(shares, rate):
    b, last = rated(rate), []
    for at, share in enumerate(shares):
        on_the_brink = b.is_on_the_brink(share)
        if share == 1.0:
            fail(b, at)
            assert b.is_open == on_the_brink
        elif share:
            b.failed_in_part(share, at)
            assert b.is_open == on_the_brink
        else:
            b.succeeded()
        last = [*last, share][-20:]
        assert b.is_open == (len(last) == 20 and sum(last) >= rate * 20)
        if b.is_open:
            return


def test_without_a_rate_failures_apart_never_open_it():
    b = breaker(failures=3)
    for at in range(100):
        fail(b, 2 * at)
        fail(b, 2 * at + 1)
        b.succeeded()

    assert b.state == "closed"
