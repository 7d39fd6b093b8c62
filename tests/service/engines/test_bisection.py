"""How the guilty are found among jobs that failed together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engines.bisection import Bisection


def tried(jobs: int, guilty: set[int]) -> tuple[set[int], int, bool]:
    """The jobs that were scored, the calls that took, and whether the engine is acquitted."""
    bisection, scored, calls = Bisection(range(jobs)), set[int](), 0
    while (piece := bisection.take()) is not None:
        calls += 1
        if guilty & {*piece}:
            bisection.failed(piece)
        else:
            scored |= {*piece}
            bisection.scored()
    return scored, calls, bisection.acquits


@given(st.data())
def test_one_guilty_job_alone_fails_after_few_calls(data):
    jobs = data.draw(st.integers(2, 100))
    guilty = data.draw(st.integers(0, jobs - 1))

    scored, calls, acquits = tried(jobs, {guilty})

    assert scored == {*range(jobs)} - {guilty}
    assert acquits
    assert calls <= 2 * math.ceil(math.log2(jobs))


@given(st.data())
def test_two_guilty_jobs_never_take_their_neighbours_with_them(data):
    jobs = data.draw(st.integers(3, 100))
    guilty = data.draw(st.sets(st.integers(0, jobs - 1), min_size=2, max_size=2))

    scored, _, _ = tried(jobs, guilty)

    assert scored == {*range(jobs)} - guilty


@pytest.mark.parametrize("jobs", [2, 3, 4, 10, 100, 1000])
def test_a_dead_engine_is_asked_no_more_often_than_a_few_times(jobs):
    scored, calls, acquits = tried(jobs, {*range(jobs)})

    assert (scored, acquits) == (set(), False)
    assert calls <= 2 + math.ceil(math.log2(jobs))


@given(st.data())
def test_nobody_guilty_is_ever_scored_and_it_always_ends(data):
    jobs = data.draw(st.integers(2, 60))
    guilty = data.draw(st.sets(st.integers(0, jobs - 1), min_size=1))

    scored, calls, acquits = tried(jobs, guilty)

    assert not scored & guilty
    assert acquits == bool(scored)
    assert calls <= 2 * jobs
