"""What the decisions bring, in simulated time: against leaving at once, and against the best."""

import numpy as np
import pytest

from service.batching.queue import BatchQueue
from service.settings import BatchPolicy
from tests.support.batching_simulation import (
    GPU,
    GPU_ROWS,
    Asked,
    Device,
    poisson,
    rows_bound_s,
    simulate,
)

CAPACITY = GPU_ROWS / GPU.seconds(GPU_ROWS)
"""Rows a second of the device in full batches."""

SIDE_BY_SIDE = Device(fixed_s=0.0002, row_s=4e-6, serial=False)
"""Two cores, each with an engine of its own."""


def queue(instances=1, *, rows=GPU_ROWS, **more):
    return BatchQueue(
        BatchPolicy(
            max_batch_rows=rows,
            preferred_batch_rows=rows,
            instances=instances,
            execution="thread",
            max_waiting_rows=1_000_000,
            **more,
        )
    )


def greedy(instances=1, *, rows=GPU_ROWS):
    """A queue that never waits while an instance is free."""
    return queue(instances, rows=rows, mode="fixed", max_queue_delay_s=0.0)


def test_lone_requests_are_scored_as_if_nobody_batched():
    asked = [Asked(at=0.02 * n) for n in range(300)]

    for instances in (1, 2, 3):
        course = simulate(queue(instances), GPU, asked, instances=instances)
        assert max(course.latencies_s[""]) == pytest.approx(GPU.seconds(100))


def test_a_lone_request_after_a_rush_pays_no_wait_either():
    rush = poisson(0.8 * CAPACITY, 0.2, rows=10)
    lone = Asked(at=1.0, rows=10)

    course = simulate(queue(2), GPU, [*rush, lone], instances=2)

    assert course.latencies_s[""][-1] == pytest.approx(GPU.seconds(10))


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_on_one_instance_it_is_never_worse_than_leaving_at_once(load, rows):
    rate = load * CAPACITY
    asked = poisson(rate, 3000 * rows / rate, rows=rows)

    adaptive, at_once = simulate(queue(), GPU, asked), simulate(greedy(), GPU, asked)

    assert adaptive.mean_latency_s <= 1.01 * at_once.mean_latency_s


@pytest.mark.parametrize(
    ("instances", "load", "at_most"),
    [(2, 0.05, 1.0), (2, 0.3, 0.8), (2, 0.7, 0.7), (3, 0.3, 0.6), (3, 0.7, 0.6)],
)
def test_several_instances_on_one_device_gather_what_leaving_at_once_would_scatter(
    instances, load, at_most
):
    rate = load * CAPACITY
    asked = poisson(rate, 3000 * 100 / rate)

    adaptive = simulate(queue(instances), GPU, asked, instances=instances)
    at_once = simulate(greedy(instances), GPU, asked, instances=instances)
    alone = simulate(queue(), GPU, asked)

    assert adaptive.mean_latency_s <= at_most * at_once.mean_latency_s
    assert adaptive.mean_latency_s <= 1.05 * alone.mean_latency_s


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_instances_side_by_side_are_all_used(load):
    rate = 2 * load * 400 / SIDE_BY_SIDE.seconds(400)
    asked = poisson(rate, 3000 * 100 / rate)

    adaptive = simulate(queue(2, rows=400), SIDE_BY_SIDE, asked, instances=2)
    at_once = simulate(greedy(2, rows=400), SIDE_BY_SIDE, asked, instances=2)

    assert adaptive.mean_latency_s <= 1.03 * at_once.mean_latency_s


@pytest.mark.parametrize("timer_s", [0.0, 0.001])
def test_batches_that_take_now_longer_now_shorter_and_coarse_timers_do_not_confuse_it(timer_s):
    asked = poisson(0.5 * CAPACITY, 3000 * 100 / (0.5 * CAPACITY))
    more = {"instances": 2, "noise": 0.2, "timer_s": timer_s}

    adaptive = simulate(queue(2), GPU, asked, **more)
    at_once = simulate(greedy(2), GPU, asked, **more)

    assert adaptive.mean_latency_s <= 0.8 * at_once.mean_latency_s


@pytest.mark.parametrize("instances", [1, 2, 3])
@pytest.mark.parametrize("load", [1.0, 1.5])
def test_at_saturation_it_reaches_95_percent_of_the_best_schedule(instances, load):
    asked = poisson(load * CAPACITY, 0.5, seed=3)

    course = simulate(queue(instances), GPU, asked, instances=instances)

    assert len(course.latencies_s[""]) == len(asked)
    assert rows_bound_s(GPU, GPU_ROWS, asked) >= 0.95 * course.ended_at


def test_at_saturation_requests_of_all_sizes_fill_the_batches_too():
    sizes = np.random.default_rng(0).integers(1, 1001, 10_000)
    asked = [
        Asked(at=one.at, rows=int(size))
        for one, size in zip(poisson(1.1 * CAPACITY, 1.0, rows=500), sizes, strict=False)
    ]

    course = simulate(queue(2), GPU, asked, instances=2)

    assert rows_bound_s(GPU, GPU_ROWS, asked) >= 0.95 * course.ended_at


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_at_twice_the_capacity_as_much_is_scored_in_time_as_at_capacity(instances, noise):
    """Who cannot be in time is refused at the door, and no engine time is spent on the late."""
    asked = [
        Asked(at=one.at, rows=one.rows, left_s=0.05) for one in poisson(2 * CAPACITY, 1.0, seed=5)
    ]

    course = simulate(queue(instances), GPU, asked, instances=instances, noise=noise)

    most = CAPACITY / 100 * 1.05
    assert len(course.latencies_s[""]) >= 0.9 * most
    assert max(course.latencies_s[""]) <= 0.05
    assert course.expired <= 0.05 * most


@pytest.mark.parametrize("instances", [1, 2])
def test_who_comes_again_after_retry_after_is_admitted(instances):
    rush = poisson(2.5 * CAPACITY, 0.3, seed=6)
    calm = poisson(0.4 * CAPACITY, 2.5, seed=7)
    asked = sorted(
        (Asked(at=one.at, left_s=0.05, retries=1) for one in [*rush, *calm]),
        key=lambda one: one.at,
    )

    course = simulate(queue(instances), GPU, asked, instances=instances)

    again = course.admitted_after_retry + course.refused_after_retry
    assert again > 500
    assert course.admitted_after_retry >= 0.8 * again


def test_a_flood_does_not_slow_down_another_deployments_trickle():
    flood = poisson(1.5 * CAPACITY, 0.3, deployment="flood")
    trickle = poisson(0.1 * CAPACITY, 0.3, deployment="trickle", seed=1)
    asked = sorted([*flood, *trickle], key=lambda one: one.at)

    course = simulate(queue(), GPU, asked)

    # A batch under way, and one of its own with the flood's share in it.
    assert max(course.latencies_s["trickle"]) <= 3.5 * GPU.seconds(GPU_ROWS)
    assert np.mean(course.latencies_s["flood"]) > 0.05
