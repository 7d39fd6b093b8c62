"""A proof goes on after a failure, and stops when it must."""

import pytest

from ranking_models.errors import InputError
from service.doctor.proof.sections import Course, Trouble, not_run
from service.engines.cuda import DeviceLost
from service.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def course(clock):
    return Course(clock, 10, lambda what: None)


def raising(error):
    def act(*args):
        raise error

    return act


def test_what_went_well_is_figures(course):
    section = course.section("times", lambda trouble: (1, 2))

    assert (section.outcome, section.reasons, section.figures) == ("passed", (), (1, 2))


def test_a_failure_of_ours_is_told_as_it_is(course):
    section = course.section("times", raising(InputError("no such\n graph")))

    assert (section.outcome, section.reasons) == ("failed", ("times: no such graph",))


def test_any_other_exception_is_told_with_its_place(course):
    (reason,) = course.section("times", raising(TypeError("incompatible"))).reasons

    assert reason.startswith("times: TypeError: incompatible (at test_sections.py:")


def test_figures_measured_before_a_failure_are_kept(course):
    def act(trouble):
        return tuple(
            found for part in (3, 0) if (found := trouble.attempt(str(part), divmod, 6, part))
        )

    section = course.section("times", act)

    assert (section.outcome, section.figures) == ("failed", ((2, 0),))
    assert section.reasons[0].startswith("0: ZeroDivisionError")


def test_after_a_lost_device_nothing_runs(course):
    first = course.section("load", raising(DeviceLost("cudaMalloc", "cudaErrorUnknown")))
    later = course.section("times", lambda trouble: pytest.fail("it ran"))

    assert (first.outcome, later.outcome) == ("failed", "not run")
    assert later.reasons == ("the GPU was lost in load; only a new process can use it again",)


def test_within_a_section_nothing_is_tried_on_a_lost_device():
    trouble = Trouble()
    trouble.attempt("a", raising(DeviceLost("cudaMalloc", "cudaErrorUnknown")))

    assert trouble.attempt("b", pytest.fail) is None
    assert len(trouble.reasons) == 1


def test_when_the_time_is_over_the_rest_is_left_out(course, clock):
    def act(trouble):
        clock.advance(11)
        return (1,) if not course.goes_on("second build", trouble) else ()

    first = course.section("build", act)
    later = course.section("times", lambda trouble: pytest.fail("it ran"))

    assert (first.outcome, first.figures) == ("passed", (1,))
    assert first.left_out == ("second build: the time was over (--seconds gives more)",)
    assert (later.outcome, course.left_s) == ("not run", 0.0)


def test_a_doubt_is_no_failure_and_a_failure_hides_it():
    trouble = Trouble()
    trouble.doubt("too fast to see")
    assert trouble.outcome == "inconclusive"

    trouble.add("wrong")
    assert trouble.outcome == "failed"


def test_what_was_not_run_has_a_reason_and_no_figures():
    section = not_run("no TensorRT")

    assert (section.outcome, section.reasons, section.figures) == (
        "not run",
        ("no TensorRT",),
        None,
    )
