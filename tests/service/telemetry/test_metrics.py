"""The metrics page: right figures, bounded series, exemplars that a Prometheus can read."""

import asyncio
import platform
from typing import get_args

import msgspec
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.errors import (
    DeadlinePassed,
    DeadlineUnreachable,
    EngineFailed,
    InvalidRequest,
    NotReady,
    QueueFull,
)
from service.messages import EngineStatus, EventResult, FeedbackEvent
from service.telemetry import BatchMember, EngineCall, ExportSettings
from service.testing import FakeClock
from tests.support.figures import page_of

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


def value(telemetry, name: str, **labels: str) -> float | None:
    for family in parse_text(page_of(telemetry)[0].decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def series(telemetry) -> int:
    page = page_of(telemetry)[0].decode()
    return sum(not line.startswith(("#", "process_")) for line in page.splitlines())


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def telemetry(open_telemetry, clock):
    return open_telemetry(export=ExportSettings(), clock=clock)


def rank(
    telemetry, clock, *, surface="home", experiments=(), serving=(), reply=None, error=None
) -> None:
    """A ranking of 4 ms that ends as told."""
    with telemetry.ranking(clock.now()) as ranking:
        ranking.routed(surface, experiments, serving)
        clock.advance(0.004)
        if error is not None:
            raise error
        ranking.answered(reply, candidates=7)


def test_a_ranking_is_counted_by_surface_variant_engine_and_outcome(
    telemetry, clock, make_reply, experiment
):
    rank(telemetry, clock, experiments=(experiment,), serving=(experiment,), reply=make_reply())

    labels = {"surface": "home", "variant": "fp16-rollout:fp16", "engine": "ort-cpu"}
    assert value(telemetry, "podium_requests_total", **labels, outcome="ok") == 1
    seconds = {"variant": "fp16-rollout:fp16", "cache": "miss"}
    assert value(telemetry, "podium_request_seconds_bucket", **seconds, le="0.003") == 0
    assert value(telemetry, "podium_request_seconds_bucket", **seconds, le="0.005") == 1
    assert value(telemetry, "podium_inflight") == 0


def test_a_ranking_counts_for_the_variant_that_serves_it_and_not_for_one_it_is_kept_out_of(
    telemetry, clock, make_reply, experiment, held_out
):
    rank(telemetry, clock, experiments=(held_out,), reply=make_reply())
    both = (held_out, experiment)
    rank(telemetry, clock, experiments=both, serving=(experiment,), reply=make_reply())

    def counted(variant: str) -> float | None:
        return value(telemetry, "podium_request_seconds_count", variant=variant, cache="miss")

    assert counted("none") == 1
    assert counted("fp16-rollout:fp16") == 1
    assert counted("ranker:control") is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidRequest("no"), "invalid"),
        (QueueFull(9, 8, 0.1), "refused"),
        (DeadlineUnreachable(20, 10, 0.1), "refused"),
        (DeadlinePassed(50), "expired"),
        (NotReady("no"), "unavailable"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyError("bug"), "error"),
    ],
)
def test_a_ranking_that_fails_is_counted_by_how_it_failed(telemetry, clock, error, outcome):
    with pytest.raises(type(error)):
        rank(telemetry, clock, error=error)

    labels = {"surface": "home", "variant": "none", "engine": "none", "outcome": outcome}
    assert value(telemetry, "podium_requests_total", **labels) == 1
    assert value(telemetry, "podium_request_seconds_count", variant="none", cache="none") == 1
    assert value(telemetry, "podium_inflight") == 0


def test_a_ranking_under_way_is_in_flight(telemetry, clock, make_reply):
    with telemetry.ranking(clock.now()) as ranking:
        assert value(telemetry, "podium_inflight") == 1
        ranking.answered(make_reply(), candidates=7)
    assert value(telemetry, "podium_inflight") == 0


def test_refusals_are_shed_by_reason_and_passed_deadlines_are_not(telemetry, clock):
    for error in (QueueFull(9, 8, 0.1), DeadlineUnreachable(20, 10, 0.1), DeadlinePassed(50)):
        with pytest.raises(type(error)):
            rank(telemetry, clock, error=error)

    assert value(telemetry, "podium_shed_total", reason="queue_full") == 1
    assert value(telemetry, "podium_shed_total", reason="deadline_unreachable") == 1
    assert value(telemetry, "podium_deadline_exceeded_total") == 1


def test_a_deadline_that_passed_counts_even_if_a_popularity_slate_hid_it(
    telemetry, clock, make_reply
):
    with telemetry.ranking(clock.now()) as ranking:
        ranking.fell_back(DeadlinePassed(50))
        ranking.answered(make_reply(degraded="popularity", result="bypass"), candidates=7)
    with telemetry.ranking(clock.now()) as ranking:
        ranking.fell_back(EngineFailed("gone"))
        ranking.answered(make_reply(degraded="popularity", result="bypass"), candidates=7)

    assert value(telemetry, "podium_deadline_exceeded_total") == 1
    assert value(telemetry, "podium_degraded_total", reason="popularity") == 2
    labels = {"surface": "none", "variant": "none", "engine": "ort-cpu"}
    assert value(telemetry, "podium_requests_total", **labels, outcome="degraded") == 2


def test_the_hit_rate_is_per_candidate_and_a_bypass_is_no_miss(telemetry, clock, make_reply):
    rank(telemetry, clock, reply=make_reply(result="partial"))
    rank(telemetry, clock, reply=make_reply(result="bypass"))

    assert value(telemetry, "podium_cache_total", result="partial") == 1
    assert value(telemetry, "podium_cache_total", result="bypass") == 1
    assert value(telemetry, "podium_cache_candidates_total", result="hit") == 3
    assert value(telemetry, "podium_cache_candidates_total", result="miss") == 4
    assert value(telemetry, "podium_cache_seconds_count") == 1
    assert value(telemetry, "podium_cache_seconds_sum") == pytest.approx(0.0005)


def test_a_batch_is_counted_once_its_rows_by_the_engine_that_scored_them(telemetry, make_batch):
    members = [
        BatchMember(rows=rows, arrived_at=10.0 - waited, deadline_at=10.05, request=None)
        for rows, waited in ((100, 0.004), (28, 0.001))
    ]
    calls = (
        EngineCall(
            engine="tensorrt", rows=128, started_at=10.0, finished_at=10.5, error_type="CudaError"
        ),
        EngineCall(engine="ort-cpu", rows=128, started_at=10.5, finished_at=10.52),
    )
    telemetry.batch(make_batch(*members, calls=calls, finished_at=10.52))

    served = {"model": "market@3f9c2a1b", "engine": "ort-cpu"}
    failed = {"model": "market@3f9c2a1b", "engine": "tensorrt"}
    assert value(telemetry, "podium_rows_scored_total", **served) == 128
    assert value(telemetry, "podium_batches_total", **served) == 1
    assert value(telemetry, "podium_batches_total", **failed) is None
    assert value(telemetry, "podium_engine_failures_total", **failed) == 1
    assert value(telemetry, "podium_engine_seconds_sum", engine="ort-cpu") == pytest.approx(0.02)
    assert value(telemetry, "podium_batch_reason_total", reason="full") == 1
    assert value(telemetry, "podium_batch_rows_sum") == 128
    assert value(telemetry, "podium_queue_seconds_count") == 2
    assert value(telemetry, "podium_queue_seconds_sum") == pytest.approx(0.005)


def test_calls_to_redis_are_measured_and_failed_ones_apart(telemetry, clock):
    cache = telemetry.store("cache", address="10.0.0.7", port=6379)
    with cache.call("MGET"):
        clock.advance(0.002)
    with pytest.raises(TimeoutError), cache.call("MGET"):
        raise TimeoutError

    name = "db_client_operation_duration_seconds"
    labels = {"db_system_name": "redis", "store": "cache", "db_operation_name": "MGET"}
    assert value(telemetry, f"{name}_sum", **labels, error_type="") == pytest.approx(0.002)
    assert value(telemetry, f"{name}_count", **labels, error_type="TimeoutError") == 1


def test_what_alerts_watch_begins_at_0_and_not_with_its_first_event(quiet):
    assert value(quiet, "podium_shed_total", reason="queue_full") == 0
    assert value(quiet, "podium_shed_total", reason="deadline_unreachable") == 0
    assert value(quiet, "podium_degraded_total", reason="fallback_engine") == 0
    assert value(quiet, "podium_cache_total", result="hit") == 0
    assert value(quiet, "podium_telemetry_dropped_total", reason="queue_full") == 0
    quiet.metrics.model_loaded("market", "3f9c2a1b", "fp16", ["tensorrt", "ort-cpu"])
    assert value(quiet, "podium_fallbacks_total", model="market", reason="failed") == 0
    for engine in ("tensorrt", "ort-cpu"):
        assert value(quiet, "podium_engine_failures_total", model="market", engine=engine) == 0


@pytest.mark.parametrize("outcome", ["refused", "expired", "unavailable", "error"])
@pytest.mark.parametrize("surface", ["home", "search", "other", "none"])
def test_a_ranking_that_is_lost_is_an_increase_even_if_it_is_the_first(quiet, surface, outcome):
    labels = {"surface": surface, "variant": "none", "engine": "none"}

    assert value(quiet, "podium_requests_total", **labels, outcome=outcome) == 0


def test_decisions_are_counted_by_experiment_variant_and_reason(
    telemetry, clock, make_reply, experiment, held_out
):
    both = (held_out, experiment)
    for _ in range(2):
        rank(telemetry, clock, experiments=both, serving=(experiment,), reply=make_reply())

    split = {"experiment": "fp16-rollout", "variant": "fp16", "reason": "split"}
    assert value(telemetry, "podium_assignments_total", **split) == 2
    out = {"experiment": "ranker", "variant": "control", "reason": "holdout"}
    assert value(telemetry, "podium_assignments_total", **out) == 2


def test_rows_that_only_fill_a_batch_up_are_its_padding(telemetry, make_batch):
    telemetry.metrics.engine_pads("market@3f9c2a1b", "3f9c2a1b", "ort-cpu", (64, 128))
    for rows in (64, 96, 200):  # exactly one, a quarter of the next, more than any: not padded
        member = BatchMember(rows=rows, arrived_at=10.0, deadline_at=10.05, request=None)
        telemetry.batch(make_batch(member))

    assert value(telemetry, "podium_batch_padding_ratio_count", engine="ort-cpu") == 2
    assert value(telemetry, "podium_batch_padding_ratio_sum", engine="ort-cpu") == 0.25
    telemetry.metrics.forget_models()
    telemetry.batch(make_batch(member))
    assert value(telemetry, "podium_batch_padding_ratio_count", engine="ort-cpu") == 2


def test_the_release_that_runs_is_shown(telemetry):
    labels = {"version": "1.2.3", "python": platform.python_version()}

    assert value(telemetry, "podium_build_info", **labels) == 1


def test_without_an_engine_process_it_never_restarted(telemetry):
    assert value(telemetry, "podium_engine_process_restarts_total") == 0
    telemetry.metrics.engine_process_ended()
    assert value(telemetry, "podium_engine_process_restarts_total") == 1


def test_exposures_are_counted_by_variant(telemetry, experiment):
    telemetry.metrics.exposed((experiment, experiment))

    assert value(telemetry, "podium_exposures_total", variant="fp16-rollout:fp16") == 2


def test_reported_events_are_counted_by_type_and_by_what_became_of_them(telemetry):
    click = FeedbackEvent(
        event_id="e1",
        type="click",
        slate_id="s1",
        item_id="i1",
        position=1,
        timestamp="2026-11-22T12:00:00Z",
    )
    no_event = EventResult(event_id=None, status="rejected", code="invalid_event")
    results = (EventResult(event_id="e1", status="orphan"), no_event)
    telemetry.metrics.events((click, no_event), results)

    assert value(telemetry, "podium_events_total", type="click", status="orphan") == 1
    assert value(telemetry, "podium_events_total", type="other", status="rejected") == 1


def test_counts_that_components_keep_are_on_the_page_as_they_are_now(telemetry):
    cache, kept = {"timeout": 0}, {"server": 5}
    telemetry.metrics.watch_cache_failures(lambda: cache)
    telemetry.metrics.watch_events_kept(lambda: kept)
    telemetry.metrics.watch_exposures_kept(lambda: {"dropped": 2})
    telemetry.metrics.watch_spool(lambda: 0, lambda: 4096, 8192, lambda: {"damaged_segments": 1})
    telemetry.metrics.watch_aggregation(lambda: {"unreadable": 4})
    cache["timeout"] = 3

    assert value(telemetry, "podium_cache_failures_total", reason="timeout") == 3
    assert value(telemetry, "podium_events_kept_total", where="server") == 5
    assert value(telemetry, "podium_exposures_kept_total", result="dropped") == 2
    assert value(telemetry, "podium_spool_total", result="damaged_segments") == 1
    assert value(telemetry, "podium_spool_bytes") == 4096
    assert value(telemetry, "podium_spool_limit_bytes") == 8192
    assert value(telemetry, "podium_aggregation_total", result="unreadable") == 4


def test_gauges_show_how_components_are_at_the_moment_of_asking(telemetry):
    state = {"rows": 5, "engine": "ready", "store": "out", "spool": 0}
    telemetry.metrics.watch_queue("market", "fp16", lambda: state["rows"], lambda: 0)
    telemetry.metrics.watch_engine("market", "fp16", "ort-cpu", lambda: state["engine"])
    telemetry.metrics.watch_store("cache", lambda: state["store"])
    telemetry.metrics.watch_spool(lambda: state["spool"], lambda: 0, 1, dict)
    telemetry.metrics.model_loaded("market", "3f9c2a1b", "fp16")

    model = {"model": "market", "precision": "fp16"}

    def shown() -> list[float | None]:
        return [
            value(telemetry, "podium_queue_depth_rows", **model),
            value(telemetry, "podium_engine_state", **model, engine="ort-cpu"),
            value(telemetry, "podium_store_state", store="cache"),
            value(telemetry, "podium_events_spooled"),
        ]

    before = shown()
    state.update(rows=0, engine="out", store="ready", spool=3)
    assert before == [5, 1.0, 0.0, 0]
    assert shown() == [0, 0.0, 1.0, 3]
    info = {"model": "market", "version": "3f9c2a1b", "precision": "fp16"}
    assert value(telemetry, "podium_model_info", **info) == 1


def test_an_engine_has_one_status_of_the_few_there_are(telemetry):
    status = "loading"
    telemetry.metrics.watch_engine_status("market", "fp16", "tensorrt", lambda: status)
    labels = {"model": "market", "precision": "fp16", "engine": "tensorrt"}

    def shown() -> list[str]:
        return [
            one
            for one in get_args(EngineStatus)
            if value(telemetry, "podium_engine_status", **labels, status=one)
        ]

    assert shown() == ["loading"]
    status = "open"
    assert shown() == ["open"]


def test_batches_that_fell_back_are_counted_by_why(telemetry, make_batch):
    telemetry.metrics.model_loaded("market@3f9c2a1b", "3f9c2a1b", "fp16")
    member = BatchMember(rows=3, arrived_at=10.0, deadline_at=10.05, request=None)
    labels = {"model": "market@3f9c2a1b", "reason": "left_alone"}
    assert value(telemetry, "podium_fallbacks_total", **labels) == 0

    telemetry.batch(make_batch(member))
    telemetry.batch(msgspec.structs.replace(make_batch(member), fallback="left_alone"))

    assert value(telemetry, "podium_fallbacks_total", **labels) == 1


def test_two_precisions_of_one_model_are_shown_apart(telemetry):
    for precision, rows, condition in (("fp32", 7, "ready"), ("fp16", 9, "out")):
        telemetry.metrics.watch_queue("market", precision, lambda rows=rows: rows, lambda: 0)
        telemetry.metrics.watch_engine("market", precision, "ort-cpu", lambda c=condition: c)

    for precision, rows, state in (("fp32", 7, 1.0), ("fp16", 9, 0.0)):
        labels = {"model": "market", "precision": precision}
        assert value(telemetry, "podium_queue_depth_rows", **labels) == rows
        assert value(telemetry, "podium_engine_state", **labels, engine="ort-cpu") == state


async def test_a_flood_of_paths_methods_and_ids_adds_no_series(quiet, open_shop, make_reply):
    shop = open_shop(export=ExportSettings())

    async def flood(tag: str, times: int) -> None:
        async with shop.client() as http:
            for index in range(times):
                await http.get(f"/{tag}/{index}")
                await http.request(f"{tag}{index}", "/v1/rank")
                await http.get(f"/v1/items/{tag}{index}/recommendations?user_id={tag}{index}")
                body = {"surface": f"{tag}{index}", "user": {"id": f"{tag}{index}"}}
                await http.post("/v1/rank", json=body)

    await flood("before", 1)
    few = series(shop.telemetry)
    await flood("after", 100)

    assert series(shop.telemetry) == few
    labels = {"variant": "fp16-rollout:fp16", "engine": "ort-cpu", "outcome": "ok"}
    assert value(shop.telemetry, "podium_requests_total", surface="other", **labels) == 101


async def test_http_durations_carry_the_route_and_never_the_path(open_shop):
    shop = open_shop(export=ExportSettings())
    async with shop.client() as http:
        await http.post("/v1/rank", json={})
        await http.get("/v1/items/i9/recommendations")
        await http.get("/nowhere")

    name = "http_server_request_duration_seconds_count"
    for method, route, status in (
        ("POST", "/v1/rank", "200"),
        ("GET", "/v1/items/{item_id}/recommendations", "404"),
        ("GET", "unmatched", "404"),
    ):
        labels = {"http_request_method": method, "http_route": route, "url_scheme": "http"}
        assert value(shop.telemetry, name, **labels, http_response_status_code=status) == 1
    active = "http_server_active_requests"
    assert value(shop.telemetry, active, http_request_method="GET", url_scheme="http") == 0


async def test_work_after_the_reply_is_no_part_of_the_duration(open_shop):
    shop = open_shop(export=ExportSettings())
    seen = []
    shop.after_reply = lambda: seen.append(
        value(
            shop.telemetry,
            "http_server_active_requests",
            http_request_method="POST",
            url_scheme="http",
        )
    )
    async with shop.client() as http:
        await http.post("/v1/rank", json={})

    assert seen == [0]


async def test_a_sampled_ranking_leaves_an_exemplar_that_names_its_trace(collector, open_shop):
    shop = open_shop()
    async with shop.client() as http:
        await http.post("/v1/rank", json={"surface": "home"})
    body, content_type = page_of(shop.telemetry, OPENMETRICS)
    shop.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    for name in ("podium_request_seconds", "http_server_request_duration_seconds"):
        exemplars = [sample.exemplar for sample in families[name].samples if sample.exemplar]
        assert [exemplar.labels for exemplar in exemplars] == [
            {"trace_id": server.trace_id.hex(), "span_id": server.span_id.hex()}
        ]


async def test_an_unsampled_ranking_leaves_no_exemplar(collector, open_shop):
    shop = open_shop(sample_ratio=0.0)
    async with shop.client() as http:
        await http.post("/v1/rank", json={})
    body, _ = page_of(shop.telemetry, OPENMETRICS)

    assert "# {" not in body.decode()


def test_the_page_is_plain_prometheus_text_unless_openmetrics_is_asked_for(quiet):
    body, content_type = page_of(quiet, "text/html,*/*;q=0.8")

    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"# EOF" not in body
    assert b"process_resident_memory_bytes" in body
    assert b"_created" not in body


def test_two_services_in_one_process_do_not_share_figures(open_telemetry, experiment):
    one, two = (open_telemetry(export=ExportSettings()) for _ in range(2))
    one.metrics.exposed((experiment,))

    assert value(one, "podium_exposures_total", variant="fp16-rollout:fp16") == 1
    assert value(two, "podium_exposures_total", variant="fp16-rollout:fp16") is None
