"""What every score store promises: the fake, the lean client and redis-py, on real servers, and
redis-py on a cluster of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.cache.store import ScoreStore, StoredEntry
from service.settings import CacheSettings
from service.testing import FakeClock, MemoryStore
from tests.support.store_servers import Cluster, open_store, redis_7, running_cluster, valkey_8
from tests.support.valkey import ValkeyServer, eventually

# Far above what an answer takes: here it is right answers that are looked at.
SETTINGS = CacheSettings(timeout_s=2.0)
SERVERS: dict[str, Callable[[], Path] | None] = {
    "embedded": None,
    "redis-7": redis_7,
    "valkey-8": valkey_8,
}
KINDS = [
    "memory",
    *(f"{c} on {s}" for s in SERVERS for c in ("lean", "redis-py")),
    "redis-py on cluster",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Iterator[ValkeyServer | Cluster | None]:
    """What is behind the store, if anything is; empty."""
    if kind == "memory":
        yield None
        return
    if kind.endswith("cluster"):
        formed: Cluster = request.getfixturevalue("cluster")
        formed.empty()
        yield formed
        return
    find = SERVERS[kind.partition(" on ")[2]]
    with ValkeyServer(binary=find() if find else None) as running:
        yield running


@pytest.fixture
async def store(kind: str, server: ValkeyServer | Cluster | None) -> AsyncIterator[ScoreStore]:
    if server is None:
        yield MemoryStore(FakeClock())
        return
    kept = open_store(server.url, SETTINGS, client=kind.partition(" on ")[0])
    await kept.start()
    yield kept
    await kept.stop()


def entry(name: str, value: bytes = b"value", ttl_s: float = 100.0) -> StoredEntry:
    return StoredEntry(f"podium:0:{name}", value, ttl_s)


async def values(store: ScoreStore, *names: str) -> tuple[bytes | None, ...]:
    fetched = await store.get([f"podium:0:{name}" for name in names])
    assert fetched.outcome == "ok"
    return fetched.values


async def let_pass(store: ScoreStore, seconds: float, holds: Callable[[], Awaitable[bool]]) -> None:
    """Time goes by, on whatever clock the store's servers have, until something holds."""
    if isinstance(store, MemoryStore):
        store._clock.advance(seconds)
        assert await holds()
    else:
        await eventually(holds)


async def test_a_fresh_store_has_nothing_and_belongs_to_epoch_0(store):
    assert await values(store, "a") == (None,)
    assert await values(store, "a", "b") == (None, None)
    assert store.epoch == 0


async def test_values_come_back_byte_by_byte_in_the_order_of_the_keys(store):
    kept = {"empty": b"", "binary": bytes(range(256)) + b"\r\n$-1\r\n", "large": b"x" * 300_000}
    await store.put([entry(name, value) for name, value in kept.items()])

    assert await values(store, *kept) == tuple(kept.values())
    assert await values(store, "large", "none", "empty") == (kept["large"], None, b"")
    for name, value in kept.items():
        assert await values(store, name) == (value,)


async def test_no_keys_and_no_entries_are_fine(store):
    await store.put([])

    assert (await store.get([])).outcome == "ok"
    assert (await store.get([])).values == ()


async def test_keys_beyond_ascii_are_kept_apart(store):
    await store.put([entry("ü", b"1"), entry("u", b"2")])

    assert await values(store, "ü", "u") == (b"1", b"2")


async def test_the_latest_put_counts(store):
    await store.put([entry("a", b"old"), entry("a", b"newer")])
    await store.put([entry("a", b"newest")])

    assert await values(store, "a") == (b"newest",)


async def test_an_entry_is_gone_after_its_time(store):
    await store.put([entry("brief", ttl_s=0.03), entry("long")])

    async def over() -> bool:
        return await values(store, "brief", "long") == (None, b"value")

    await let_pass(store, 0.03, over)


async def test_a_thousand_keys_at_once(store):
    names = [f"row-{i}" for i in range(1000)]
    await store.put([entry(name, name.encode()) for name in names])

    assert await values(store, *names) == tuple(name.encode() for name in names)


async def test_many_callers_at_once_each_get_their_own(store):
    names = [f"slate-{i}" for i in range(300)]
    for name in names:
        await store.put([entry(name, name.encode())])

    got = await asyncio.gather(*(values(store, name, "none") for name in names))

    assert got == [(name.encode(), None) for name in names]
    assert store.status().under_way == 0


async def test_cancelled_calls_disturb_no_others(store):
    names = [f"slate-{i}" for i in range(60)]
    await store.put([entry(name, name.encode()) for name in names])
    tasks = [asyncio.create_task(values(store, name)) for name in names]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        if number % 2:
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    for name, end in zip(names, ended, strict=True):
        assert isinstance(end, asyncio.CancelledError) or end == (name.encode(),)
        assert await values(store, name) == (name.encode(),)
    await eventually(lambda: store.status().under_way == 0)


async def test_a_lock_is_for_one(store):
    assert await store.lock("podium:0:lock", 100.0) is True
    assert await store.lock("podium:0:lock", 100.0) is False
    assert await store.lock("podium:0:other", 100.0) is True
    await store.unlock("podium:0:lock")

    assert await store.lock("podium:0:lock", 100.0) is True


async def test_a_lock_ends_by_itself(store):
    assert await store.lock("podium:0:lock", 0.05) is True

    async def free() -> bool:
        return await store.lock("podium:0:lock", 100.0) is True

    await let_pass(store, 0.05, free)


async def test_giving_back_a_lock_that_was_never_taken_takes_it_from_nobody(store, kind, server):
    if server is None:
        await store.unlock("podium:0:lock")
        assert await store.lock("podium:0:lock", 100.0) is True
        return
    assert await store.lock("podium:0:lock", 100.0) is True
    other = open_store(server.url, SETTINGS, client=kind.partition(" on ")[0])
    await other.start()
    await other.unlock("podium:0:lock")

    assert await other.lock("podium:0:lock", 100.0) is False
    await other.stop()


@contextmanager
def frozen(store: ScoreStore, server: ValkeyServer | Cluster | None) -> Iterator[None]:
    if server is None:
        assert isinstance(store, MemoryStore)
        store.get_s = 3600.0
        yield
        return
    server.freeze()
    yield
    server.thaw()


async def test_a_lookup_ends_when_its_caller_can_wait_no_longer(store, server):
    began = time.monotonic()
    with frozen(store, server):
        fetched = await store.get(["podium:0:a", "podium:0:b"], timeout_s=0.05)

    assert (fetched.outcome, fetched.values) == ("error", (None, None))
    assert time.monotonic() - began < SETTINGS.timeout_s / 2
    counters = store.status().counters
    assert (counters.errors, counters.timeouts, counters.lookups) == (1, 1, 0)


async def test_the_status_tells_what_happened(store):
    await store.put([entry("a"), entry("b")])
    await values(store, "a")
    await values(store, "a", "b", "c")

    status = store.status()

    assert (status.state, status.breaker, status.problem) == ("connected", "closed", None)
    counters = status.counters
    assert (counters.lookups, counters.writes, counters.errors) == (2, 2, 0)
    assert (counters.write_errors, counters.writes_skipped, counters.left_alone) == (0, 0, 0)
