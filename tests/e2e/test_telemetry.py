"""One trace per request through every step, seen by a real collector; metrics; log lines."""

import time
from datetime import UTC, datetime

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.collector import Collector
from tests.support.server import EXPERIMENTS, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
READ_EVERY_5_S = (
    "podium_impressions_total",
    "podium_clicks_total",
    "podium_units",
    "podium_srm_pvalue",
    "podium_aggregation_backlog",
)
"""Of the experiments' reports, whenever the process that leads has read them."""


@pytest.fixture(scope="module")
def collector():
    receiver = Collector()
    yield receiver
    receiver.close()


def environ(collector):
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": "ranking",
    }


@pytest.fixture(scope="module")
def traced(collector):
    with serving(experiments=EXPERIMENTS, environ=environ(collector)) as server:
        yield server


@pytest.fixture(scope="module")
def quiet(collector):
    """Without an experiment."""
    with serving(environ=environ(collector)) as server:
        yield server


def spans_of(collector, trace, root):
    """The spans of a trace, once its server span has come; children end before it."""
    deadline = time.monotonic() + 30
    while True:
        found = [span for span in collector.spans if span.trace_id.hex() == trace]
        if any(span.name == root for span in found):
            return found
        assert time.monotonic() < deadline, [span.name for span in collector.spans]
        time.sleep(0.02)


def test_a_request_is_one_trace_with_its_steps_and_linked_with_its_batch(traced, collector):
    reply = traced.client.post(
        "/v1/rank",
        json={
            "candidates": ["i1", "i2"],
            "user": {"id": "secret-user"},
            "force": {"model": "ranker"},
            "context": {"surface": "default"},
            "timeout_ms": 10_000,
        },
        headers=SAMPLED,
    )
    assert reply.status_code == 200

    spans = spans_of(collector, TRACE, "POST /v1/rank")

    by_name = {span.name: span for span in spans}
    server = by_name["POST /v1/rank"]
    assert server.parent_span_id.hex() == CALLER
    children = {span.name for span in spans if span.parent_span_id == server.span_id}
    assert {"podium.decode", "podium.route", "GET", "podium.queue", "podium.score"} <= children
    batches = [s for s in collector.spans if s.name == "podium.batch"]
    linked = [b for b in batches if any(link.trace_id.hex() == TRACE for link in b.links)]
    assert len(linked) == 1
    assert any(link.span_id == linked[0].span_id for link in server.links)
    engine = [s for s in collector.spans if s.parent_span_id == linked[0].span_id]
    assert [s.name for s in engine] == ["podium.engine"]
    assert collector.resource["service.name"] == "ranking"
    assert not any(b"secret-user" in body for body in collector.bodies)


def test_an_unsampled_caller_is_obeyed(traced, collector):
    trace = "a" * 32
    traced.client.post(
        "/v1/rank",
        json={"candidates": ["i1"]},
        headers={"traceparent": f"00-{trace}-{CALLER}-00"},
    )
    after = "b" * 32
    traced.client.post(
        "/v1/rank",
        json={"candidates": ["i1"]},
        headers={"traceparent": f"00-{after}-{CALLER}-01"},
    )

    spans_of(collector, after, "POST /v1/rank")

    assert not [span for span in collector.spans if span.trace_id.hex() == trace]


def test_an_error_in_a_trace_has_its_code(traced, collector):
    trace = "c" * 32
    traced.client.get(
        "/v1/items/unlisted/recommendations",
        headers={"traceparent": f"00-{trace}-{CALLER}-01"},
    )

    name = "GET /v1/items/{item_id}/recommendations"
    (server,) = [s for s in spans_of(collector, trace, name) if s.name == name]

    values = {pair.key: pair.value.string_value for pair in server.attributes}
    assert values["http.route"] == "/v1/items/{item_id}/recommendations"
    assert "unlisted" not in str(server)


def test_what_events_ask_of_redis_is_a_child_of_their_request(traced, collector):
    user = {"id": "somebody"}
    reply = traced.rank(candidates=["i1", "i2"], user=user, timeout_ms=10_000).json()
    click = {
        "event_id": reply["slate_id"],
        "type": "click",
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][0]["id"],
        "position": 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
    }
    trace = "d" * 32
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    answer = traced.client.post("/v1/events", json=click, headers=headers)
    assert [result["status"] for result in answer.json()["results"]] == ["accepted"]

    spans = spans_of(collector, trace, "POST /v1/events")
    (server,) = [span for span in spans if span.name == "POST /v1/events"]
    (asked,) = [span for span in spans if span.name == "EVALSHA"]
    told = {pair.key: pair.value.string_value for pair in asked.attributes}
    assert (asked.parent_span_id, asked.kind) == (server.span_id, Span.SPAN_KIND_CLIENT)
    assert told["db.system.name"] == "redis"
    assert told["db.operation.name"] == "EVALSHA"


def test_metrics_tell_what_happened(server):
    server.rank(candidates=["i1"], force={"model": "ranker"}, context={"surface": "uncached"})
    server.rank(candidates=["i1"], user={"id": "counted"})

    text = server.client.get("/metrics").text

    for name in (
        "podium_requests_total",
        "podium_request_seconds_bucket",
        "podium_rows_scored_total",
        "podium_batches_total",
        "podium_batch_rows_bucket",
        "podium_queue_seconds_bucket",
        "podium_engine_seconds_bucket",
        "podium_cache_total",
        "podium_exposures_total",
        "podium_queue_depth_rows",
        "podium_engine_state",
        "podium_engine_status",
        "podium_fallbacks_total",
        "podium_engine_failures_total",
        "podium_events_kept_total",
        "podium_exposures_kept_total",
        "podium_spool_total",
        "podium_aggregation_total",
        "podium_model_info",
        "http_server_request_duration_seconds_bucket",
        "db_client_operation_duration_seconds_bucket",
    ):
        assert f"\n{name}{{" in text or f"\n{name} " in text, name
    for lost in (
        'podium_exposures_kept_total{result="dropped"} 0.0',
        'podium_spool_total{result="damaged_segments"} 0.0',
        'podium_aggregation_total{result="unreadable"} 0.0',
    ):
        assert lost in text
    assert 'podium_aggregation_total{result="failures"}' in text
    assert 'precision="fp32"' in next(
        line for line in text.splitlines() if line.startswith("podium_engine_state{")
    )


def test_a_request_that_no_experiment_serves_counts_for_no_variant(server):
    def counted(variant):
        lines = server.client.get("/metrics").text.splitlines()
        ours = [line for line in lines if line.startswith("podium_request_seconds_count{")]
        found = [line for line in ours if f'variant="{variant}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    names = ("none", "model:ranker", "model:popularity")
    before = [counted(name) for name in names]
    nobody = server.rank(candidates=["i1"]).json()
    forced = server.rank(candidates=["i1"], force={"model": "popularity"}).json()

    assert [counted(name) - old for name, old in zip(names, before, strict=True)] == [1, 0, 1]
    assert nobody["experiments"][0]["reason"] == "TARGETING_KEY_MISSING"
    assert forced["experiments"][0]["reason"] == "FORCED"


def test_openmetrics_is_given_where_it_is_asked_for(server):
    answer = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text"})

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert list(text_string_to_metric_families(answer.text))


def test_paths_and_surfaces_that_strangers_make_up_add_no_series(server):
    def make_up(n):
        server.client.get(f"/nope/{n}")
        server.client.get(f"/v1/items/x{n}/recommendations")
        server.rank(candidates=["i1"], context={"surface": f"s{n}"}, force={"model": "ranker"})
        lines = server.client.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith(READ_EVERY_5_S)}

    # The same request twice: the first is computed, the second cached.
    series = [make_up(n) for n in (0, 0, *range(1, 50))]

    assert series[-1] == series[2]


@pytest.mark.parametrize(
    ("root", "path", "body"),
    [
        ("POST /v1/rank", "/v1/rank", {"candidates": ["i1", "i2"], "timeout_ms": 10_000}),
        ("GET /v1/items/{item_id}/recommendations", "/v1/items/i1/recommendations", None),
    ],
    ids=["rank", "item page"],
)
def test_both_lanes_leave_the_same_trace(quiet, collector, root, path, body):
    """What uvicorn is given for its odd header, and what the express lane answers itself."""
    steps = []
    for lines in ({}, {}, {"TE": "trailers"}):  # the first leaves the slate in the cache
        trace = f"{len(collector.spans) + 1:032x}"
        headers = {"traceparent": f"00-{trace}-{CALLER}-01", **lines}
        reply = quiet.client.request("POST" if body else "GET", path, json=body, headers=headers)
        assert reply.status_code == 200
        spans = spans_of(collector, trace, root)
        steps.append(sorted((span.name, told_of(span)) for span in spans))

    assert steps[1] == steps[2]


def told_of(span):
    """The attributes of a span that are not figures."""
    return sorted(
        (a.key, a.value.string_value) for a in span.attributes if a.value.HasField("string_value")
    )
