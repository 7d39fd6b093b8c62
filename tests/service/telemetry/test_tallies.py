"""The cheap counts say what the client library's say, on every kind of page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from service.telemetry import tallies
from service.telemetry.instruments import SECONDS_BUCKETS

LABELS = ("surface", "outcome")
values = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10)), max_size=20)


@given(values)
def test_a_histogram_is_the_librarys(observed):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    lean = tallies.histogram(ours, "x_seconds", "Time", *LABELS, bounds=SECONDS_BUCKETS)
    full = Histogram("x_seconds", "Time", LABELS, buckets=SECONDS_BUCKETS, registry=theirs)
    for surface, value in observed:
        lean[surface, "ok"].observe(value)
        full.labels(surface, "ok").observe(value)

    assert samples(ours) == samples(theirs)


@pytest.mark.parametrize("bound", SECONDS_BUCKETS)
def test_a_value_on_a_bound_is_below_it(bound):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallies.histogram(ours, "x", "X", bounds=SECONDS_BUCKETS)[()].observe(bound)
    Histogram("x", "X", buckets=SECONDS_BUCKETS, registry=theirs).observe(bound)

    assert samples(ours) == samples(theirs)


def test_counters_and_gauges_are_the_librarys():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = tallies.counter(ours, "x_total", "X", "result")
    gauge = tallies.gauge(ours, "y", "Y")[()]
    full = Counter("x_total", "X", ["result"], registry=theirs)
    level = Gauge("y", "Y", registry=theirs)
    for result, by in (("hit", 1), ("miss", 2), ("hit", 3)):
        counter[result,].inc(by)
        full.labels(result).inc(by)
    for _ in range(3):
        gauge.inc()
        level.inc()
    gauge.dec()
    level.dec()

    assert samples(ours) == samples(theirs)
    assert generate_latest(ours) == without_created(generate_latest(theirs))


def test_the_newest_exemplar_of_a_bucket_is_shown():
    registry = CollectorRegistry()
    seconds = tallies.histogram(registry, "x", "X", bounds=(1.0,))[()]
    seconds.observe(0.1, {"trace_id": "a"})
    seconds.observe(0.2, {"trace_id": "b"})
    seconds.observe(0.3)
    seconds.observe(7.0, {"trace_id": "c"})

    page = open_metrics(registry).decode()

    assert 'x_bucket{le="1.0"} 3.0 # {trace_id="b"} 0.2 ' in page
    assert 'x_bucket{le="+Inf"} 4.0 # {trace_id="c"} 7.0 ' in page


def samples(registry):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def without_created(page):
    lines = page.splitlines(keepends=True)
    return b"".join(line for line in lines if b"_created" not in line)
