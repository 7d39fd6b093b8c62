"""What another server is told of a batch: its trace, and what its callers gave along."""

import asyncio
import contextlib
import re

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ranking_models.bundle import Bundle
from ranking_models.triton.border import model_name
from service.batching.batcher import Batcher
from service.clock import SystemClock
from service.engines import EngineInfo
from service.engines.chain import EngineChain
from service.engines.triton import open_triton
from service.errors import EngineFailed
from service.settings import BatchPolicy, EngineSettings
from service.telemetry import ExportSettings
from tests.support.bundles import write_tiny_bundle
from tests.support.v2_server import v2_server

pytest.importorskip("tritonclient.http", reason="podium[triton] is not installed")

SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
LONGEST_S = 20.0
"""A job ends by its deadline, and a batcher when its jobs have: neither may wait for ever."""


def attributes(span) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def triton(bundle):
    with v2_server(bundle, model_name(bundle.manifest, "fp32")) as server:
        yield server


@pytest.fixture
def rank(bundle, triton, open_telemetry, collector):
    """Scores a row for each of some requests, in one batch on Triton; ends telemetry."""

    async def run(*callers: dict[str, str], export: ExportSettings | None = None) -> None:
        telemetry, clock = open_telemetry(sample_ratio=0.0, export=export), SystemClock()
        manifest, settings = bundle.manifest, EngineSettings(triton_url=triton.address)
        info = EngineInfo(
            name="triton",
            precision="fp32",
            model=manifest.name,
            version=manifest.version,
            max_batch_rows=64,
        )
        engine = open_triton(bundle, "fp32", settings, info)
        policy = BatchPolicy(execution="thread")
        chain = EngineChain([engine], clock, settings)
        batcher = Batcher(
            [chain], policy, clock, on_batch=telemetry.batch, trace=telemetry.batch_trace
        )
        rows, _ = bundle.golden
        triton.headers.clear()

        async def app(scope, receive, send) -> None:
            context = telemetry.sampled_request()
            with contextlib.suppress(EngineFailed):
                await batcher.score(rows.take([0]), deadline=clock.now() + 5, context=context)
            await send({"type": "http.response.start", "status": 200})

        async def send(message) -> None:
            """Nobody listens."""

        async def ask(headers) -> None:
            lines = [(name.encode(), value.encode()) for name, value in headers.items()]
            scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http"}
            scope |= {"headers": lines, "http_version": "1.1", "server": None}
            await telemetry.middleware(app)(scope, None, send)

        try:
            async with asyncio.timeout(LONGEST_S):
                await asyncio.gather(*map(ask, callers))
                await batcher.stop()
        finally:
            engine.close()
        telemetry.shutdown()

    return run


async def test_the_call_to_another_server_is_a_span_of_the_batch_whose_trace_it_is_told(
    collector, rank, triton
):
    await rank({"traceparent": SAMPLED, "baggage": "tenant=blue,release=7"})

    (told,) = triton.headers
    call, engine = collector.one("POST"), collector.one("podium.engine")
    assert told["traceparent"] == f"00-{call.trace_id.hex()}-{call.span_id.hex()}-03"
    assert told["baggage"] == "tenant=blue,release=7"
    assert call.trace_id == collector.one("podium.batch").trace_id
    assert call.parent_span_id == engine.span_id
    assert call.kind == Span.SPAN_KIND_CLIENT
    host, _, port = triton.address.partition(":")
    assert attributes(call) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": host,
        "server.port": int(port),
        "url.full": f"http://{triton.address}/v2/models/{triton.model}/infer",
    }


async def test_a_call_that_is_refused_is_an_error(collector, rank, triton):
    triton.answer = "refuses"
    await rank({"traceparent": SAMPLED})

    call = collector.named("POST")[0]
    status = attributes(call)["http.response.status_code"]
    assert attributes(call)["error.type"] == str(status)
    assert call.status.code == Status.STATUS_CODE_ERROR


async def test_of_several_requests_only_what_all_gave_along_is_passed_on(rank, triton):
    both = {"traceparent": SAMPLED}
    await rank(both | {"baggage": "tenant=blue,user=ann"}, both | {"baggage": "tenant=blue"})
    together = [told.get("baggage") for told in triton.headers]
    await rank(both | {"baggage": "tenant=blue"}, {"baggage": "tenant=blue"})
    with_unsampled = [told.get("baggage") for told in triton.headers]

    assert together == ["tenant=blue"]
    assert with_unsampled == [None]


async def test_of_a_batch_that_is_not_sampled_another_server_is_told_that(collector, rank, triton):
    """Or its tracer would begin a trace of its own, for it knows of none."""
    await rank({"traceparent": SAMPLED.removesuffix("01") + "00"})

    (told,) = triton.headers
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", told["traceparent"])
    assert collector.bodies == []


async def test_where_nothing_is_traced_nobody_is_told_of_a_trace(rank, triton):
    await rank({"traceparent": SAMPLED}, export=ExportSettings())

    (told,) = triton.headers
    assert "traceparent" not in told
