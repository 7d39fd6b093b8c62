"""When a batch leaves, told by tables: no queue, no time."""

import pytest

from service.batching.outlook import BatchTime
from service.batching.policy import (
    AT_ONCE,
    PRIORITY_PENALTY_S,
    Departure,
    Limits,
    Waiting,
    departure,
)
from service.settings import BatchPolicy

ADAPTIVE = Limits.of(
    BatchPolicy(max_batch_rows=400, preferred_batch_rows=256, instances=2, execution="thread")
)
FIXED = Limits.of(BatchPolicy(mode="fixed", max_batch_rows=400, preferred_batch_rows=256))

SERIAL = BatchTime(fixed_s=0.001, row_s=1e-6, serial_share=1.0)
PARALLEL = BatchTime(fixed_s=0.001, row_s=1e-6, serial_share=0.0)


def waiting(rows=10, jobs=1, **more):
    return Waiting(rows=rows, jobs=jobs, oldest_arrival=10.0, newest_arrival=10.001, **more)


@pytest.mark.parametrize("limits", [ADAPTIVE, FIXED])
@pytest.mark.parametrize(
    ("rows", "reason"), [(256, "preferred"), (399, "preferred"), (400, "full")]
)
@pytest.mark.parametrize("executing", [0, 1])
def test_enough_rows_leave_at_once(limits, rows, reason, executing):
    assert departure(limits, waiting(rows, executing=executing)) == Departure(AT_ONCE, reason)


@pytest.mark.parametrize("executing", [0, 1])
def test_fixed_waits_for_company_whatever_has_been_learnt(executing):
    now = waiting(executing=executing, gap_s=1.0, batch_time=PARALLEL)

    assert departure(FIXED, now) == Departure(10.005, "delay")


def test_a_lone_job_leaves_at_once_while_nothing_is_known():
    assert departure(ADAPTIVE, waiting()) == Departure(AT_ONCE, "idle")


@pytest.mark.parametrize("batch_time", [SERIAL, PARALLEL])
def test_a_lone_job_leaves_at_once_when_others_come_seldom(batch_time):
    now = waiting(gap_s=0.001, batch_time=batch_time)

    assert departure(ADAPTIVE, now) == Departure(AT_ONCE, "idle")


def test_a_job_waits_for_one_that_will_come_sooner_than_the_wait_costs():
    """1 ms of fixed cost for two jobs: half a millisecond of waiting each, less their rows."""
    now = waiting(rows=10, gap_s=0.0001, batch_time=SERIAL)

    leaving = departure(ADAPTIVE, now)

    assert leaving.reason == "no_company"
    assert leaving.at == pytest.approx(10.001 + (0.001 - 10e-6) / 2)


def test_the_more_wait_the_less_another_one_is_worth_waiting_for():
    def leaving(jobs):
        return departure(ADAPTIVE, waiting(rows=10, jobs=jobs, gap_s=0.0001, batch_time=SERIAL))

    assert leaving(2).at < leaving(1).at
    assert leaving(20).reason == "idle"


def test_rows_that_cost_more_than_a_call_are_not_worth_gathering():
    cpu = BatchTime(fixed_s=0.0001, row_s=3e-6, serial_share=0.0)

    assert departure(ADAPTIVE, waiting(rows=100, gap_s=1e-6, batch_time=cpu)).reason == "idle"


def test_no_wait_is_longer_than_the_operator_allows():
    slow = BatchTime(fixed_s=1.0, row_s=0.0, serial_share=1.0)

    alone = departure(ADAPTIVE, waiting(gap_s=0.0001, batch_time=slow))
    beside = departure(ADAPTIVE, waiting(executing=1, free_at=11.0, batch_time=slow))

    assert alone == beside == Departure(10.005, "delay")


def test_beside_a_batch_on_the_same_device_a_batch_leaves_when_the_device_comes_free():
    now = waiting(executing=1, free_at=10.003, batch_time=SERIAL)

    assert departure(ADAPTIVE, now) == Departure(10.003, "no_gain")


def test_beside_a_batch_on_another_device_a_batch_leaves_at_once():
    now = waiting(executing=1, free_at=10.003, batch_time=PARALLEL)

    assert departure(ADAPTIVE, now) == Departure(AT_ONCE, "no_gain")


def test_what_the_device_can_do_at_the_same_time_overlaps():
    half = BatchTime(fixed_s=0.001, row_s=0.0, serial_share=0.5)
    now = waiting(executing=1, free_at=10.003, batch_time=half)

    assert departure(ADAPTIVE, now) == Departure(pytest.approx(10.002), "no_gain")


def test_without_any_numbers_batches_suit_a_cpu():
    limits = Limits.of(BatchPolicy())

    assert (limits.max_batch_rows, limits.preferred_batch_rows, limits.instances) == (400, 256, 1)


def test_a_preference_that_no_batch_reaches_is_refused():
    with pytest.raises(ValueError, match=r"preferred_batch_rows is 256, .* max_batch_rows is 100"):
        BatchPolicy(max_batch_rows=100, preferred_batch_rows=256)


def test_a_low_job_that_is_overtaken_by_all_it_can_be_still_makes_the_default_timeout():
    assert PRIORITY_PENALTY_S["high"] < PRIORITY_PENALTY_S["normal"] < PRIORITY_PENALTY_S["low"]
    assert PRIORITY_PENALTY_S["low"] - PRIORITY_PENALTY_S["high"] < 0.050


def test_the_event_loops_thread_is_one_instance():
    with pytest.raises(ValueError, match='more than one instance needs execution = "thread"'):
        BatchPolicy(instances=2, execution="inline")
