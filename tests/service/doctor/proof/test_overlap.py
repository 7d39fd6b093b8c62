"""When marks show that a copy ran during a computation, and when they show nothing."""

import pytest

from service.doctor.proof.figures import Overlap
from service.doctor.proof.overlap import (
    Passed,
    arrives_during_another,
    could_arrive_in_time,
    judge,
    prove_overlap,
)
from service.doctor.proof.rig import Effort, Rig
from service.doctor.proof.sections import Course, Trouble
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.tensor_rt import simulated


class OneThing(dict):
    """When each part of a device is free, of one that has a single part."""

    def get(self, part, default):
        return super().get("all", default)

    def __setitem__(self, part, at_ms):
        super().__setitem__("all", at_ms)


def passed(started, arrived, computed):
    return Passed(
        started=started,
        arrived=arrived,
        computed=computed,
        done=computed + 0.1,
        handed_over=started,
    )


@pytest.fixture
def rig(bundle, gpu, tmp_path):
    """On a host that takes no time."""
    clock = FakeClock()
    return Rig(
        gpu=simulated(gpu),
        bundle=bundle,
        precisions=("fp32",),
        settings=EngineSettings(row_buckets=(16, 64)),
        plans=tmp_path,
        clock=clock,
        course=Course(clock, 60, lambda what: None),
        effort=Effort(overlap_rounds=3),
    )


def test_a_device_with_copy_engines_overlaps_in_every_round(rig):
    trouble = Trouble()

    (found,) = prove_overlap(rig, trouble)

    assert (found.possible, found.overlapping, found.rounds) == (3, 3, 3)
    assert found.together_ms < 3 * found.alone_ms
    assert trouble.outcome == "passed"


def test_a_device_that_does_one_thing_at_a_time_fails(rig, gpu, monkeypatch):
    monkeypatch.setattr(gpu, "_free_ms", OneThing())
    trouble = Trouble()

    (found,) = prove_overlap(rig, trouble)

    assert (found.possible, found.overlapping) == (3, 0)
    assert trouble.reasons == [
        "fp32: in 3 of 3 rounds a batch could have arrived while another was computed, and none did"
    ]


FIRST = passed(0, 1, 5)


@pytest.mark.parametrize(
    ("later", "overlaps"),
    [
        (passed(1.5, 2, 9), True),
        (passed(4, 4.9, 9), True),
        (passed(1.5, 5.2, 9), False),  # the copy waited for the computation
        (passed(0.1, 0.9, 9), False),  # it came before there was a computation
        (passed(6, 7, 9), False),
    ],
)
def test_a_batch_overlaps_if_it_arrives_while_an_earlier_one_is_computed(later, overlaps):
    assert arrives_during_another([FIRST, later]) is overlaps


def test_a_device_that_does_one_thing_at_a_time_never_overlaps():
    serial = [passed(0, 1, 5), passed(0.2, 6.1, 10), passed(0.4, 11.1, 15)]

    assert not arrives_during_another(serial)
    assert could_arrive_in_time(serial, copy_in_ms=1)


def test_the_third_batch_may_arrive_during_the_second():
    assert arrives_during_another([FIRST, passed(5.5, 6, 9), passed(6.5, 7, 12)])


def test_what_is_handed_over_late_could_not_arrive_in_time():
    late = [FIRST, passed(4.5, 5.5, 9)]

    assert not could_arrive_in_time(late, copy_in_ms=1)
    assert could_arrive_in_time(late, copy_in_ms=0.1)


@pytest.mark.parametrize(
    ("possible", "overlapping", "outcome"),
    [(5, 3, "passed"), (0, 2, "passed"), (5, 0, "failed"), (0, 0, "inconclusive")],
)
def test_only_what_could_overlap_must_have(possible, overlapping, outcome):
    trouble = Trouble()
    figures = Overlap(
        precision="fp32",
        rows=64,
        rounds=5,
        possible=possible,
        overlapping=overlapping,
        copy_in_ms=0.1,
        compute_ms=0.2,
        copy_out_ms=0.1,
        alone_ms=0.4,
        together_ms=1.0,
    )

    judge([figures], trouble)

    assert trouble.outcome == outcome
