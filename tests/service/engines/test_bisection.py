"""How the guilty are found among jobs that failed together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engines.bisection import Bisection


def tried(jobs: int, guilty: set[int], vouch: bool = False) -> tuple[set[int], int]:
    """The jobs that were scored, and the calls that took."""
    bisection, scored, calls = Bisection(range(jobs)), set[int](), 0
    while True:
        if bisection.in_doubt and vouch:
            bisection.vouch()
            calls += 1
        if (piece := bisection.take()) is None:
            break
        calls += 1
        if guilty & {*piece}:
            bisection.failed(piece)
        else:
            scored |= {*piece}
            bisection.scored()
    return scored, calls


@given(st.data())
def test_one_guilty_job_alone_fails_after_few_calls(data):
    jobs = data.draw(st.integers(2, 100))
    guilty = data.draw(st.integers(0, jobs - 1))

    scored, calls = tried(jobs, {guilty})

    assert scored == {*range(jobs)} - {guilty}
    assert calls <= 2 * math.ceil(math.log2(jobs))


@given(st.data())
def test_two_guilty_jobs_never_take_their_neighbours_with_them(data):
    jobs = data.draw(st.integers(3, 100))
    guilty = data.draw(st.sets(st.integers(0, jobs - 1), min_size=2, max_size=2))

    scored, _ = tried(jobs, guilty)

    assert scored == {*range(jobs)} - guilty


@pytest.mark.parametrize("jobs", [2, 3, 4, 10, 100, 1000])
def test_a_dead_engine_is_asked_no_more_often_than_a_few_times(jobs):
    scored, calls = tried(jobs, {*range(jobs)})

    assert scored == set()
    assert calls <= 2 + math.ceil(math.log2(jobs))


@given(st.data())
def test_nobody_guilty_is_ever_scored_and_it_always_ends(data):
    jobs = data.draw(st.integers(2, 60))
    guilty = data.draw(st.sets(st.integers(0, jobs - 1), min_size=1))

    scored, calls = tried(jobs, guilty)

    assert not scored & guilty
    assert calls <= 2 * jobs


@given(st.data())
def test_however_many_are_guilty_no_neighbour_of_a_vouched_for_engine_is_left_out(data):
    jobs = data.draw(st.integers(2, 60))
    guilty = data.draw(st.sets(st.integers(0, jobs - 1), min_size=1))

    scored, calls = tried(jobs, guilty, vouch=True)

    assert scored == {*range(jobs)} - guilty
    assert calls <= 2 * jobs + math.log2(jobs), "few of them to ask whether the engine is well"
