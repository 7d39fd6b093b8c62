"""What ``make chaos`` says of figures, without a fault and without load."""

import math

import msgspec
import numpy as np
import pytest

from tests.chaos.__main__ import conclude, render
from tests.chaos.course import Course
from tests.chaos.load import RESULTS, Met
from tests.chaos.measuring import Row

WELL = Row(
    fault="killed",
    words="SIGKILL",
    client="lean",
    mode="exact",
    requests=1000,
    failed=0,
    wrong=0,
    refused_looks=0,
    problems={},
    results={"hit": 1000},
    counted={"errors": 5},
    rate_per_s=100.0,
    base_p50_ms=1.0,
    base_p99_ms=4.0,
    no_cache_p50_ms=1.0,
    no_cache_p99_ms=5.0,
    until_open_p50_ms=2.0,
    until_open_p99_ms=34.0,
    open_p50_ms=1.0,
    open_p99_ms=7.0,
    opened_after_s=0.1,
    recovery_s=2.0,
    open_cost_ms=0.1,
)


def test_times_at_their_limits_are_kept_and_beyond_them_missed():
    beyond = msgspec.structs.replace(
        WELL, until_open_p99_ms=34.1, open_p99_ms=7.1, recovery_s=2.1, open_cost_ms=0.11
    )

    assert set(WELL.verdicts().values()) == {"kept"}
    assert set(beyond.verdicts().values()) == {"missed"}
    assert render(beyond).count("!") == 4
    assert "!" not in render(WELL)


def test_what_never_recovers_is_missed_and_what_was_not_measured_is_neither():
    row = msgspec.structs.replace(WELL, recovery_s=None, open_cost_ms=None, open_p99_ms=math.nan)

    assert row.verdicts() == {
        "p99 until open": "kept",
        "p99 open": "-",
        "recovery": "missed",
        "cost open": "-",
    }


def test_missed_times_do_not_fail_a_run_and_broken_counts_do(capsys):
    late = msgspec.structs.replace(WELL, recovery_s=9.0)
    conclude([WELL, late], 3.0)
    assert "2,000 replies checked in 3 s: 0 failed, 0 wrong; 1 promises" in capsys.readouterr().out

    for broken in ({"failed": 1}, {"wrong": 1}, {"refused_looks": 1}):
        with pytest.raises(SystemExit, match="killed with lean"):
            conclude([WELL, msgspec.structs.replace(WELL, **broken)], 3.0)


def test_a_phase_holds_the_requests_that_were_due_in_it():
    met = met_of(due_s=[1.0, 2.0, 3.0, 4.0], results=["hit", "bypass", "miss", "hit"])

    results = met.between(2.0, 4.0).results()

    assert {name: n for name, n in results.items() if n} == {"bypass": 1, "miss": 1}


def test_recovery_ends_when_the_cache_is_well_and_asked_again():
    met = met_of(due_s=[1.0, 6.2, 6.8, 7.5], results=["hit", "bypass", "miss", "hit"])
    course = course_of(met)

    assert course.recovery_s == pytest.approx(0.8)
    assert msgspec.structs.replace(course, well_s=7.0).recovery_s == pytest.approx(1.0)
    assert msgspec.structs.replace(course, well_s=None).recovery_s is None


def test_a_cache_that_is_taken_back_and_left_alone_again_counts_for_both():
    met = met_of(due_s=[1.0, 2.2, 2.6, 3.5, 4.5, 6.5], results=["hit", "error"] + ["bypass"] * 4)
    beside = met_of(due_s=[2.7, 3.5], results=["bypass", "hit"])
    course = course_of(met, beside=beside, left_alone_s=((2.5, 3.0), (4.0, 7.0)))

    assert course.while_alone.due_s.tolist() == [2.6, 4.5]
    assert course.while_used.due_s.tolist() == [2.2, 3.5]
    assert course.answered(2.5, 3.0) == 2


def course_of(
    met: Met, *, beside: Met | None = None, left_alone_s: tuple[tuple[float, float], ...] = ()
) -> Course:
    """Of a fault from 2 to 6 s, left alone from 2.5 s on and well again at 6.5 s."""
    return Course(
        met=met,
        beside=beside,
        began_s=2.0,
        ended_s=6.0,
        opened_s=2.5,
        well_s=6.5,
        counted={},
        refused_looks=0,
        left_alone_s=left_alone_s,
        alone=(),
    )


def met_of(*, due_s: list[float], results: list[str]) -> Met:
    return Met(
        due_s=np.array(due_s),
        latency_s=np.full(len(due_s), 0.001),
        codes=np.array([RESULTS.index(one) for one in results], np.int8),
        problems={},
        gone=0,
    )
