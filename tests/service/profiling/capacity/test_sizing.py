"""Machines and money, held against sums by hand."""

from datetime import UTC, datetime

import msgspec
import pytest

from service.profiling.capacity.sizing import redundant, size
from service.profiling.capacity.values import Assumptions, Measured

MEASURED = Measured(
    model="m@1",
    cpu="c",
    cores=2,
    created=datetime(2026, 1, 1, tzinfo=UTC),
    row_cpu_us=2.0,
    gpu=None,
    gpu_rows_per_s=None,
    story_model="m@1",
    story_cpu="c",
    story_created=datetime(2026, 1, 1, tzinfo=UTC),
    ranking_cpu_us=100.0,
    other_cores=0.0,
)
ASSUMED = Assumptions(
    hit_rate=0.5,
    experiment_share=0.0,
    utilisation=0.5,
    zones=1,
    cores=2,
    replica_gib=0.5,
    gpu_cores=10.0,
    gpu_left=0.25,
    core_price=1.0,
    gib_price=0.0,
    gpu_price=6.0,
)


def assumed(**changes):
    return msgspec.structs.replace(ASSUMED, **changes)


def load(per_s, **changes):
    (found,) = size(MEASURED, assumed(**changes), [per_s]).loads
    return found


def plans(per_s, **changes):
    return {plan.scoring: plan for plan in load(per_s, **changes).plans}


def test_a_ranking_costs_itself_and_the_rows_that_the_cache_does_not_know():
    """100 us + half of 100 rows of 2 us = 200 us; 10,000 a second keep two cores busy."""
    plan = plans(10_000)["CPUs"]

    assert plan.ranking_cpu_us == pytest.approx(200)
    # Two busy cores of replicas with two, used to the half: 2, and one that may be lost.
    assert plan.replicas == 3
    assert plan.gpus == 0


def test_a_gpu_takes_the_rows_and_leaves_their_features():
    found = plans(100_000)

    assert found["GPUs"].ranking_cpu_us == pytest.approx(100 + 100 * 0.25)
    assert found["half on GPUs"].ranking_cpu_us == pytest.approx(100 + 100 * (0.5 + 0.5 * 0.25))
    # 5,000,000 rows/s of 2 us are 10 cores, which is one GPU; used to the half 2, and one more.
    assert found["GPUs"].gpus == 3
    assert found["half on GPUs"].gpus == 2


def test_events_cost_cpu_time_only_in_experiments():
    changes = {"events_per_ranking": 4.0, "event_cpu_us": 50.0}

    assert plans(1000, **changes)["CPUs"].ranking_cpu_us == pytest.approx(200)
    inside = plans(1000, experiment_share=0.5, **changes)["CPUs"]
    assert inside.ranking_cpu_us == pytest.approx(300)


@pytest.mark.parametrize(
    ("need", "zones", "machines"),
    [(0.1, 1, 2), (2.0, 1, 3), (0.1, 3, 3), (2.0, 3, 3), (2.1, 3, 6), (10.0, 2, 20)],
)
def test_what_is_left_of_a_lost_zone_is_enough(need, zones, machines):
    assert redundant(need, zones) == machines
    left = machines - 1 if zones == 1 else machines * (zones - 1) / zones
    assert left >= need


def test_the_price_is_of_all_that_runs():
    """3 replicas of 2 cores; 2 cache servers of one core, 2 event servers of two; 1 a core."""
    plan = plans(10_000)["CPUs"]

    assert plan.price_per_hour == pytest.approx(3 * 2 + 2 + 4)
    assert plan.price_per_month == pytest.approx(12 * 730)
    assert plan.price_three_years == pytest.approx(12 * 730 * 36)
    assert plan.per_million_rankings == pytest.approx(12 / 36)
    assert plan.per_million_predictions == pytest.approx(12 / 36 / 100)


def test_a_gpu_pays_from_the_work_on_that_its_price_buys_of_cores():
    """6 an hour buy six cores, but a quarter of the work stays on them: 8."""
    found = size(MEASURED, ASSUMED, [1000])

    assert found.gpu_pays_from_cores == pytest.approx(8)
    same, more = (plans(10_000_000, gpu_cores=cores, utilisation=1.0) for cores in (8.0, 9.0))
    assert same["GPUs"].price_per_hour == pytest.approx(same["CPUs"].price_per_hour, rel=0.01)
    assert more["GPUs"].price_per_hour < 0.98 * more["CPUs"].price_per_hour


def test_cache_servers_are_as_many_as_memory_and_operations_ask_for():
    few = load(1000, slates=1000)
    big = load(1000, slates=100 * 2**20, slate_bytes=1024, cache_server_gib=30.0)
    busy = load(100_000, cache_operations_per_s=100_000.0)

    assert few.cache_servers == 2
    assert (big.cache_gib, big.cache_servers) == (100.0, 8)
    assert busy.cache_operations_per_s == pytest.approx(150_000)
    assert busy.cache_servers == 2 * 3  # each used to the half


def test_more_events_than_one_event_server_takes_make_more_installations():
    """100,000 rankings/s, a tenth in experiments, an exposure and 4 events each: 50,000/s."""
    changes = {"experiment_share": 0.1, "events_per_ranking": 4.0}
    found = load(100_000, installation_events_per_s=20_000.0, **changes)

    assert found.events_per_s == pytest.approx(50_000)
    assert found.installations == 5
    assert found.cache_servers >= 2 * 5


def test_a_heavier_model_costs_more_on_cpus_and_takes_more_gpus():
    light, heavy = plans(100_000), plans(100_000, heavier=20.0)

    assert heavy["CPUs"].ranking_cpu_us == pytest.approx(100 + 100 * 20)
    # Features are as many as before.
    assert heavy["GPUs"].ranking_cpu_us == pytest.approx(light["GPUs"].ranking_cpu_us)
    assert heavy["GPUs"].gpus > light["GPUs"].gpus


def test_a_measured_gpu_goes_before_the_assumption():
    measured = msgspec.structs.replace(MEASURED, gpu="X", gpu_rows_per_s=1_000_000.0)
    found = size(measured, assumed(heavier=2.0), [100_000])

    assert found.gpu_rows_per_s == pytest.approx(500_000)
    # 5,000,000 rows/s at 500,000 each, used to the half: 20, and one more.
    assert {plan.scoring: plan.gpus for plan in found.loads[0].plans}["GPUs"] == 21
