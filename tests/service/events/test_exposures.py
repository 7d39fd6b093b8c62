"""Exposures are out of the way at once, and in the stream a moment later."""

import asyncio
import time

import msgspec
import pytest

from experiments.events import Event, Exposure, Lapse
from service.events.event_log import EventLog
from service.events.exposures import MAX_BATCH, StreamExposureSink
from service.events.names import COUNTS, STREAM
from service.events.spool import Spool
from service.events.stream import EventStream


async def stream_of(client) -> list[Exposure]:
    return [
        msgspec.msgpack.decode(fields[b"e"], type=Event)
        for _, fields in await client.xrange(STREAM)
    ]


@pytest.fixture
async def sink(log):
    running = StreamExposureSink(log, flush_s=0.001)
    await running.start()
    yield running
    await running.stop()


async def test_recorded_exposures_reach_the_stream_in_order_and_unchanged(
    sink, client, exposure, until
):
    shown = [exposure(latency_ms=n) for n in range(3)]
    for one in shown:
        sink.record(one)
    await until(lambda: sink.counts.kept == 3)

    assert await stream_of(client) == shown


async def test_many_exposures_go_in_few_calls(log, client, exposure):
    sink = StreamExposureSink(log, flush_s=0.001)
    one = exposure()
    for _ in range(3 * MAX_BATCH + 1):
        sink.record(one)
    await sink.start()
    await sink.stop()

    assert await client.xlen(STREAM) == 3 * MAX_BATCH + 1
    assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] <= 5


async def test_stop_keeps_everything_that_was_recorded(log, client, exposure):
    sink = StreamExposureSink(log, flush_s=60)
    await sink.start()
    sink.record(exposure())
    await asyncio.sleep(0)  # the sink has seen it, and waits for company
    for _ in range(9):
        sink.record(exposure())
    async with asyncio.timeout(10):
        await sink.stop()

    assert await client.xlen(STREAM) == 10


async def test_without_a_server_exposures_are_kept_on_disk(server, sink, log, exposure, until):
    server.kill()
    for _ in range(10):
        sink.record(exposure())
    await until(lambda: sink.counts.kept == 10)

    assert log.counts.spooled == 10
    assert sink.counts.dropped == 0


async def test_a_full_queue_drops_and_counts(log, client, exposure, until):
    sink = StreamExposureSink(log, max_queued=5)
    for _ in range(8):
        sink.record(exposure())

    assert (sink.counts.recorded, sink.counts.dropped) == (8, 3)
    await sink.start()
    await sink.stop()
    sink.record(exposure())
    assert sink.counts.dropped == 4
    assert await client.xlen(STREAM) == 5

    async def counted() -> bool:
        return await client.hget(COUNTS, "exposures_dropped") == b"4"

    await until(counted)


async def test_what_nobody_can_keep_is_counted_and_disturbs_nothing(
    server, client, settings, clock, exposure, tmp_path
):
    log = EventLog(EventStream(client, settings), Spool(tmp_path, 10, clock), clock)
    sink = StreamExposureSink(log, flush_s=0.001)
    await sink.start()
    server.kill()
    for _ in range(10):
        sink.record(exposure())
    await sink.stop()

    assert (sink.counts.kept, sink.counts.dropped) == (0, 10)
    await log.stop()


async def test_recording_waits_for_nobody(server, impatient, exposure):
    sink = StreamExposureSink(impatient, flush_s=0.001)
    await sink.start()
    server.freeze()
    one = exposure()
    started = time.perf_counter()
    for _ in range(1000):
        sink.record(one)
    took = time.perf_counter() - started

    assert took < 0.05  # about 1 ms; the server would take for ever
    server.thaw()
    await sink.stop()
    assert sink.counts.kept == 1000


async def test_lapses_go_the_same_way_and_are_counted_apart(
    server, client, sink, log, exposure, arm, until
):
    lapse = Lapse(arms=(arm(),), at=0.0, code="queue_full", latency_ms=1.0)
    shown = exposure()
    for one in (lapse, shown, lapse):
        sink.record(one)
    await until(lambda: sink.counts.kept == 3)

    assert sorted(map(repr, await stream_of(client))) == sorted(map(repr, [shown, lapse, lapse]))
    assert await client.hgetall(COUNTS) == {b"exposures": b"1", b"lapses": b"2"}


async def test_lapses_are_kept_on_disk_while_the_server_is_away_and_replayed(
    server, client, clock, sink, log, exposure, arm, until
):
    lapse = Lapse(arms=(arm(),), at=0.0, code="queue_full", latency_ms=1.0)
    server.kill()
    for one in (lapse, exposure()):
        sink.record(one)
    await until(lambda: sink.counts.kept == 2)
    assert log.counts.spooled == 2
    server.start()
    clock.advance(10)
    await until(lambda: log.counts.replayed == 2)

    assert lapse in await stream_of(client)
    counted = await client.hgetall(COUNTS)
    assert (counted[b"exposures"], counted[b"lapses"]) == (b"1", b"1")


async def test_dropped_lapses_are_counted_as_such(log, client, arm, until):
    sink = StreamExposureSink(log, max_queued=0)
    sink.record(Lapse(arms=(arm(),), at=0.0, code="queue_full", latency_ms=1.0))

    async def counted() -> bool:
        return await client.hget(COUNTS, "lapses_dropped") == b"1"

    await until(counted)
