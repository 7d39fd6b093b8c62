"""Replies late, wrong, broken or somebody else's: what a store makes of them, with each client."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.cache.guarded_store import GuardedStore
from service.cache.store import Fetched, StoredEntry
from service.settings import CacheSettings, RedisSettings
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.store_servers import open_store
from tests.support.valkey import ValkeyServer, eventually

CLIENTS = ["lean", "redis-py"]
NAMES = [f"podium:0:key-{number}" for number in range(50)]
# Never left alone, and patient with a busy machine: here it is the answers that count.
STEADY = CacheSettings(timeout_s=0.2, breaker_failures=1_000_000)
HASTY = CacheSettings(timeout_s=0.05, breaker_failures=1_000_000)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.socket_path, seed=7) as running:
        yield running


@asynccontextmanager
async def store_at(
    url: str, client: str, settings: CacheSettings = STEADY
) -> AsyncIterator[GuardedStore]:
    """A store that has a value under each of `NAMES`: the key itself, so that all can tell."""
    redis = RedisSettings(connect_timeout_s=2.0, pool_size=8)
    store = open_store(url, settings, redis, client=client)
    await store.start()
    for name in NAMES:
        await store.put([StoredEntry(name, name.encode(), 1000.0)])
    try:
        yield store
    finally:
        await store.stop()


def note(counts: Counter[str], names: list[str], fetched: Fetched) -> None:
    """Count what a call brought: right values, another key's, errors, ..."""
    assert len(fetched.values) == len(names)
    for name, value in zip(names, fetched.values, strict=True):
        if value is None:
            counts[fetched.outcome] += 1
        else:
            assert type(value) is bytes
            # The codec above refuses what does not carry the key's own tag.
            counts["right" if value == name.encode() else "refused by its tag"] += 1


async def load(store: GuardedStore, callers: int, calls: int) -> Counter[str]:
    """Callers that each read one key, or several, one call after the other."""
    counts: Counter[str] = Counter()

    async def caller(number: int) -> None:
        draw = random.Random(number)
        for _ in range(calls):
            names = draw.sample(NAMES, draw.choice((1, 1, 7)))
            note(counts, names, fetched := await store.get(names))
            if fetched.outcome == "open":
                await asyncio.sleep(0.001)  # nothing was waited for

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return counts


async def all_is_well(store: GuardedStore) -> bool:
    fetched = await store.get(NAMES)
    return fetched.values == tuple(name.encode() for name in NAMES)


FAULTS = [
    Fault("error", 0.2),
    Fault("truncate", 0.2),
    Fault("garbage", 0.2),
    Fault("swap", 0.3),
    Fault("insert", 0.2),
    Fault("delay", 0.1, delay_s=0.1),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
async def test_no_fault_reaches_a_caller_or_outlives_itself(proxy, client, fault):
    settings = HASTY if fault.kind in ("delay", "swap") else STEADY
    async with store_at(proxy.url, client, settings) as store:
        proxy.fault = fault
        counts = await load(store, callers=8, calls=25)
        proxy.fault = Fault()

        # Who is late is in doubt, and not asked before it has proved that it answers in time.
        assert proxy.spoiled > (0 if fault.kind == "delay" else 5)
        assert counts["right"] > 0
        assert counts["error"] > 0 or counts["refused by its tag"] > 0
        if fault.kind not in ("delay", "swap"):  # a reply that waits for another one is late, too
            assert counts["open"] == 0
        if fault.kind not in ("swap", "insert"):
            assert counts["refused by its tag"] == 0
        # Nothing stays behind: at most one look until a connection out of step is found.
        await eventually(lambda: all_is_well(store), limit_s=2.0)
        assert set(await load(store, callers=8, calls=5)) == {"right"}
        await eventually(lambda: store.status().under_way == 0)


async def test_a_line_that_went_dead_costs_each_call_its_time_and_is_replaced(proxy, client):
    """Half open: the server is thought to be there, and nothing comes."""
    async with store_at(proxy.url, client, HASTY) as store:
        proxy.fault = Fault("swallow")
        began = time.monotonic()
        fetched = await store.get(NAMES)
        took_s = time.monotonic() - began
        proxy.fault = Fault()

        assert fetched.outcome == "error"
        assert took_s < 1.0
        await eventually(lambda: all_is_well(store), limit_s=2.0)
        assert store.status().counters.lost_connections >= 1
        await eventually(lambda: store.status().under_way == 0)


async def test_connections_that_are_cut_under_load_are_errors_and_come_back(proxy, client):
    async with store_at(proxy.url, client) as store:
        loading = asyncio.create_task(load(store, callers=8, calls=50))
        for _ in range(5):
            await asyncio.sleep(0.005)
            proxy.cut()
        counts = await loading

        assert set(counts) <= {"right", "error"}
        assert counts["right"] > counts["error"]
        await eventually(lambda: all_is_well(store), limit_s=2.0)


async def test_a_connection_that_is_never_idle_is_found_out_of_step_by_the_next_look(proxy):
    """One reply too many, and every later one is a stranger's: for as long as calls overlap."""
    async with store_at(proxy.url, "lean") as store:
        ended = asyncio.Event()
        recent: Counter[str] = Counter()

        async def caller(number: int) -> None:
            while not ended.is_set():
                name = NAMES[number]
                note(recent, [name], await store.get([name]))

        callers = [asyncio.create_task(caller(number)) for number in range(8)]
        await eventually(lambda: recent["right"] > 50)
        proxy.fault = Fault("insert")
        await eventually(lambda: proxy.spoiled > 0)
        proxy.fault = Fault()

        async def clean() -> bool:
            recent.clear()
            await asyncio.sleep(0.05)
            return recent["right"] > 0 and not recent["refused by its tag"]

        await eventually(clean, limit_s=2.0)
        ended.set()
        await asyncio.gather(*callers)


async def test_cancelled_callers_leave_right_answers_and_nothing_under_way(proxy, client):
    """Replies to cancelled calls come late; on a connection in use they could reach others."""
    async with store_at(proxy.url, client) as store:
        proxy.fault = Fault("delay", 0.3, delay_s=0.01)
        draw = random.Random(3)
        counts: Counter[str] = Counter()

        async def caller(name: str) -> None:
            note(counts, [name], await store.get([name]))

        for _ in range(10):
            tasks = [asyncio.create_task(caller(name)) for name in NAMES]
            await asyncio.sleep(draw.random() * 0.02)
            for task in draw.sample(tasks, 35):
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)

        assert counts["refused by its tag"] == 0
        proxy.fault = Fault()
        await eventually(lambda: all_is_well(store), limit_s=2.0)
        await eventually(lambda: store.status().under_way == 0)


async def test_what_a_frozen_server_answers_late_reaches_nobody(valkey, client):
    async with store_at(valkey.url, client, HASTY) as store:
        valkey.freeze()
        counts: Counter[str] = Counter()
        for _ in range(3):
            asked = [[name] for name in NAMES]
            fetched = await asyncio.gather(*(store.get(names) for names in asked))
            for names, one in zip(asked, fetched, strict=True):
                note(counts, names, one)
        valkey.thaw()

        assert counts == {"error": len(NAMES), "open": 2 * len(NAMES)}
        await eventually(lambda: all_is_well(store), limit_s=2.0)
        assert set(await load(store, callers=8, calls=20)) == {"right"}


@pytest.mark.parametrize("callers", [500])
async def test_more_callers_than_connections_are_all_answered(valkey, client, callers):
    async with store_at(valkey.url, client, CacheSettings(timeout_s=5.0)) as store:
        fetched = await asyncio.gather(*(store.get([NAMES[i % 50]]) for i in range(callers)))

        assert [one.values[0] for one in fetched] == [
            NAMES[i % 50].encode() for i in range(callers)
        ]


@pytest.mark.parametrize(
    "reply",
    [
        b"$5\r\nab",
        b"\0\xff garbage\r\n\r\n",
        b"-ERR Fault Injected\r\n",
        b":7\r\n",
        b"*2\r\n$1\r\na\r\n:1\r\n",
        b"*1000000000000\r\n",
        b"$1000000000000\r\n",
        b"",
    ],
    ids=["truncated", "not RESP", "error", "number", "list", "long list", "large", "nothing"],
)
async def test_a_server_that_talks_nonsense_is_an_error_and_nothing_worse(tmp_path, client, reply):
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if await reader.read(1000):
                writer.write(reply)
                await writer.drain()
            writer.close()

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(nonsense, path)
    settings = CacheSettings(timeout_s=0.2, breaker_failures=2, breaker_probe_s=60)
    store = open_store(f"unix://{path}", settings, client=client)

    assert [(await store.get(["a"])).outcome for _ in range(3)] == ["error", "error", "open"]
    assert store.status().under_way == 0

    await store.stop()
    server.close()
    await server.wait_closed()


async def test_who_answers_later_than_lookups_can_wait_is_not_asked_again(proxy, client):
    """It would keep every request waiting that comes until it is left alone once more."""
    settings = CacheSettings(timeout_s=0.05, breaker_failures=3, breaker_probe_s=0.02)
    async with store_at(proxy.url, client, settings) as store:
        proxy.fault = Fault("delay", delay_s=0.2)
        await store.get(NAMES[:1])
        await eventually(lambda: store.status().breaker == "open")
        spoiled = proxy.spoiled
        await eventually(lambda: proxy.spoiled >= spoiled + 10)  # looks are answered

        assert store.status().breaker_opened == 1
        proxy.fault = Fault()
        await eventually(lambda: store.status().state == "connected")
