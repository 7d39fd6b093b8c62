"""Kills: nothing that was accepted is lost, and nothing counts twice."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import count

import msgspec
import pytest

from experiments.events import Arm, Event, Feedback, unit_digest
from experiments.variant_statistics import increments
from service.clock import SystemClock
from service.events.aggregation import Aggregator
from service.events.event_log import EventLog
from service.events.exposures import StreamExposureSink
from service.events.intake import EventIntake
from service.events.names import COUNTS, GROUP, STREAM, statistics_key
from service.events.spool import Spool
from service.events.statistics import ReadStatistics
from service.events.stream import EventStream
from service.events.tokens import Claims, ExposureTokens, items_digest

CLOCK = SystemClock()


class Shop:
    """Sends clicks on fresh slates of its own units, and remembers what was accepted."""

    def __init__(self, intake: EventIntake, sink: StreamExposureSink, event, exposure, slates):
        self._intake, self._sink = intake, sink
        self._event, self._exposure, self._slates = event, exposure, slates
        self.sums: Counter[str] = Counter()
        self.accepted = 0

    async def send(self, tokens: ExposureTokens, name: str, calls: int) -> None:
        for call in range(calls):
            clicks = []
            for n in range(10):
                arm = Arm("rollout", 1, "fp16", unit_digest(f"{name}-{call}-{n}"))
                slate_id = self._slates.new(CLOCK.wall())
                shown = self._exposure(arm, slate_id=slate_id)
                self._sink.record(shown)
                self.sums.update({**increments(shown, arm), "users": 1})
                now = int(CLOCK.wall())
                claims = Claims(
                    slate_id=slate_id,
                    issued=now,
                    expires=now + 3600,
                    arms=(arm,),
                    items=items_digest(["i1"]),
                )
                shown_at = datetime.fromtimestamp(now, UTC).isoformat()
                click = self._event(
                    slate_id=slate_id, exposure=tokens.sign(claims), timestamp=shown_at
                )
                clicks.append((arm, click))
            reply = await self._intake.accept([click for _, click in clicks])
            for (arm, click), result in zip(clicks, reply.results, strict=True):
                assert (result.status, result.event_id) == ("accepted", click.event_id)
                feedback = Feedback(
                    event_id="", kind="click", slate_id="", item_id="", position=1, at=0, arms=()
                )
                self.sums.update(increments(feedback, arm))
                self.accepted += 1


async def kill_now_and_then(server, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(kills):
        await asyncio.sleep(draw.uniform(0.02, 0.2))
        server.kill()
        await asyncio.sleep(draw.uniform(0, 0.1))
        await asyncio.to_thread(server.start)


@pytest.fixture
def parts(client, settings, tokens, slates, tmp_path):
    """The whole way of an event, on the system's clock, looking for the server often."""
    stream = EventStream(client, settings)
    spool = Spool(tmp_path / "spool", 1 << 26, CLOCK, segment_bytes=20_000)
    log = EventLog(stream, spool, CLOCK, probe_s=0.02, tend_s=0.01)
    sink = StreamExposureSink(log, flush_s=0.005)
    return log, sink, EventIntake(log, tokens, slates, settings, CLOCK)


async def test_the_server_is_killed_again_and_again_while_events_come_in(
    server, client, settings, parts, tokens, slates, event, exposure, until
):
    log, sink, intake = parts
    aggregators = [
        Aggregator(client, settings, CLOCK, adopt_after_s=0.05, tidy_s=0.05) for _ in range(2)
    ]
    for part in (log, sink, *aggregators):
        await part.start()
    shop = Shop(intake, sink, event, exposure, slates)
    killer = asyncio.create_task(kill_now_and_then(server, kills=6, seed=1))
    rounds = count()
    while not killer.done():
        name = next(rounds)
        await asyncio.gather(*(shop.send(tokens, f"{name}-{n}", calls=3) for n in range(4)))
    await killer
    await sink.stop()
    statistics = ReadStatistics(client, settings)

    async def all_is_added_up() -> bool:
        return log.waiting_events == 0 and await statistics.backlog() == 0

    await until(all_is_added_up)
    for part in (log, *aggregators):
        await part.stop()

    sums = await client.hgetall(statistics_key("rollout", 1, "fp16"))
    assert {name.decode(): int(n) for name, n in sums.items()} == +shop.sums
    assert int(await client.hget(COUNTS, "accepted")) == shop.accepted
    assert log.counts.spooled > 0  # else the kills hit nothing
    assert (log.counts.refused, sink.counts.dropped) == (0, 0)


SERVICE = """
import asyncio, sys
from pathlib import Path
from service.clock import SystemClock
from service.events.event_log import EventLog
from service.events.intake import EventIntake
from service.events.signing import SigningKeys
from service.events.slates import SlateIds
from service.events.spool import Spool
from service.events.stream import EventStream
from service.events.tokens import ExposureTokens
from service.messages import FeedbackEvent
from service.settings import EventSettings, RedisSettings
from service.stores.clients import events_client

KEYS = SigningKeys({"k1": b"1" * 32}, "k1")

async def main(url, directory, run):
    clock, settings = SystemClock(), EventSettings()
    client = events_client(url, RedisSettings(connect_timeout_s=1.0), settings)
    spool = Spool(Path(directory), 1 << 26, clock, segment_bytes=20_000)
    log = EventLog(EventStream(client, settings), spool, clock, probe_s=0.02, tend_s=0.01)
    await log.start()
    slates = SlateIds(KEYS)
    intake = EventIntake(log, ExposureTokens(KEYS), slates, settings, clock)
    async def send(worker):
        n = 0
        while True:
            ids = [f"{run}-{worker}-{n}-{k}" for k in range(5)]
            events = [
                FeedbackEvent(event_id=i, type="click", slate_id=slates.new(clock.wall()),
                              item_id="i", position=1, timestamp="2025-06-15T15:06:40Z")
                for i in ids
            ]
            reply = await intake.accept(events)
            kept = [r.event_id for r in reply.results if r.status == "accepted"]
            print(" ".join(kept), flush=True)
            n += 1
    await asyncio.gather(*(send(worker) for worker in range(4)))

asyncio.run(main(*sys.argv[1:]))
"""


def accepted_until_killed(server, directory, run: int, *, kill_server: bool) -> set[str]:
    """Let a service accept events, take its server away in the middle, and SIGKILL it."""
    command = [sys.executable, "-c", SERVICE, server.url, str(directory), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as service:
        told = [service.stdout.readline() for _ in range(60)]
        if kill_server:
            server.kill()
            told += [service.stdout.readline() for _ in range(60)]
        service.send_signal(signal.SIGKILL)
        told += service.stdout.readlines()
    if kill_server:
        server.start()
    return {one for line in told if line.endswith(b"\n") for one in line.decode().split()}


async def test_the_service_is_killed_and_what_it_had_accepted_is_in_the_stream_once(
    server, client, settings, tmp_path, until
):
    accepted: set[str] = set()
    for run in range(4):
        accepted |= accepted_until_killed(server, tmp_path / "spool", run, kill_server=run % 2 == 0)
    spool = Spool(tmp_path / "spool", 1 << 26, CLOCK)
    log = EventLog(EventStream(client, settings), spool, CLOCK, tend_s=0.01)
    await log.start()
    await until(lambda: not list((tmp_path / "spool").iterdir()))
    await log.stop()

    entries = await client.xrange(STREAM)
    kept = [msgspec.msgpack.decode(f[b"e"], type=Event).event_id for _, f in entries]
    assert len(accepted) > 1000
    assert accepted <= set(kept)
    assert len(kept) == len(set(kept))
    assert len(kept) - len(accepted) <= 4 * 4 * 5  # kept, but nobody was told any more
    assert int(await client.hget(COUNTS, "accepted")) == len(kept)


AGGREGATOR = """
import asyncio, sys
from service.clock import SystemClock
from service.events.aggregation import Aggregator
from service.settings import EventSettings, RedisSettings
from service.stores.clients import events_client

async def main(url):
    settings = EventSettings()
    client = events_client(url, RedisSettings(connect_timeout_s=1.0), settings)
    aggregator = Aggregator(client, settings, SystemClock(), adopt_after_s=0, tidy_s=0.01)
    await aggregator.start()
    while not aggregator.counts.applied:
        await asyncio.sleep(0.001)
    print("busy", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


def aggregators_killed_at_work(url: str) -> None:
    command = [sys.executable, "-c", AGGREGATOR, url]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    for one in pair:
        with one:
            assert one.stdout.readline() == b"busy\n"
            one.send_signal(signal.SIGKILL)


async def test_aggregators_are_killed_and_every_entry_is_added_up_once(
    server, client, settings, exposure, until
):
    sums: Counter[str] = Counter()
    stopped = asyncio.Event()

    async def feed() -> None:
        for n in count():
            if stopped.is_set():
                return
            arm = Arm("rollout", 1, "fp16", unit_digest(f"u{n}"))
            shown = exposure(arm)
            sums.update({**increments(shown, arm), "users": 1})
            await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(shown)})

    feeding = asyncio.create_task(feed())
    for _ in range(3):
        await asyncio.to_thread(aggregators_killed_at_work, server.url)
    stopped.set()
    await feeding
    last = Aggregator(client, settings, CLOCK, adopt_after_s=0, tidy_s=0.01)
    statistics = ReadStatistics(client, settings)
    await last.start()

    async def all_is_added_up() -> bool:
        return await statistics.backlog() == 0

    await until(all_is_added_up)
    await last.stop()

    told = await client.hgetall(statistics_key("rollout", 1, "fp16"))
    assert {name.decode(): int(n) for name, n in told.items()} == +sums
    consumers = await client.xinfo_consumers(STREAM, GROUP)
    assert len(consumers) >= 4  # each was one of its own
