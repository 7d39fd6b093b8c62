"""When a batch leaves, told by tables: no queue, no time."""

import pytest

from service.batching.policy import AT_ONCE, PRIORITY_PENALTY_S, Departure, departure
from service.settings import BatchPolicy

ADAPTIVE = BatchPolicy(
    max_batch_rows=400,
    preferred_batch_rows=256,
    max_queue_delay_s=0.005,
    instances=2,
    execution="thread",
)
FIXED = BatchPolicy(mode="fixed", max_batch_rows=400, preferred_batch_rows=256)


@pytest.mark.parametrize(
    ("waiting_rows", "executing", "expected"),
    [
        (1, 0, Departure(AT_ONCE, "idle")),
        (255, 0, Departure(AT_ONCE, "idle")),
        (255, 1, Departure(10.005, "delay")),
        (256, 1, Departure(AT_ONCE, "preferred")),
        (400, 1, Departure(AT_ONCE, "full")),
        (400, 2, None),
        (0, 0, None),
    ],
)
def test_adaptive_waits_only_while_other_work_is_under_way(waiting_rows, executing, expected):
    assert expected == departure(
        ADAPTIVE, waiting_rows=waiting_rows, oldest_arrival=10.0, executing=executing
    )


@pytest.mark.parametrize(
    ("waiting_rows", "executing", "expected"),
    [
        (1, 0, Departure(10.005, "delay")),
        (256, 0, Departure(AT_ONCE, "preferred")),
        (400, 0, Departure(AT_ONCE, "full")),
        (400, 1, None),
        (0, 0, None),
    ],
)
def test_fixed_waits_for_company_on_an_idle_engine_too(waiting_rows, executing, expected):
    assert expected == departure(
        FIXED, waiting_rows=waiting_rows, oldest_arrival=10.0, executing=executing
    )


def test_a_preference_that_no_batch_reaches_is_refused():
    with pytest.raises(ValueError, match=r"preferred_batch_rows is 256, .* max_batch_rows is 100"):
        BatchPolicy(max_batch_rows=100, preferred_batch_rows=256)


def test_a_low_job_that_is_overtaken_by_all_it_can_be_still_makes_the_default_timeout():
    assert PRIORITY_PENALTY_S["high"] < PRIORITY_PENALTY_S["normal"] < PRIORITY_PENALTY_S["low"]
    assert PRIORITY_PENALTY_S["low"] - PRIORITY_PENALTY_S["high"] < 0.050


def test_the_event_loops_thread_is_one_instance():
    with pytest.raises(ValueError, match='more than one instance needs execution = "thread"'):
        BatchPolicy(instances=2, execution="inline")
