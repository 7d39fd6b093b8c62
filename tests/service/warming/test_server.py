"""What people ask of the cache server, against a real one."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from service.errors import CacheUnavailable
from service.warming import server as warming_server
from service.warming.server import CacheServer, kind_of
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def client(valkey):
    async with Redis.from_url(valkey.url) as client:
        yield client


async def test_each_purge_begins_another_epoch(client):
    server = CacheServer(client)

    assert [await server.purge(), await server.purge()] == [1, 2]
    assert await client.get("podium:epoch") == b"2"


async def test_a_purge_goes_beyond_an_epoch_that_the_server_has_lost(client):
    server = CacheServer(client)

    assert [await server.purge(beyond=7), await server.purge(beyond=7)] == [8, 9]


@pytest.mark.parametrize("held", [b"not a number", b"9" * 40, str(2**63 - 1).encode(), None])
async def test_a_purge_replaces_what_can_be_no_epoch(client, held):
    """While it is there no replica uses the cache."""
    if held is None:
        await client.rpush("podium:epoch", b"1")
    else:
        await client.set("podium:epoch", held)
    server = CacheServer(client)

    assert [await server.purge(beyond=7), await server.purge(beyond=8)] == [8, 9]
    assert await client.get("podium:epoch") == b"9"


async def test_a_server_that_is_full_and_evicts_nothing_can_be_purged(client):
    await client.mset({f"podium:3:h:R:{number}": bytes(10_000) for number in range(500)})
    others = {"podium:events": b"1", "podium:3:h:W:cursor": b"1", "somebody": b"1"}
    await client.mset({"podium:epoch": 3, **others})
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used - 1_000_000)
    with pytest.raises(OutOfMemoryError):
        await client.incr("podium:epoch")

    assert await CacheServer(client).purge(beyond=3) == 4
    assert await client.exists(*others) == len(others), "events may be on the same server"


async def test_what_is_held_comes_with_the_time_it_has_left(client):
    await client.set("podium:0:h:R:a", b"value", ex=100)
    await client.set("forever", b"value")
    await client.rpush("list", b"value")
    server = CacheServer(client)

    held = await server.held("podium:0:h:R:a")
    assert held.value == b"value"
    assert 90 < held.expires_in_s <= 100
    assert (await server.held("forever")).expires_in_s is None
    assert (await server.held("list")).value is None
    assert (await server.held("nothing")).value is None


async def test_keys_are_counted_by_kind(client):
    await client.mset(
        {
            "podium:3:h:R:a": 1,
            "podium:3:h:R:b": 1,
            "podium:3:h:arm:R:c": 1,
            "podium:3:h:S:i1": 1,
            "podium:2:h:R:a": 1,
            "podium:3:h:R:a:lock": 1,
            "podium:epoch": 3,
            "somebody": 1,
        }
    )

    counted = await CacheServer(client).count(3)

    assert (counted.slates, counted.rows, counted.older, counted.other) == (3, 1, 1, 3)
    assert counted.is_complete


async def test_counting_ends_at_its_limit_and_says_so(client, monkeypatch):
    monkeypatch.setattr(warming_server, "MOST_SCANNED", 10)
    await client.mset({f"podium:0:h:R:{i}": 1 for i in range(50)})

    counted = await CacheServer(client).count(0)

    assert counted.slates == 10
    assert not counted.is_complete


async def test_the_server_tells_how_full_it_is():
    with ValkeyServer(maxmemory="3mb", maxmemory_policy="allkeys-lfu") as valkey:
        async with Redis.from_url(valkey.url) as client:
            await client.set("a", b"x" * 1000)
            figures = await CacheServer(client).figures()

    assert figures.nodes == 1
    assert figures.keys == 1
    assert figures.max_memory_bytes == 3 * 1024 * 1024
    assert figures.used_memory_bytes > 0
    assert figures.policy == "allkeys-lfu"


async def test_a_frozen_or_missing_server_is_unavailable_within_the_limit(valkey, monkeypatch):
    async with Redis.from_url(valkey.url) as client:
        server = CacheServer(client)
        await server.purge()
        monkeypatch.setattr(warming_server, "ANSWER_LIMIT_S", 0.05)
        valkey.freeze()
        with pytest.raises(CacheUnavailable, match="no answer"):
            await server.purge()
        valkey.thaw()
        valkey.kill()
        with pytest.raises(CacheUnavailable):
            await server.figures()


@pytest.mark.parametrize("key", ["", "podium", "podium:x:h:R:a", "podium:1:h:W:a", "a:1:h:R:b"])
def test_what_is_no_entry_is_counted_as_something_else(key):
    assert kind_of(key, 1) == "other"
