"""Figures of several processes as one page: sums, declared gauges, exemplars, and the departed."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from service.telemetry import names
from service.telemetry.instruments import Asked, Instruments
from service.telemetry.merging import Totals, merged_page, snapshot
from service.telemetry.triton import TritonNames

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Process:
    """Some instruments of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("asked", "Asked", ["who"], registry=self.registry)
        self.seconds = Histogram(
            "took_seconds", "Took", ["who"], buckets=(0.1, 1.0), registry=self.registry
        )
        self.well = Gauge("podium_engine_state", "Well", ["engine"], registry=self.registry)
        self.depth = Gauge("podium_inflight", "Under way", registry=self.registry)

    def snapshot(self) -> bytes:
        return snapshot(self.registry.collect())


def values(page: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (
            sample.name,
            tuple(v for _, v in sorted(sample.labels.items(), reverse=True)),
        ): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }


@pytest.fixture
def two():
    return Process(), Process()


def test_counters_and_histograms_add_up_and_series_of_one_process_stay(two):
    one, other = two
    one.counter.labels("a").inc(2)
    other.counter.labels("a").inc(3)
    other.counter.labels("b").inc()
    one.seconds.labels("a").observe(0.05)
    other.seconds.labels("a").observe(0.5)
    other.seconds.labels("b").observe(5)

    found = values(merged_page([one.snapshot(), other.snapshot()], OPENMETRICS)[0])

    assert found["asked_total", ("a",)] == 5
    assert found["asked_total", ("b",)] == 1
    assert found["took_seconds_bucket", ("a", "0.1")] == 1
    assert found["took_seconds_bucket", ("a", "1.0")] == 2
    assert found["took_seconds_count", ("a",)] == 2
    assert found["took_seconds_sum", ("a",)] == pytest.approx(0.55)
    assert found["took_seconds_bucket", ("b", "+Inf")] == 1


def test_gauges_follow_their_rule(two):
    for process, well, depth in zip(two, (1, 0), (3, 4), strict=True):
        process.well.labels("e").set(well)
        process.depth.set(depth)

    found = values(merged_page([p.snapshot() for p in two], OPENMETRICS)[0])

    assert found["podium_engine_state", ("e",)] == 0
    assert found["podium_inflight", ()] == 7


def test_the_newest_exemplar_survives(two):
    one, other = two
    other.seconds.labels("a").observe(0.05, {"trace_id": "first"})
    one.seconds.labels("a").observe(0.06, {"trace_id": "second"})

    page, content_type = merged_page([one.snapshot(), other.snapshot()], OPENMETRICS)

    assert content_type.startswith("application/openmetrics-text")
    (bucket,) = [
        sample
        for family in parse(page.decode())
        for sample in family.samples
        if sample.labels.get("le") == "0.1"
    ]
    assert bucket.exemplar is not None
    assert bucket.exemplar.labels == {"trace_id": "second"}


def test_what_ended_keeps_its_counts_and_loses_its_gauges(two):
    one, other = two
    one.counter.labels("a").inc(2)
    one.depth.set(9)
    other.counter.labels("a").inc(1)
    departed = Totals()
    departed.keep_counts_of(one.snapshot())
    departed.keep_counts_of(other.snapshot())

    found = values(merged_page([departed.snapshot(), other.snapshot()], OPENMETRICS)[0])

    assert found["asked_total", ("a",)] == 4
    assert found["podium_inflight", ()] == 0


def test_one_process_gives_the_page_that_it_would_render_itself():
    instruments = Instruments()
    instruments.http_seconds["POST", "http", "/v1/rank", "200"].observe(0.003)
    instruments.requests["default", "none", "none", "ok"].inc()
    families = list(instruments.registry.collect())

    class Frozen(CollectorRegistry):
        def collect(self):
            return iter(families)

    assert merged_page([snapshot(families)], "")[0] == generate_latest(Frozen())


def test_what_several_read_of_one_store_is_not_added_up():
    def read(clicks: int) -> bytes:
        rows = {("new",): clicks}
        asked = Asked(CounterMetricFamily, names.M_CLICKS, "Clicks", ("variant",), lambda: rows)
        return snapshot(asked.collect())

    earlier, later = read(7), read(9)
    departed = Totals()
    departed.keep_counts_of(later)

    def shown(*snapshots: bytes) -> float | None:
        return values(merged_page(snapshots, OPENMETRICS)[0]).get(("podium_clicks_total", ("new",)))

    assert shown(earlier, later) == 9
    assert shown(departed.snapshot()) is None


def test_counts_under_other_names_are_added_up_and_kept_as_well():
    one, other = CollectorRegistry(), CollectorRegistry()
    for registry, batches in ((one, 2), (other, 3)):
        TritonNames(registry)._counted[names.T_EXEC_COUNT]["market", "1"].inc(batches)
    departed = Totals()
    departed.keep_counts_of(snapshot(one.collect()))

    both = [departed.snapshot(), snapshot(other.collect())]
    found = values(merged_page(both, OPENMETRICS)[0])

    assert found["nv_inference_exec_count", ("1", "market")] == 5
