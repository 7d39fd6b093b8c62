"""Redis slow, full, lying or gone: lookups say so quickly, and never anything wrong."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from redis.asyncio import Redis

from ranking_models.schema import Float32
from service.cache import CacheOutcome, SlateKey
from service.cache.redis import RedisScoreCache
from service.clock import SystemClock
from service.settings import CacheSettings, RedisSettings
from service.stores import cache_client
from tests.support.valkey import ValkeyServer, eventually

# The timeout is generous where a right answer is asked for: the machine may be busy.
PATIENT = CacheSettings(timeout_s=2.0, breaker_probe_s=0.05)
HASTY = CacheSettings(timeout_s=0.02, breaker_probe_s=0.05, breaker_failures=3)
REDIS = RedisSettings(pool_size=8, connect_timeout_s=2.0)
DEFAULT_RETRIES_S = 3.9
"""What a lookup with a timeout of 20 ms takes with redis-py's default retries."""


@asynccontextmanager
async def cache_at(
    url: str, settings: CacheSettings = PATIENT, redis: RedisSettings = REDIS
) -> AsyncIterator[RedisScoreCache]:
    client = cache_client(url, redis)
    cache = RedisScoreCache(client, cache=settings, redis=redis, clock=SystemClock())
    await cache.start()
    try:
        yield cache
    finally:
        await cache.stop()
        await client.aclose()


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """The server as its operator sees it."""
    async with Redis.from_url(valkey.url) as client:
        yield client


def key(name: str = "a", count: int = 3) -> SlateKey:
    return SlateKey(f"podium:0:cafe:R:{name}", count)


def scores(seed: int = 1, count: int = 3) -> Float32:
    return np.random.default_rng(seed).random(count, np.float32)


async def put(cache: RedisScoreCache, name: str = "a", seed: int = 1) -> None:
    await cache.put(key(name), scores(seed), computed_s=0.001)


async def outcome(cache: RedisScoreCache, name: str = "a") -> CacheOutcome:
    async with asyncio.timeout(30):  # a lookup without a bound fails its test
        return (await cache.get(key(name))).outcome


async def until_outcome(cache: RedisScoreCache, wanted: CacheOutcome) -> None:
    async def found() -> bool:
        return await outcome(cache) == wanted

    await eventually(found)


# --- what is written ---------------------------------------------------------


@pytest.mark.parametrize(("jitter", "expected_s"), [(0.0, 90), (0.5, 100), (1.0, 110)])
async def test_entries_live_for_the_ttl_give_or_take_the_jitter(valkey, redis, jitter, expected_s):
    client = cache_client(valkey.url, REDIS)
    settings = CacheSettings(timeout_s=2.0, ttl_s=100, ttl_jitter=0.1)
    cache = RedisScoreCache(
        client, cache=settings, redis=REDIS, clock=SystemClock(), jitter=lambda: jitter
    )
    await put(cache)

    left_s = await redis.pttl(key().text) / 1000

    await client.aclose()
    assert expected_s - 5 < left_s <= expected_s


async def test_replicas_share_entries(valkey):
    async with cache_at(valkey.url) as one, cache_at(valkey.url) as two:
        await put(one)

        np.testing.assert_array_equal((await two.get(key())).scores, scores())


async def test_writes_beyond_the_limit_are_skipped_and_counted(valkey):
    async with cache_at(valkey.url) as cache:
        await asyncio.gather(*(put(cache, str(i)) for i in range(50)))

        counters = cache.status().counters
        assert counters.writes == REDIS.pool_size // 4
        assert counters.writes + counters.writes_skipped == 50


# --- what is under the key ---------------------------------------------------


async def test_garbage_under_the_key_is_a_miss_and_the_next_write_repairs_it(valkey, redis):
    await redis.set(key().text, b"PS garbage")
    async with cache_at(valkey.url) as cache:
        assert await outcome(cache) == "miss"
        await put(cache)
        assert await outcome(cache) == "hit"
        assert cache.status().counters.unreadable == 1


async def test_another_type_under_the_key_is_a_miss_and_the_next_write_repairs_it(valkey, redis):
    await redis.lpush(key().text, "x")
    async with cache_at(valkey.url) as cache:
        for _ in range(10):
            assert await outcome(cache) == "miss"
        await put(cache)
        assert await outcome(cache) == "hit"
        assert cache.status().counters.unreadable == 10
        assert cache.status().breaker == "closed"


async def test_the_value_of_another_key_is_a_miss(valkey, redis):
    async with cache_at(valkey.url) as cache:
        await put(cache, "a")
        await redis.set(key("b").text, await redis.get(key("a").text))

        assert await outcome(cache, "b") == "miss"


# --- servers that fail -------------------------------------------------------


async def test_it_stops_though_the_client_loses_the_cancellation():
    """As `asyncio.wait_for` does on Python 3.11, when the answer comes at the same moment."""
    looking = asyncio.Event()

    class Client:
        looks = 0

        async def get(self, key):
            self.looks += 1
            if self.looks == 2:
                looking.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return b"0"

    cache = RedisScoreCache(Client(), cache=PATIENT, redis=REDIS, clock=SystemClock())
    await cache.start()
    await looking.wait()

    async with asyncio.timeout(10):
        await cache.stop()


async def test_absent_at_start_it_is_left_alone_at_once_and_found_when_it_comes(valkey):
    valkey.kill()
    async with cache_at(valkey.url) as cache:
        assert await outcome(cache) == "open"
        status = cache.status()
        assert (status.state, status.breaker, status.counters.left_alone) == ("degraded", "open", 1)
        assert "ConnectionError" in (status.problem or "")

        valkey.start()
        await until_outcome(cache, "miss")
        assert (cache.status().state, cache.status().problem) == ("connected", None)


async def test_killed_it_is_left_alone_and_used_again_after_the_restart(valkey, caplog):
    with caplog.at_level(logging.INFO, logger="service.cache.redis"):
        async with cache_at(valkey.url, HASTY) as cache:
            await put(cache)
            valkey.kill()
            seen = [await outcome(cache) for _ in range(10)]
            valkey.start()
            await until_outcome(cache, "miss")
            await put(cache)
            await until_outcome(cache, "hit")

    assert set(seen[:3]) == {"error"}
    assert seen[-1] == "open"
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


async def test_frozen_it_costs_the_timeout_a_few_times_and_then_nothing(valkey):
    """redis-py's default of 10 retries makes 20 ms into 4 seconds."""
    async with cache_at(valkey.url, HASTY) as cache:
        await put(cache)
        valkey.freeze()
        longest_s = 0.0
        lookups = 0
        while cache.status().breaker == "closed":
            began = time.monotonic()
            assert await outcome(cache) in ("error", "open")
            longest_s = max(longest_s, time.monotonic() - began)
            lookups += 1
        assert lookups <= HASTY.breaker_failures
        assert longest_s < DEFAULT_RETRIES_S / 4
        assert cache.status().counters.timeouts >= 1

        valkey.thaw()
        await until_outcome(cache, "hit")
        np.testing.assert_array_equal((await cache.get(key())).scores, scores())


async def test_a_hang_is_found_by_callers_that_have_less_time_than_the_cache_timeout(valkey):
    settings = CacheSettings(timeout_s=0.1, breaker_probe_s=60, breaker_failures=3)
    async with cache_at(valkey.url, settings) as cache:
        valkey.freeze()
        seen = [(await cache.get(key(), timeout_s=0.05)).outcome for _ in range(4)]
        valkey.thaw()

    assert seen == ["error", "error", "error", "open"]


async def test_callers_with_next_to_no_time_do_not_take_the_cache_from_all_others(valkey):
    settings = CacheSettings(timeout_s=2.0, breaker_probe_s=60, breaker_failures=3)
    async with cache_at(valkey.url, settings) as cache:
        valkey.freeze()
        seen = [(await cache.get(key(), timeout_s=0.001)).outcome for _ in range(10)]
        valkey.thaw()

        assert set(seen) == {"error"}
        assert cache.status().counters.timeouts == 10
        assert await outcome(cache) == "miss"


async def test_a_burst_that_fails_together_does_not_open_the_breaker(valkey):
    """One stall of our own event loop times out every lookup in flight."""
    async with cache_at(
        valkey.url, HASTY, RedisSettings(pool_size=64, connect_timeout_s=2.0)
    ) as cache:
        valkey.freeze()
        seen = await asyncio.gather(*(outcome(cache, str(i)) for i in range(50)))
        state = cache.status().breaker
        valkey.thaw()

    assert set(seen) == {"error"}
    assert state == "closed"


async def test_more_callers_than_connections_wait_for_their_turn(valkey):
    async with cache_at(
        valkey.url, redis=RedisSettings(pool_size=4, connect_timeout_s=2.0)
    ) as cache:
        await put(cache)
        seen = await asyncio.gather(*(outcome(cache) for _ in range(500)))

        assert set(seen) == {"hit"}


async def test_waiting_for_a_turn_in_vain_is_not_held_against_redis(valkey, redis):
    """Too many lookups for the pool are our load, and no reason to lose the cache as well."""
    settings = CacheSettings(timeout_s=0.05, breaker_failures=1, breaker_probe_s=60)
    async with cache_at(
        valkey.url, settings, RedisSettings(pool_size=1, connect_timeout_s=2.0)
    ) as cache:
        async with cache._slots:
            assert await outcome(cache) == "error"

        assert cache.status().breaker == "closed"
        assert await outcome(cache) == "miss"


async def test_full_without_eviction_it_still_answers_lookups():
    with ValkeyServer(maxmemory="2mb", maxmemory_policy="noeviction") as full:
        async with cache_at(full.url) as cache, Redis.from_url(full.url) as operator:
            await put(cache)
            await operator.set("ballast", b"x" * 200_000)
            await operator.config_set("maxmemory", "1")
            for i in range(10):
                await put(cache, f"new-{i}")

            assert await outcome(cache) == "hit"
            assert cache.status().counters.write_errors == 10
            assert cache.status().breaker == "closed"


async def test_a_read_only_replica_still_answers_lookups(valkey, redis):
    async with cache_at(valkey.url) as cache:
        await put(cache)
        await redis.config_set("replica-serve-stale-data", "yes")
        await redis.replicaof("127.0.0.1", "1")
        for i in range(10):
            await put(cache, f"new-{i}")

        assert await outcome(cache) == "hit"
        assert cache.status().counters.write_errors == 10
        assert cache.status().breaker == "closed"


async def test_permissions_taken_away_while_running_and_given_back(valkey, redis, caplog):
    await redis.execute_command("ACL SETUSER podium on >geheim ~podium:* +@all")
    url = valkey.url.replace("unix://", "unix://podium:geheim@")
    async with cache_at(url, PATIENT) as cache:
        await put(cache)
        assert await outcome(cache) == "hit"
        await redis.execute_command("ACL SETUSER podium -get")
        await until_outcome(cache, "open")
        assert "NoPermissionError" in (cache.status().problem or "")
        await redis.execute_command("ACL SETUSER podium +get")
        await until_outcome(cache, "hit")

    assert "geheim" not in caplog.text


async def test_a_cancel_storm_leaves_right_answers_and_no_connection_behind(valkey):
    """Replies to cancelled lookups arrive late; on a reused connection they reach others."""
    async with cache_at(valkey.url) as cache:
        for i in range(100):
            await put(cache, str(i), seed=i)
        valkey.freeze()
        tasks = [asyncio.create_task(cache.get(key(str(i)))) for i in range(100)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        valkey.thaw()
        found = await asyncio.gather(*(cache.get(key(str(i))) for i in range(100)))

        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        for i, lookup in enumerate(found):
            np.testing.assert_array_equal(lookup.scores, scores(seed=i))
        counters = cache.status().counters
        assert (counters.hits, counters.unreadable) == (100, 0)
        pool = cache._client.connection_pool
        assert not pool._in_use_connections


@pytest.mark.parametrize(
    "reply",
    [b"$5\r\nab", b"\0\xff garbage\r\n\r\n", b"-ERR Fault Injected\r\n", b""],
    ids=["truncated", "not RESP", "an error", "nothing"],
)
async def test_a_server_that_talks_nonsense_is_an_error_and_nothing_worse(tmp_path, reply):
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1000):
            writer.write(reply)
            await writer.drain()
        writer.close()

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(nonsense, path)
    settings = CacheSettings(timeout_s=0.2, breaker_failures=2, breaker_probe_s=60)
    client = cache_client(f"unix://{path}", REDIS)
    cache = RedisScoreCache(client, cache=settings, redis=REDIS, clock=SystemClock())

    assert [await outcome(cache) for _ in range(3)] == ["error", "error", "open"]

    await client.aclose()
    server.close()
    await server.wait_closed()


# --- the purge epoch ---------------------------------------------------------


async def test_the_epoch_is_read_at_start_and_followed(valkey, redis):
    await redis.set("podium:epoch", 7)
    async with cache_at(valkey.url) as cache:
        assert cache.epoch == 7
        await redis.incr("podium:epoch")

        await eventually(lambda: cache.epoch == 8)


async def test_purged_during_an_outage_no_entry_comes_back_with_the_server(valkey, redis):
    """The epoch is known before the first lookup goes out, not a probe interval later."""
    settings = CacheSettings(timeout_s=2.0, breaker_failures=1, breaker_probe_s=0.2)
    async with cache_at(valkey.url, settings) as cache:
        await redis.execute_command("CONFIG SET requirepass geheim")
        await redis.client_kill_filter(skipme=True, _type="normal")
        assert await outcome(cache) == "error"
        await redis.incr("podium:epoch")
        await redis.execute_command("CONFIG", "SET", "requirepass", "")

        async def used_again() -> bool:
            return await outcome(cache) != "open"

        await eventually(used_again)
        assert cache.epoch == 1


async def test_a_late_reply_does_not_end_an_outage_which_only_reading_the_epoch_does(valkey):
    settings = CacheSettings(timeout_s=20, breaker_probe_s=60)
    async with cache_at(valkey.url, settings) as cache:
        await put(cache)
        valkey.freeze()
        late = asyncio.create_task(outcome(cache))
        await asyncio.sleep(0.01)
        cache._breaker.trip(SystemClock().now())
        valkey.thaw()

        assert await late == "hit"
        assert await outcome(cache) == "open"


async def test_an_epoch_that_is_no_number_keeps_the_cache_off(valkey, redis):
    """Without the epoch nobody knows which entries were purged."""
    await redis.set("podium:epoch", "seven")
    async with cache_at(valkey.url) as cache:
        assert await outcome(cache) == "open"
        await redis.set("podium:epoch", "7")
        await until_outcome(cache, "miss")
        assert cache.epoch == 7
