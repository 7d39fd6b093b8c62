"""Plain requests that are traced: the spans of any other way, and their neighbours' batches."""

import asyncio
from collections import Counter

import msgspec
import pytest

from ranking_models.bundle import Bundle
from service.api.access import Access
from service.api.given import RankingParts
from service.clock import SystemClock
from service.errors import EngineFailed
from service.events.force_tokens import ForceTokens
from service.events.signing import SigningKeys
from service.express.head import read_head
from service.express.lane import RankLane
from service.features import BundleFeatures
from service.health import Health
from service.settings import AuthSettings, BatchPolicy
from service.telemetry import ExportSettings, create_telemetry
from service.testing import FakeEngine
from tests.support.bundles import write_tiny_bundle
from tests.support.collector import Collector
from tests.support.rankers import Kitchen, deployment_of

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LINES = b"POST /v1/rank HTTP/1.1\r\nHost: shop.test:80\r\nContent-Type: application/json\r\n"
TOGETHER = BatchPolicy(mode="fixed", max_queue_delay_s=0.05)
UNTRACED = read_head(LINES + b"Content-Length: 9\r\n\r\n")
REPLY_S = 5.0


def head(flags="01"):
    told = f"traceparent: 00-{TRACE}-{CALLER}-{flags}\r\nContent-Length: 9\r\n\r\n"
    return read_head(LINES + told.encode())


class Line:
    """A connection whose reply can be waited for."""

    scheme = "http"
    server = ("127.0.0.1", 8080)

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.replied = self.loop.create_future()

    def begin(self, call):
        self.call = call

    def finish(self, call, status, headers, body):
        self.replied.set_result(status)

    def forget(self, call):
        self.replied.set_result(None)

    async def status(self):
        async with asyncio.timeout(REPLY_S):
            return await self.replied


class Failing(FakeEngine):
    def score(self, batch):
        raise EngineFailed("told to")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def collector(monkeypatch):
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    collector.close()


@pytest.fixture
def open_lane(bundle, collector):
    def open_one(engine=None, *, sample_ratio=0.0, policy=TOGETHER, allow_degraded=True):
        clock = SystemClock()
        telemetry = create_telemetry(
            sample_ratio=sample_ratio,
            export=ExportSettings(endpoint_configured=True, delay_ms=3_600_000),
            surfaces=(),
            version="0",
            clock=clock,
        )
        deployed = deployment_of(
            bundle, engine or FakeEngine(), clock=clock, policy=policy, telemetry=telemetry
        )
        served = Kitchen([deployed], clock, allow_degraded=allow_degraded, telemetry=telemetry)
        parts = RankingParts(
            ranker=served.ranker,
            feature_names=None,
            access=Access(AuthSettings()),
            telemetry=telemetry,
            clock=clock,
            body_limit=10_000,
            force_tokens=ForceTokens(SigningKeys({"k": b"x" * 32}, "k")),
        )
        return RankLane(parts, Health({})), served

    return open_one


def body(user="u1", **fields):
    asked = {"candidates": ["i1", "i2", "i3"], "user": {"id": user}, "timeout_ms": 10_000}
    return msgspec.json.encode(asked | fields)


async def ordinary(lane, asked, given):
    exchange, replied = lane.exchange(given, "http", Line.server), asyncio.Future()
    begun = lane.start(asked, given, ("127.0.0.1", 5), exchange, replied.set_result)
    reply = begun if hasattr(begun, "status") else await replied
    exchange.status = reply.status
    exchange.end()


def told_of(span):
    """What a span says that is no figure."""
    texts = {a.key: a.value.string_value for a in span.attributes if a.value.string_value}
    return span.name, span.kind, span.status.code, sorted(texts.items())


def shape(collector):
    """Every span with its parent's name, but for what the two ways cannot share."""
    names = {span.span_id: span.name for span in collector.spans}
    return sorted(
        (*told_of(one), names.get(one.parent_span_id, ""), len(one.links))
        for one in collector.spans
    )


@pytest.mark.parametrize("asked", [body(), body(context={"surface": "x"}, request_id="r")])
@pytest.mark.parametrize("engine", [FakeEngine, Failing])
async def test_it_leaves_the_trace_that_any_other_way_leaves(open_lane, collector, asked, engine):
    shapes = []
    for is_plain in (True, False):
        collector.spans.clear()
        lane, served = open_lane(engine(), policy=BatchPolicy())
        if is_plain:
            line = Line()
            assert lane.plain(asked, head(), line)
            await line.status()
        else:
            await ordinary(lane, asked, head())
        served.telemetry.shutdown()
        shapes.append(shape(collector))
        (server,) = collector.named("POST /v1/rank")
        assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, CALLER)
        decode = collector.one("podium.decode")
        assert server.start_time_unix_nano <= decode.start_time_unix_nano

    assert len(shapes[0]) >= 6
    assert shapes[0] == shapes[1]


async def test_one_that_is_traced_is_looked_up_with_its_neighbours(open_lane, monkeypatch):
    """In one step for the whole batch, as where nobody is traced."""
    together, found = [], BundleFeatures.found
    monkeypatch.setattr(
        BundleFeatures,
        "found",
        lambda self, parts: (together.append(len(parts)), found(self, parts))[1],
    )
    lane, served = open_lane()
    lines = [Line() for _ in range(4)]
    heads = (UNTRACED, head("01"), head("00"), UNTRACED)
    for line, given, user in zip(lines, heads, ("u1", "u2", "u3", "u4"), strict=True):
        assert lane.plain(body(user), given, line)
    assert [await line.status() for line in lines] == [200] * 4
    served.telemetry.shutdown()

    assert together == [4]


async def test_the_ratio_is_the_share_that_is_recorded(open_lane, collector):
    lane, served = open_lane(sample_ratio=0.25, policy=BatchPolicy())
    for _ in range(200):
        line = Line()
        assert lane.plain(body(), UNTRACED, line)
        assert await line.status() == 200
    served.telemetry.shutdown()

    spans = Counter(span.name for span in collector.spans)
    # 50 expected, standard deviation 6.1: six of them are one failure in 10^9.
    assert 13 < spans["POST /v1/rank"] < 87
    assert spans["podium.queue"] == spans["podium.decode"] == spans["POST /v1/rank"]
    assert served.metric("podium_inflight") == 0
    counted = {"surface": "none", "variant": "none", "engine": "fake", "outcome": "ok"}
    assert served.metric("podium_requests_total", **counted) == 200


async def test_who_hangs_up_leaves_an_error_that_says_so(open_lane, collector):
    lane, served = open_lane(policy=BatchPolicy(mode="fixed", max_queue_delay_s=30.0))
    line = Line()
    assert lane.plain(body(), head(), line)
    line.call.hang_up()
    assert await line.status() is None
    served.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    texts = {a.key: a.value.string_value for a in server.attributes}
    assert texts["error.type"] == "disconnected"
    assert served.metric("podium_inflight") == 0


async def test_one_that_is_refused_is_told_so_and_traced(open_lane, collector):
    policy = BatchPolicy(mode="fixed", max_queue_delay_s=30.0, max_waiting_rows=3)
    lane, served = open_lane(policy=policy)
    first, line = Line(), Line()
    assert lane.plain(body(), UNTRACED, first)
    assert lane.plain(body(), head(), line)
    assert await line.status() == 429
    first.call.hang_up()
    await first.status()
    served.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    texts = {a.key: a.value.string_value for a in server.attributes}
    assert texts["podium.error.code"] == "queue_full"
    assert served.metric("podium_shed_total", reason="queue_full") == 1
