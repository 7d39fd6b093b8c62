"""A worker that ended comes back soon, one that keeps ending less and less often."""

from service.processes.restarts import FIRST_DELAY_S, LONGEST_DELAY_S, STEADY_AFTER_S, Restarts


def test_the_first_restart_comes_soon_and_the_next_later_up_to_a_limit():
    restarts = Restarts()

    delays = [restarts.after(1.0) for _ in range(10)]

    assert delays[0] == FIRST_DELAY_S
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S


def test_after_a_steady_time_the_delay_is_short_again():
    restarts = Restarts()
    for _ in range(5):
        restarts.after(1.0)

    assert restarts.after(STEADY_AFTER_S) == FIRST_DELAY_S


def test_three_ends_in_a_row_before_it_could_serve_are_hopeless():
    restarts = Restarts()
    for _ in range(2):
        restarts.after(None)
    assert not restarts.hopeless

    restarts.after(1.0)
    for _ in range(2):
        restarts.after(None)
    assert not restarts.hopeless

    restarts.after(None)
    assert restarts.hopeless
