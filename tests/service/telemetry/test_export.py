"""A collector that is dead, full, slow or rude costs requests nothing, and losses are counted."""

import asyncio
import socket
import sys
import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.errors import StartupError
from service.telemetry import ExportSettings, names
from service.telemetry.export import CountedExporter
from tests.support.figures import page_of

FEW = ExportSettings(
    endpoint_configured=True, max_queue_spans=8, max_batch_spans=4, delay_ms=3_600_000
)


async def trace(telemetry, requests: int) -> None:
    """So many requests of one span each."""

    async def app(scope, receive, send) -> None:
        """Answers nothing."""

    scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": []}
    scope |= {"http_version": "1.1", "server": None}
    for _ in range(requests):
        await telemetry.middleware(app)(scope, None, None)


def dropped(telemetry) -> dict[str, float]:
    body, _ = page_of(telemetry)
    lines = [line.split() for line in body.decode().splitlines()]
    name = "podium_telemetry_dropped_total{reason="
    return {
        line[0].removeprefix(name).strip('"}'): float(line[1])
        for line in lines
        if line[0].startswith(name) and float(line[1]) > 0
    }


@pytest.fixture
def dead_collector(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")


async def test_shutdown_sends_what_is_waiting(collector, open_telemetry):
    telemetry = open_telemetry(export=ExportSettings(endpoint_configured=True, delay_ms=3_600_000))
    await trace(telemetry, 3)
    assert collector.spans == []
    telemetry.shutdown()

    assert len(collector.spans) == 3
    assert dropped(telemetry) == {}


async def test_a_full_batch_leaves_without_waiting_for_the_delay(collector, open_telemetry):
    telemetry = open_telemetry(export=FEW)
    await trace(telemetry, 4)

    assert await asyncio.to_thread(collector.asked.wait, 5.0)


async def test_a_collector_that_hangs_holds_up_neither_requests_nor_shutdown(
    collector, open_telemetry
):
    collector.may_answer.clear()
    telemetry = open_telemetry(export=FEW)
    await trace(telemetry, 4)
    await asyncio.to_thread(collector.asked.wait, 5.0)
    began = time.monotonic()
    await trace(telemetry, 46)
    requests_done = time.monotonic()
    telemetry.shutdown(timeout_s=0.2)
    ended = time.monotonic()

    assert requests_done - began < 1.0
    assert 0.2 <= ended - requests_done < 1.2
    # 8 had a place, 4 of them on the wire; all are lost, each counted once.
    assert dropped(telemetry) == {"queue_full": 42.0, "shutdown": 8.0}


async def test_a_dead_collector_holds_up_neither_requests_nor_shutdown(
    dead_collector, open_telemetry
):
    telemetry = open_telemetry()
    await trace(telemetry, 50)
    began = time.monotonic()
    telemetry.shutdown(timeout_s=0.2)

    assert time.monotonic() - began < 1.2
    assert sum(dropped(telemetry).values()) == 50.0


async def test_spans_that_the_collector_refuses_are_counted(collector, open_telemetry):
    collector.status = 400
    telemetry = open_telemetry()
    await trace(telemetry, 5)
    telemetry.shutdown()

    assert dropped(telemetry) == {"export_failed": 5.0}


def test_the_queue_has_room_again_once_spans_have_left():
    lost = []
    sent = InMemorySpanExporter()
    exporter = CountedExporter(sent, max_spans=2, on_drop=lambda *drop: lost.append(drop))

    assert [exporter.admit() for _ in range(3)] == [True, True, False]
    exporter.export((ReadableSpan("one"), ReadableSpan("two")))
    assert exporter.admit()
    assert lost == [("queue_full", 1)]
    assert len(sent.get_finished_spans()) == 2


async def test_shutting_down_twice_is_harmless(collector, open_telemetry):
    telemetry = open_telemetry()
    await trace(telemetry, 1)
    telemetry.shutdown()
    telemetry.shutdown()

    assert len(collector.spans) == 1


async def test_without_a_collector_nothing_is_sent_and_nothing_lost(collector, open_telemetry):
    telemetry = open_telemetry(export=ExportSettings())
    await trace(telemetry, 3)
    telemetry.shutdown()

    assert collector.bodies == []
    assert dropped(telemetry) == {}


async def test_steps_outside_a_request_make_no_spans(collector, open_telemetry):
    telemetry = open_telemetry()
    with (
        telemetry.step(names.SPAN_ROUTE),
        telemetry.store("events", address="/run/valkey.sock", port=None).call("XADD"),
    ):
        pass
    telemetry.shutdown()

    assert collector.bodies == []


def test_the_exporting_thread_gives_way_to_requests_ten_times_as_often(collector, open_telemetry):
    sys.setswitchinterval(0.005)
    open_telemetry()

    assert sys.getswitchinterval() == pytest.approx(0.0005)


def test_without_the_extra_for_grpc_the_service_says_what_to_install(open_telemetry, monkeypatch):
    package = "opentelemetry.exporter.otlp.proto.grpc"
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(StartupError, match=r"install podium\[grpc\], or use http/protobuf"):
        open_telemetry(export=ExportSettings(endpoint_configured=True, protocol="grpc"))


def test_a_variable_that_the_sdk_refuses_is_one_line(open_telemetry, monkeypatch):
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")

    with pytest.raises(StartupError, match="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        open_telemetry()


async def test_the_limits_that_variables_set_hold_for_every_span(collector, open_shop, monkeypatch):
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "0")
    shop = open_shop()
    async with shop.client() as http:
        await http.post("/v1/rank", json={})
    shop.telemetry.shutdown()

    server = collector.one("POST /v1/rank")
    holders = [*collector.spans, *server.events]
    texts = [pair.value.string_value for holder in holders for pair in holder.attributes]
    assert max(map(len, texts)) == 4
    assert len(server.attributes) == 3
    assert server.dropped_attributes_count > 10
    assert (len(server.links), server.dropped_links_count) == (0, 1)
