"""A Redis Cluster of six processes: keys by slot, resharding, a master killed under load."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from service.cache.cluster import ClusterLink
from service.cache.guarded_store import GuardedStore
from service.cache.link import EPOCH, NodeFailed
from service.cache.store import StoredEntry
from service.clock import SystemClock
from service.settings import CacheSettings, RedisSettings
from service.stores import store_url
from tests.support.store_servers import (
    Cluster,
    TcpServer,
    expect_ok,
    node_id,
    open_store,
    running_cluster,
)
from tests.support.valkey import eventually

NAMES = [f"podium:0:row-{number}" for number in range(300)]
PATIENT = CacheSettings(timeout_s=2.0, breaker_probe_s=0.1)
REDIS = RedisSettings(connect_timeout_s=2.0, pool_size=8)

pytestmark = pytest.mark.slow


RIGHTS = "~podium:* -@all +get +mget +set +del +ping +select +info +cluster|slots +asking"
"""As deploy/settings.example.toml has it: all that is done here is done with these alone."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        for server in running.servers:
            expect_ok(server, "ACL", "SETUSER", "podium", "on", ">geheim", *RIGHTS.split())
        yield running


def as_user(url: str) -> str:
    return url.replace("://", "://podium:geheim@")


@asynccontextmanager
async def store_at(
    cluster: Cluster, settings: CacheSettings = PATIENT
) -> AsyncIterator[GuardedStore]:
    store = open_store(as_user(cluster.url), settings, REDIS)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def fill(store: GuardedStore) -> None:
    await store.put([StoredEntry(name, name.encode(), 1000.0) for name in NAMES])


async def load(store: GuardedStore, seen: Counter[str], ended: asyncio.Event) -> None:
    """Read single and several keys; count what comes: right, wrong, ok without a value, ..."""
    draw = random.Random(1)
    while not ended.is_set():
        names = draw.sample(NAMES, draw.choice((1, 20)))
        fetched = await store.get(names)
        assert len(fetched.values) == len(names)
        for name, value in zip(names, fetched.values, strict=True):
            wrong = value is not None and value != name.encode()
            seen["wrong" if wrong else fetched.outcome if value is None else "right"] += 1
        await asyncio.sleep(0.001)


async def all_is_there(store: GuardedStore) -> bool:
    fetched = await store.get(NAMES)
    return fetched.values == tuple(name.encode() for name in NAMES)


async def test_keys_of_all_nodes_are_read_and_written_at_once(cluster):
    async with store_at(cluster) as store:
        await fill(store)

        assert await all_is_there(store)
        assert await store.lock("podium:0:lock", 10.0) is True
        assert await store.lock("podium:0:lock", 10.0) is False
        await store.unlock("podium:0:lock")
        assert store.status().counters.writes == len(NAMES)
        assert store.status().under_way == 0


async def test_one_node_is_enough_to_find_the_others(cluster):
    url = as_user(cluster.servers[1].tcp_url)
    store = open_store(url, PATIENT, RedisSettings(url=url, connect_timeout_s=2.0, cluster=True))
    await store.start()
    await fill(store)

    assert await all_is_there(store)
    await store.stop()


async def test_one_look_is_enough_once_all_nodes_answer_again(cluster):
    """Each more that is needed costs an interval between two looks."""
    settings = CacheSettings(timeout_s=0.1, breaker_probe_s=5.0)
    redis = RedisSettings(connect_timeout_s=2.0)
    url = store_url(as_user(cluster.url), setting="redis.url")
    link = ClusterLink(url, cache=settings, redis=redis, clock=SystemClock())
    assert await link.look(2.0) is None
    cluster.freeze()
    for _ in range(2):
        assert isinstance((await link.run([EPOCH], 0.1))[0], NodeFailed)
    cluster.thaw()

    assert await link.look(2.0) is None
    await link.close()


async def test_a_silent_node_keeps_nobody_waiting_but_who_asked_it_first(cluster):
    """From then on its keys are not asked for, and those of the others are answered."""
    # Shorter than it takes until its replica is made a master.
    settings = CacheSettings(timeout_s=0.1, breaker_failures=1000)
    silent = next(m for m in cluster.masters if not owns(m, "podium:epoch"))
    theirs = [name for name in NAMES if owns(silent, name)]
    others = [name for name in NAMES if not owns(silent, name)]
    async with store_at(cluster, settings) as store:
        await fill(store)
        silent.freeze()
        try:
            assert (await store.get(theirs)).outcome == "error"
            # Until it is known who is silent, all are in doubt.
            await eventually(lambda: not store.turns_away())
            began = time.monotonic()
            assert (await store.get([theirs[0]])).outcome == "error"
            found = await store.get([*others, theirs[0]])
            assert found.values == (*(name.encode() for name in others), None)
            assert time.monotonic() - began < settings.timeout_s
        finally:
            silent.thaw()

        await eventually(lambda: all_is_there(store))


async def test_slots_that_move_under_load_lose_nobody_an_answer(cluster):
    """ASK while a slot moves, MOVED once it has: the call follows both."""
    source, target = cluster.masters[0], cluster.masters[1]
    moving = [name for name in NAMES if key_slot(name.encode()) < 5461][:20]
    async with store_at(cluster) as store:
        await fill(store)
        seen: Counter[str] = Counter()
        ended = asyncio.Event()
        loading = asyncio.create_task(load(store, seen, ended))
        for name in moving:
            slot = str(key_slot(name.encode()))
            expect_ok(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
            expect_ok(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
            source.command("MIGRATE", "127.0.0.1", str(target.port), name, "0", "1000")
            await asyncio.sleep(0.01)
            for owner in (target, source):
                expect_ok(owner, "CLUSTER", "SETSLOT", slot, "NODE", node_id(target))
        ended.set()
        await loading

        assert seen["wrong"] == seen["error"] == seen["open"] == 0
        assert seen["right"] > 100
        assert await all_is_there(store)


@pytest.mark.parametrize("owner_of_the_epoch", [False, True])
async def test_a_master_killed_under_load_fails_nobody_and_is_replaced(cluster, owner_of_the_epoch):
    settings = CacheSettings(timeout_s=0.2, breaker_failures=3, breaker_probe_s=0.5)
    victim = next(m for m in cluster.masters if owns(m, "podium:epoch") == owner_of_the_epoch)
    replica = cluster.replicas[cluster.masters.index(victim)]
    async with store_at(cluster, settings) as store:
        await fill(store)
        seen: Counter[str] = Counter()
        ended = asyncio.Event()
        loading = asyncio.create_task(load(store, seen, ended))
        await eventually(lambda: seen["right"] > 100)
        victim.kill()
        await eventually(lambda: seen["error"] > 0)
        await eventually(lambda: b"role:master" in replica.command("INFO", "replication"))
        promoted_at = time.monotonic()
        await eventually(lambda: answers(store), limit_s=4.0)
        recovered_s = time.monotonic() - promoted_at
        await fill(store)  # what no replica had got in time is lost
        ended.set()
        await loading

        assert seen["wrong"] == 0
        assert recovered_s < 2.0
        assert await all_is_there(store)
        assert store.status().under_way == 0


async def answers(store: GuardedStore) -> bool:
    return (await store.get(NAMES)).outcome == "ok"


def owns(server: TcpServer, name: str) -> bool:
    """Whether a node says so itself; one that is gone owns nothing."""
    reply = server.command("GET", name)
    return reply != b"" and not reply.startswith(b"-MOVED")
