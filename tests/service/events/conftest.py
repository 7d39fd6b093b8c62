"""An event server that keeps its promise, and events in the shape that callers send."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis

from experiments.events import Arm, Exposure, unit_digest
from service.events.event_log import EventLog
from service.events.intake import EventIntake
from service.events.signing import SigningKeys
from service.events.slates import SlateIds
from service.events.spool import Spool
from service.events.stream import EventStream
from service.events.tokens import Claims, ExposureTokens, items_digest
from service.messages import FeedbackEvent
from service.settings import EventSettings, RedisSettings
from service.stores.clients import events_client
from service.testing import FakeClock
from tests.support.valkey import ValkeyServer

KEYS = SigningKeys({"k1": b"1" * 32}, "k1")
WALL = FakeClock().wall()
TTL_S = 3600
ITEMS = ("i1", "i2", "i3")
"""What every slate here holds."""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Append-only, fsynced before each answer: as the event server has to be."""
    with ValkeyServer(appendonly="yes", appendfsync="always") as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def settings() -> EventSettings:
    # Connects may take their time on a busy machine: only a test that freezes
    # the server waits for a timeout.
    return EventSettings(timeout_s=2.0, token_ttl_s=TTL_S)


@pytest.fixture
async def client(server: ValkeyServer, settings: EventSettings) -> AsyncIterator[Redis]:
    redis = RedisSettings(connect_timeout_s=2.0)
    async with events_client(server.url, redis, settings) as connected:
        yield connected


@pytest.fixture
def spool(tmp_path: Path, clock: FakeClock) -> Spool:
    return Spool(tmp_path / "spool", 1 << 20, clock)


@pytest.fixture
async def log(
    client: Redis, settings: EventSettings, spool: Spool, clock: FakeClock
) -> AsyncIterator[EventLog]:
    """A log whose clock stands still: it looks at a lost server again when a test says so."""
    running = EventLog(EventStream(client, settings), spool, clock, tend_s=0.005)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def impatient(
    server: ValkeyServer, spool: Spool, clock: FakeClock
) -> AsyncIterator[EventLog]:
    """A log that gives up on a frozen server soon. Not started: it replays when a test says so."""
    settings = EventSettings(timeout_s=0.1)
    redis = RedisSettings(connect_timeout_s=2.0)
    async with events_client(server.url, redis, settings) as client:
        waiting = EventLog(EventStream(client, settings), spool, clock, tend_s=0.005)
        yield waiting
        await waiting.stop()


@pytest.fixture
def until():
    """Wait until something holds that happens in the background."""

    async def wait(holds) -> None:
        async with asyncio.timeout(20):
            while True:
                answer = holds()
                if await answer if inspect.isawaitable(answer) else answer:
                    return
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def slates() -> SlateIds:
    return SlateIds(KEYS)


@pytest.fixture
def tokens() -> ExposureTokens:
    return ExposureTokens(KEYS)


@pytest.fixture
def intake(
    log: EventLog,
    tokens: ExposureTokens,
    slates: SlateIds,
    settings: EventSettings,
    clock: FakeClock,
) -> EventIntake:
    return EventIntake(log, tokens, slates, settings, clock)


@pytest.fixture
def arm():
    """A variant that served a unit."""

    def make(variant: str = "fp16", *, unit: str = "u1", experiment: str = "rollout") -> Arm:
        return Arm(experiment, 1, variant, unit_digest(unit))

    return make


@pytest.fixture
def exposure(slates: SlateIds, arm):
    """A slate that was returned."""

    def make(*arms: Arm, slate_id: str | None = None, latency_ms: float = 4.0) -> Exposure:
        return Exposure(
            slate_id=slate_id or slates.new(WALL),
            arms=arms or (arm(),),
            at=WALL,
            latency_ms=latency_ms,
            candidates=100,
            cache_hits=0,
            cache_misses=100,
            cache_result="miss",
            engine="onnxruntime-cpu",
            degraded=None,
            config_digest="d1",
        )

    return make


@pytest.fixture
def token(tokens: ExposureTokens, arm):
    """The exposure token of a slate."""

    def make(slate_id: str, *arms: Arm) -> str:
        claims = Claims(
            slate_id=slate_id,
            issued=int(WALL),
            expires=int(WALL) + TTL_S,
            arms=arms or (arm(),),
            items=items_digest(ITEMS),
        )
        return tokens.sign(claims)

    return make


@pytest.fixture
def event(slates: SlateIds, token):
    """A click on the first item of a fresh slate, with its token; say what is different."""
    numbers = count(1)

    def make(**fields: object) -> FeedbackEvent:
        slate_id = fields.get("slate_id") or slates.new(WALL)
        values: dict[str, object] = {
            "event_id": f"e{next(numbers)}-{os.urandom(3).hex()}",
            "type": "click",
            "slate_id": slate_id,
            "item_id": "i1",
            "position": 1,
            "timestamp": "2025-06-15T15:06:40Z",
            "exposure": token(slate_id),
        }
        return FeedbackEvent(**{**values, **fields})

    return make
