"""One trace per request, as a real OTLP receiver gets it."""

import contextlib

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import NonRecordingSpan
from redis.exceptions import ReadOnlyError, ResponseError

from experiments.events import unit_digest
from service.telemetry import ExportSettings, names
from service.telemetry.server_span import ServerSpan

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
CONTEXT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=x"}


def attributes(span) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


async def ask(shop, *, headers=None, **body) -> httpx.Response:
    async with shop.client() as http:
        return await http.post("/v1/rank", json=body, headers=headers)


async def fetch(shop, path: str) -> httpx.Response:
    async with shop.client() as http:
        return await http.get(path)


async def test_a_request_is_one_trace_with_a_child_for_every_step(collector, open_shop):
    shop = open_shop()
    await ask(shop)
    shop.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    steps = ("podium.route", "MGET", "podium.queue", "podium.score")
    children = [collector.one(name) for name in steps]
    assert server.kind == Span.SPAN_KIND_SERVER
    assert server.parent_span_id == b""
    assert {child.trace_id for child in children} == {server.trace_id}
    assert {child.parent_span_id for child in children} == {server.span_id}
    assert len(collector.spans) == 1 + len(steps) + len(("podium.batch", "podium.engine"))


async def test_the_server_span_speaks_the_http_conventions(collector, open_shop):
    shop = open_shop()
    await ask(shop, surface="home")
    shop.telemetry.shutdown()

    said = attributes(collector.one("POST /v1/rank"))
    assert said == {
        "http.request.method": "POST",
        "http.route": "/v1/rank",
        "http.response.status_code": 200,
        "url.path": "/v1/rank",
        "url.scheme": "http",
        "server.address": "shop.test",
        "server.port": 8080,
        "network.protocol.version": "1.1",
        "user_agent.original": f"python-httpx/{httpx.__version__}",
        "podium.surface": "home",
        "podium.candidates": 7,
        "podium.cache.result": "miss",
        "podium.model": "market@3f9c2a1b",
        "podium.engine": "ort-cpu",
        "podium.precision": "fp16",
        "podium.degraded": "none",
        "feature_flag.key": "fp16-rollout",
        "feature_flag.result.variant": "fp16",
        "feature_flag.result.reason": "split",
        "feature_flag.version": "3",
        "feature_flag.provider.name": "podium",
        "feature_flag.set.id": "2886453f6e573542",
    }


async def test_every_assignment_is_a_feature_flag_event(collector, open_shop):
    shop = open_shop()
    await ask(shop)
    shop.telemetry.shutdown()

    (event,) = collector.one("POST /v1/rank").events
    assert event.name == "feature_flag.evaluation"
    assert attributes(event)["feature_flag.key"] == "fp16-rollout"


async def test_whom_a_flag_was_for_is_told_as_a_digest_and_only_where_that_is_wanted(
    collector, open_shop
):
    told, quiet = open_shop(context_ids=True), open_shop()
    for shop in (told, quiet, told):
        await ask(shop, **({"user": "ann@shop.test"} if shop is told else {"user": "bob"}))
    await ask(told)
    for shop in (told, quiet):
        shop.telemetry.shutdown()

    spans = collector.named("POST /v1/rank")
    digests = [attributes(span).get("feature_flag.context.id") for span in spans]
    assert sorted(filter(None, digests)) == [unit_digest("ann@shop.test")] * 2
    assert digests.count(None) == 2
    (event,) = next(
        span for span in spans if attributes(span).get("feature_flag.context.id")
    ).events
    assert attributes(event)["feature_flag.context.id"] == unit_digest("ann@shop.test")
    assert "ann@" not in repr(spans)


async def test_a_decision_that_keeps_out_is_an_event_and_never_the_variant_of_the_span(
    collector, open_shop, experiment, held_out
):
    shop = open_shop()
    shop.experiments = (held_out, experiment)
    await ask(shop)
    shop.experiments, shop.serving = (held_out,), ()
    await ask(shop)
    shop.telemetry.shutdown()

    served, kept_out = collector.named("POST /v1/rank")
    keys = [attributes(event)["feature_flag.key"] for event in served.events]
    assert keys == ["ranker", "fp16-rollout"]
    assert attributes(served)["feature_flag.result.variant"] == "fp16"
    assert [attributes(event)["feature_flag.result.reason"] for event in kept_out.events] == [
        "holdout"
    ]
    assert not any(name.startswith("feature_flag") for name in attributes(kept_out))


async def test_a_call_to_redis_is_a_client_span(collector, open_shop):
    shop = open_shop()
    await ask(shop)
    shop.telemetry.shutdown()

    call = collector.one("MGET")
    assert call.kind == Span.SPAN_KIND_CLIENT
    assert attributes(call) == {
        "db.system.name": "redis",
        "db.operation.name": "MGET",
        "db.namespace": "2",
        "server.address": "10.0.0.7",
        "server.port": 6379,
    }


@pytest.mark.parametrize(
    ("error", "error_type", "status"),
    [
        (ResponseError("WRONGTYPE Operation against secret-key"), "WRONGTYPE", "WRONGTYPE"),
        (ReadOnlyError("You can't write", status_code="READONLY"), "READONLY", "READONLY"),
        (ResponseError("unknown, secret-key"), "ResponseError", None),
        (TimeoutError("secret-key"), "TimeoutError", None),
    ],
)
@pytest.mark.parametrize("raised", [True, False])
async def test_a_call_to_redis_that_fails_carries_the_servers_word_for_it(
    collector, open_shop, error, error_type, status, raised
):
    def score(_) -> None:
        with (
            contextlib.suppress(type(error)),
            shop.cache.call("PIPELINE SET", commands=3) as call,
        ):
            if raised:
                raise error
            call.failed(error)

    shop = open_shop()
    shop.score = score
    await ask(shop)
    shop.telemetry.shutdown()

    call = collector.one("PIPELINE SET")
    said = attributes(call)
    assert (said["error.type"], said.get("db.response.status_code")) == (error_type, status)
    assert said["db.operation.batch.size"] == 3
    assert call.status.code == Status.STATUS_CODE_ERROR
    assert not any(b"secret" in body for body in collector.bodies)


async def test_a_method_that_nobody_knows_has_no_name_of_its_own(collector, open_shop):
    shop = open_shop()
    async with shop.client() as http:
        await http.request("BREW", "/coffee")
    shop.telemetry.shutdown()

    said = attributes(collector.one("HTTP"))
    assert said["http.request.method"] == "_OTHER"
    assert said["http.request.method_original"] == "BREW"


async def test_a_query_is_told_without_what_is_in_it(collector, open_shop):
    shop = open_shop()
    await fetch(shop, "/v1/items/i9/recommendations?user_id=secret&k=3&flag")
    shop.telemetry.shutdown()

    page = collector.one("GET /v1/items/{item_id}/recommendations")
    assert attributes(page)["url.query"] == "user_id=REDACTED&k=REDACTED&flag=REDACTED"


async def test_a_trace_of_the_caller_goes_on_in_ours(collector, open_shop):
    shop = open_shop(sample_ratio=0.0)
    await ask(shop, headers=CONTEXT)
    shop.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == CALLER
    assert server.trace_state == "vendor=x"
    assert collector.one("podium.queue").trace_id.hex() == TRACE


async def test_a_trace_that_the_caller_does_not_sample_is_not_sampled_here(collector, open_shop):
    shop = open_shop(sample_ratio=1.0)
    await ask(shop, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    shop.telemetry.shutdown()

    assert collector.bodies == []


@pytest.mark.parametrize("header", ["", "00-zz-1-01", f"00-{'0' * 32}-{CALLER}-01", "x" * 9000])
async def test_a_broken_trace_context_begins_a_trace_of_our_own(collector, open_shop, header):
    shop = open_shop()
    await ask(shop, headers={"traceparent": header})
    shop.telemetry.shutdown()

    assert collector.one("POST /v1/rank").parent_span_id == b""


async def test_an_unsampled_request_makes_no_spans_at_all(collector, open_shop):
    shop = open_shop(sample_ratio=0.0)
    await ask(shop)
    shop.telemetry.shutdown()

    assert collector.bodies == []
    assert [member.request for member in shop.members] == [None]


async def test_of_an_unsampled_request_no_span_is_even_made(open_shop, monkeypatch):
    made = []

    def count(made_by):
        init = made_by.__init__
        monkeypatch.setattr(
            made_by, "__init__", lambda *a, **k: (made.append(made_by), init(*a, **k))[1]
        )

    shop = open_shop(sample_ratio=0.0)
    for kind in (NonRecordingSpan, ServerSpan):
        count(kind)
    await ask(shop)
    await ask(shop, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
    unsampled = list(made)
    await ask(shop, headers=CONTEXT)

    # The second's caller is parsed by the API, into an object of its own; nothing is added.
    assert unsampled == [NonRecordingSpan]
    assert ServerSpan in made


@pytest.mark.parametrize(("may", "spans"), [(True, 1), (False, 0)])
async def test_a_request_is_recorded_whatever_the_ratio_if_one_asks_who_may(
    collector, open_telemetry, may, spans
):
    async def app(scope, receive, send) -> None:
        """Answers nothing."""

    telemetry = open_telemetry(sample_ratio=0.0)
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "server": None}
    unsampled = f"00-{TRACE}-{CALLER}-00".encode()
    scope |= {"headers": [(b"x-podium-trace", b"force"), (b"traceparent", unsampled)]}
    scope |= {"http_version": "1.1"}
    await telemetry.middleware(app, may_force=lambda scope: may)(scope, None, None)
    telemetry.shutdown()

    assert len(collector.spans) == spans
    for span in collector.spans:
        assert span.trace_id.hex() == TRACE
        assert attributes(span)["podium.trace.forced"] is True


def test_what_is_decided_ahead_is_decided_once(open_telemetry, collector):
    """Asked and then begun, a quarter of the requests is recorded, and not a sixteenth."""
    telemetry = open_telemetry(sample_ratio=0.25)
    scope = {"path": "/v1/rank", "path_template": "/v1/rank", "method": "POST", "headers": []}
    scope |= {"scheme": "http", "http_version": "1.1", "server": None}
    for _ in range(400):
        left_out = telemetry.leaves_out_next("POST")
        telemetry.exchange(scope, traced=False, left_out=left_out).end()
    telemetry.shutdown()

    # 100 expected, standard deviation 8.7: six of them are one failure in 10^9.
    assert 48 < len(collector.named("POST /v1/rank")) < 152


async def test_the_ratio_is_the_share_of_traces_begun_here(collector, open_shop):
    shop = open_shop(sample_ratio=0.25)
    async with shop.client() as http:
        for _ in range(400):
            await http.get("/nowhere")
    shop.telemetry.shutdown()

    # 100 expected, standard deviation 8.7: six of them are one failure in 10^9.
    assert 48 < len(collector.named("GET")) < 152


async def test_the_standard_variable_overrules_our_sampling_ratio(
    collector, open_shop, monkeypatch
):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    export = ExportSettings(endpoint_configured=True, sampler_configured=True)
    shop = open_shop(sample_ratio=0.0, export=export)
    await ask(shop)
    shop.telemetry.shutdown()

    assert collector.named("POST /v1/rank")


async def test_a_path_that_nobody_serves_has_no_route(collector, open_shop):
    shop = open_shop()
    await fetch(shop, "/wp-login.php")
    shop.telemetry.shutdown()

    span = collector.one("GET")
    assert "http.route" not in attributes(span)
    assert attributes(span)["url.path"] == "/wp-login.php"
    assert span.status.code == Status.STATUS_CODE_UNSET


async def test_no_span_names_a_user_or_an_item(collector, open_shop):
    shop = open_shop()
    await ask(shop, user={"id": "user-secret"}, candidates=["item-secret"], request_id="r-1")
    await fetch(shop, "/v1/items/item-secret/recommendations?user_id=user-secret")
    shop.telemetry.shutdown()

    page = collector.one("GET /v1/items/{item_id}/recommendations")
    assert attributes(page)["url.path"] == "/v1/items/{item_id}/recommendations"
    assert not any(b"secret" in body for body in collector.bodies)


async def test_a_problem_of_the_caller_is_told_and_is_no_error_of_ours(collector, open_shop):
    shop = open_shop()
    await fetch(shop, "/v1/items/i9/recommendations")
    shop.telemetry.shutdown()

    span = collector.one("GET /v1/items/{item_id}/recommendations")
    assert attributes(span)["podium.error.code"] == "unknown_item"
    assert "error.type" not in attributes(span)
    assert span.status.code == Status.STATUS_CODE_UNSET


async def test_a_problem_of_ours_is_an_error_with_its_code(collector, open_shop):
    shop = open_shop()
    await fetch(shop, "/broken/not-ready")
    shop.telemetry.shutdown()

    span = collector.one("GET /broken/{how}")
    assert attributes(span)["http.response.status_code"] == 503
    assert attributes(span)["error.type"] == "not_ready"
    assert span.status.code == Status.STATUS_CODE_ERROR


async def test_a_defect_is_recorded_with_its_stack_and_without_its_message(collector, open_shop):
    shop = open_shop()
    await fetch(shop, "/broken/user-u42")
    shop.telemetry.shutdown()

    span = collector.one("GET /broken/{how}")
    (event,) = span.events
    assert attributes(span)["error.type"] == "KeyError"
    assert event.name == "exception"
    assert "in broken" in str(attributes(event)["exception.stacktrace"])
    assert not any(b"u42" in body for body in collector.bodies)


async def test_a_step_that_fails_carries_the_class_of_the_error(collector, open_telemetry):
    shop = open_telemetry()
    with pytest.raises(TimeoutError):
        await failing_step(shop)
    shop.shutdown()

    step = collector.one("podium.route")
    assert attributes(step)["error.type"] == "TimeoutError"
    assert step.status.code == Status.STATUS_CODE_ERROR


async def failing_step(telemetry) -> None:
    async def app(scope, receive, send) -> None:
        with telemetry.step(names.SPAN_ROUTE):
            raise TimeoutError("u42")

    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": []}
    scope |= {"http_version": "2", "server": ("::1", 80)}
    await telemetry.middleware(app)(scope, None, None)


async def test_an_exception_that_leaves_the_application_ends_the_span(collector, open_telemetry):
    telemetry = open_telemetry()
    with pytest.raises(TimeoutError):
        await failing_step(telemetry)
    telemetry.shutdown()

    said = attributes(collector.one("GET"))
    assert said["error.type"] == "TimeoutError"
    assert said["http.response.status_code"] == 500
    assert (said["server.address"], said["server.port"]) == ("::1", 80)


async def test_a_request_that_is_never_answered_is_an_error(collector, open_telemetry):
    async def app(scope, receive, send) -> None:
        """The caller has gone."""

    telemetry = open_telemetry()
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http"}
    scope |= {"headers": [(b"host", b"shop:port")], "http_version": "1.1", "server": ("::1", 80)}
    await telemetry.middleware(app)(scope, None, None)
    telemetry.shutdown()

    said = attributes(collector.one("GET"))
    assert said["error.type"] == "disconnected"
    assert "http.response.status_code" not in said
    assert said["server.address"] == "::1"  # the named port is none


async def test_what_is_not_http_passes_untouched(collector, open_telemetry):
    seen = []

    async def app(scope, receive, send) -> None:
        seen.append((scope, receive, send))

    scope = {"type": "lifespan"}
    telemetry = open_telemetry()
    await telemetry.middleware(app)(scope, 1, 2)
    telemetry.shutdown()

    assert seen == [(scope, 1, 2)]
    assert collector.bodies == []


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
async def test_what_machines_ask_every_few_seconds_is_not_traced(collector, open_shop, path):
    shop = open_shop()
    assert (await fetch(shop, path)).status_code == 200
    shop.telemetry.shutdown()

    assert collector.bodies == []


async def test_work_after_the_reply_adds_nothing_to_the_trace(collector, open_shop):
    shop = open_shop()
    seen = []

    def late() -> None:
        seen.append(shop.telemetry.sampled_request())
        with shop.cache.call("SET"):
            pass

    shop.after_reply = late
    await ask(shop)
    shop.telemetry.shutdown()

    assert seen == [None]
    assert collector.named("SET") == []


async def test_who_we_are_is_in_the_resource(collector, open_shop):
    shop = open_shop()
    await ask(shop)
    shop.telemetry.shutdown()

    assert collector.resource["service.name"] == "podium"
    assert collector.resource["service.version"] == "1.2.3"
    assert len(collector.resource["service.instance.id"]) == 36


async def test_standard_variables_name_the_service(collector, open_shop, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ranker-eu")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    shop = open_shop()
    await ask(shop)
    shop.telemetry.shutdown()

    assert collector.resource["service.name"] == "ranker-eu"
    assert collector.resource["deployment.environment.name"] == "prod"
