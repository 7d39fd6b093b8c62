"""Servers absent, killed, frozen, full, read-only or forbidden: with each client."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.cache.guarded_store import GuardedStore
from service.cache.link import OneServer, Read
from service.cache.redis_store import RedisLine
from service.cache.store import StoredEntry, StoreOutcome
from service.clock import SystemClock
from service.settings import CacheSettings, RedisSettings
from service.stores import cache_client, cache_problems
from service.testing import FakeClock
from tests.support.store_servers import open_store
from tests.support.valkey import ValkeyServer, eventually

# The timeout is generous where a right answer is asked for: the machine may be busy.
PATIENT = CacheSettings(timeout_s=2.0, breaker_probe_s=0.05)
HASTY = CacheSettings(timeout_s=0.02, breaker_probe_s=0.05, breaker_failures=3)
REDIS = RedisSettings(pool_size=8, connect_timeout_s=2.0)
DEFAULT_RETRIES_S = 3.9
"""What a lookup with a timeout of 20 ms takes with redis-py's default retries."""


@pytest.fixture(params=["lean", "redis-py"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def store_at(
    url: str, client: str, settings: CacheSettings = PATIENT, redis: RedisSettings = REDIS
) -> AsyncIterator[GuardedStore]:
    store = open_store(url, settings, redis, client=client)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
async def operator(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """The server as its operator sees it."""
    async with Redis.from_url(valkey.url) as found:
        yield found


def key(name: str = "a") -> str:
    return f"podium:0:{name}"


async def put(store: GuardedStore, name: str = "a", value: bytes = b"value") -> None:
    await store.put([StoredEntry(key(name), value, 100.0)])


async def outcome(store: GuardedStore, name: str = "a") -> StoreOutcome:
    async with asyncio.timeout(30):  # a lookup without a bound fails its test
        return (await store.get([key(name)])).outcome


async def until_outcome(store: GuardedStore, wanted: StoreOutcome) -> None:
    async def found() -> bool:
        return await outcome(store) == wanted

    await eventually(found)


async def until_value(store: GuardedStore, name: str = "a") -> None:
    async def found() -> bool:
        return (await store.get([key(name)])).values == (b"value",)

    await eventually(found)


# --- what is written ---------------------------------------------------------


async def test_entries_live_for_their_time(valkey, operator, client):
    async with store_at(valkey.url, client) as store:
        await store.put([StoredEntry(key("a"), b"1", 100.0), StoredEntry(key("b"), b"2", 0.0001)])

        assert 95 < await operator.pttl(key("a")) / 1000 <= 100
        assert store.status().counters.writes == 2


async def test_replicas_share_entries(valkey):
    async with store_at(valkey.url, "lean") as one, store_at(valkey.url, "redis-py") as two:
        await put(one)

        assert (await two.get([key()])).values == (b"value",)


@pytest.mark.parametrize(("client", "at_once"), [("redis-py", REDIS.pool_size // 4), ("lean", 256)])
async def test_writes_beyond_the_limit_are_skipped_and_counted(valkey, client, at_once):
    async with store_at(valkey.url, client) as store:
        await asyncio.gather(*(put(store, str(i)) for i in range(300)))

        counters = store.status().counters
        assert counters.writes == at_once
        assert counters.writes + counters.writes_skipped == 300


async def test_another_type_under_a_key_is_nothing_and_the_next_write_repairs_it(
    valkey, operator, client
):
    await operator.lpush(key(), "x")
    async with store_at(valkey.url, client) as store:
        for _ in range(10):
            fetched = await store.get([key()])
            assert (fetched.outcome, fetched.values) == ("ok", (None,))
        assert (await store.get([key(), key("b")])).values == (None, None)
        assert store.status().counters.wrong_types == 10
        await put(store)

        assert (await store.get([key()])).values == (b"value",)
        assert store.status().breaker == "closed"


async def test_flushed_under_load_it_has_nothing_and_goes_on(valkey, operator, client):
    async with store_at(valkey.url, client) as store:
        await put(store)
        await operator.flushall()

        assert (await store.get([key()])).values == (None,)


async def test_a_lock_whose_time_is_over_is_not_taken_from_its_next_owner(valkey, operator):
    clock = FakeClock()
    store = open_store(valkey.url, PATIENT, REDIS, client="lean", clock=clock)
    assert await store.lock(key("lock"), 10.0) is True
    clock.advance(10.0)  # the server has forgotten it by now, and may have given it again

    await store.unlock(key("lock"))

    assert await operator.exists(key("lock"))
    await store.stop()


# --- servers that fail -------------------------------------------------------


async def test_it_stops_though_the_client_loses_the_cancellation():
    """As `asyncio.wait_for` does on Python 3.11, when the answer comes at the same moment."""
    looking = asyncio.Event()

    class StubbornLink:
        name, under_way, lost, writes_at_once = "stubborn", 0, 0, 1
        looks = 0

        async def look(self, bound_s):
            self.looks += 1
            if self.looks == 2:
                looking.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return b"0"

        async def read(self, keys, bound_s):
            return Read([None] * len(keys))

        async def run(self, commands, bound_s):
            return [None] * len(commands)

        async def prove(self, bound_s):
            """It is believed."""

        async def close(self):
            """Nothing is open."""

    store = GuardedStore(StubbornLink(), cache=PATIENT, redis=REDIS, clock=SystemClock())
    await store.start()
    await looking.wait()

    async with asyncio.timeout(10):
        await store.stop()


async def test_absent_at_start_it_is_left_alone_at_once_and_found_when_it_comes(valkey, client):
    valkey.kill()
    async with store_at(valkey.url, client) as store:
        assert await outcome(store) == "open"
        await put(store)
        status = store.status()
        assert (status.state, status.breaker) == ("degraded", "open")
        assert (status.counters.left_alone, status.counters.writes_skipped) == (1, 1)
        assert "ConnectionError" in (status.problem or "")

        valkey.start()
        await until_outcome(store, "ok")
        assert (store.status().state, store.status().problem) == ("connected", None)


async def test_killed_it_is_left_alone_and_used_again_after_the_restart(valkey, client, caplog):
    with caplog.at_level(logging.INFO, logger="service.cache.guarded_store"):
        async with store_at(valkey.url, client, HASTY) as store:
            await put(store)
            valkey.kill()
            seen = [await outcome(store) for _ in range(10)]
            valkey.start()
            await until_outcome(store, "ok")
            await put(store)
            await until_value(store)

    assert set(seen[:3]) == {"error"}
    assert seen[-1] == "open"
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


async def test_frozen_it_costs_the_timeout_once_and_then_nothing(valkey, client):
    """redis-py's default of 10 retries makes 20 ms into 4 seconds."""
    async with store_at(valkey.url, client, HASTY) as store:
        await put(store)
        valkey.freeze()
        began = time.monotonic()
        assert await outcome(store) == "error"
        assert time.monotonic() - began < DEFAULT_RETRIES_S / 4
        # In doubt: nobody waits any more, though the breaker is closed.
        assert await outcome(store) == "open"
        await eventually(lambda: store.status().breaker == "open")
        counters = store.status().counters
        assert (counters.timeouts, counters.left_alone) == (1, 1)

        valkey.thaw()
        await until_value(store)


async def test_while_one_call_waits_for_a_silent_server_the_next_is_turned_away(valkey, client):
    settings = CacheSettings(timeout_s=1.0, breaker_probe_s=0.05)
    async with store_at(valkey.url, client, settings) as store:
        await put(store)
        valkey.freeze()
        waiting = asyncio.create_task(outcome(store))
        await eventually(store.turns_away)

        assert not waiting.done()
        assert store.status().breaker == "closed"
        assert await outcome(store, "b") == "open"

        valkey.thaw()
        assert await waiting == "ok"
        assert await outcome(store) == "ok"


async def test_of_a_hang_that_ended_the_server_is_believed_when_it_has_proved_itself(
    valkey, client
):
    settings = CacheSettings(timeout_s=0.1, breaker_failures=1000)
    async with store_at(valkey.url, client, settings) as store:
        await put(store)
        valkey.freeze()
        assert await outcome(store) == "error"
        assert store.turns_away()
        valkey.thaw()

        await eventually(lambda: not store.turns_away())
        assert (await store.get([key()])).values == (b"value",)
        assert store.status().breaker_opened == 0


async def test_a_hang_is_found_by_callers_that_have_less_time_than_the_cache_timeout(
    valkey, client
):
    settings = CacheSettings(timeout_s=0.1, breaker_probe_s=60, breaker_failures=3)
    async with store_at(valkey.url, client, settings) as store:
        valkey.freeze()
        seen = [(await store.get([key()], timeout_s=0.05)).outcome for _ in range(4)]
        valkey.thaw()

    assert seen == ["error", "open", "open", "open"]


async def test_callers_with_next_to_no_time_do_not_take_the_cache_from_all_others(valkey, client):
    settings = CacheSettings(timeout_s=2.0, breaker_probe_s=60, breaker_failures=3)
    async with store_at(valkey.url, client, settings) as store:
        valkey.freeze()
        seen = [(await store.get([key()], timeout_s=0.001)).outcome for _ in range(10)]
        valkey.thaw()

        assert set(seen) == {"error"}
        assert store.status().counters.timeouts == 10
        assert await outcome(store) == "ok"


async def test_a_burst_that_fails_together_does_not_open_the_breaker(valkey, client):
    """One stall of our own event loop times out every lookup in flight."""
    redis = RedisSettings(pool_size=64, connect_timeout_s=2.0)
    async with store_at(valkey.url, client, HASTY, redis) as store:
        valkey.freeze()
        seen = await asyncio.gather(*(outcome(store, str(i)) for i in range(50)))
        state = store.status().breaker
        valkey.thaw()

    assert set(seen) == {"error"}
    assert state == "closed"


async def test_waiting_for_a_turn_in_vain_is_not_held_against_the_server(valkey):
    """Too many lookups for the pool are our load, and no reason to lose the cache as well."""
    settings = CacheSettings(timeout_s=0.05, breaker_failures=1, breaker_probe_s=60)
    redis = RedisSettings(client="redis-py", pool_size=1, connect_timeout_s=2.0)
    line = RedisLine(cache_client(valkey.url, redis), pool_size=1)
    clock = SystemClock()
    store = GuardedStore(OneServer("one", line), cache=settings, redis=redis, clock=clock)
    await store.start()
    async with line._slots:
        assert await outcome(store) == "error"

    status = store.status()
    assert (status.breaker, status.counters.timeouts) == ("closed", 1)
    assert await outcome(store) == "ok"
    await store.stop()


async def test_full_without_eviction_it_still_answers_lookups(client):
    with ValkeyServer(maxmemory="2mb", maxmemory_policy="noeviction") as full:
        async with store_at(full.url, client) as store, Redis.from_url(full.url) as operator:
            await put(store)
            await operator.config_set("maxmemory", "1")
            for i in range(10):
                await put(store, f"new-{i}")

            assert (await store.get([key()])).values == (b"value",)
            status = store.status()
            assert status.breaker == "closed"
            # After so many refusals nothing is sent that would be refused, and nobody is asked
            # for a lock.
            assert status.counters.write_errors == PATIENT.breaker_failures
            assert status.counters.writes_skipped == 10 - PATIENT.breaker_failures
            assert "memory" in (status.writes_problem or "")
            assert await store.lock(key("lock"), 10.0) is None
            await operator.config_set("maxmemory", "0")

            async def is_written() -> bool:
                await put(store, "again")
                return (await store.get([key("again")])).values == (b"value",)

            await eventually(is_written)
            assert store.status().writes_problem is None


async def test_writes_that_a_server_holds_up_keep_no_lookup_waiting(valkey, operator, client):
    async with store_at(valkey.url, client, CacheSettings(timeout_s=1.0)) as store:
        await put(store)
        await operator.execute_command("CLIENT PAUSE 60000 WRITE")
        held_up = asyncio.create_task(put(store, "b"))
        await eventually(lambda: store.status().under_way > 0)

        assert (await store.get([key()])).values == (b"value",)
        assert not held_up.done()

        await operator.execute_command("CLIENT UNPAUSE")
        await held_up
        assert (await store.get([key("b")])).values == (b"value",)


async def test_a_read_only_replica_still_answers_lookups(valkey, operator, client):
    async with store_at(valkey.url, client) as store:
        await put(store)
        await operator.config_set("replica-serve-stale-data", "yes")
        await operator.replicaof("127.0.0.1", "1")
        for i in range(10):
            await put(store, f"new-{i}")
        assert await store.lock(key("lock"), 10.0) is None

        assert (await store.get([key()])).values == (b"value",)
        counters = store.status().counters
        assert (counters.write_errors, counters.lock_errors) == (PATIENT.breaker_failures, 1)
        assert store.status().breaker == "closed"


async def test_permissions_taken_away_while_running_and_given_back(
    valkey, operator, client, caplog
):
    await operator.execute_command("ACL SETUSER podium on >geheim ~podium:* +@all")
    url = valkey.url.replace("unix://", "unix://podium:geheim@")
    async with store_at(url, client) as store:
        await put(store)
        assert await outcome(store) == "ok"
        await operator.execute_command("ACL SETUSER podium -get")
        await until_outcome(store, "open")
        assert "permission" in (store.status().problem or "")
        await operator.execute_command("ACL SETUSER podium +get")
        await until_value(store)

    assert "geheim" not in caplog.text


async def test_a_password_that_changed_is_a_problem_without_the_password(
    valkey, operator, client, caplog
):
    await operator.execute_command("ACL SETUSER podium on >other ~podium:* +@all")
    url = valkey.url.replace("unix://", "unix://podium:geheim@")
    async with store_at(url, client) as store:
        assert await outcome(store) == "open"
        problem = store.status().problem or ""

    assert "invalid username-password pair" in problem
    assert "geheim" not in problem + caplog.text


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1:1", "x" * 70 + ".invalid"])
async def test_a_server_that_cannot_be_reached_is_left_alone(client, host):
    async with store_at(f"redis://podium:geheim@{host}", client) as store:
        assert await outcome(store) == "open"
        assert "geheim" not in (store.status().problem or "geheim")


# --- the least that an ACL must allow ----------------------------------------

RIGHTS = "~podium:* -@all +get +mget +set +del +ping +select +info"
EXAMPLE = Path(__file__).parents[3] / "deploy" / "settings.example.toml"


async def test_a_user_with_the_documented_rights_can_do_all_and_nothing_else(
    valkey, operator, client
):
    assert RIGHTS in EXAMPLE.read_text()
    await operator.execute_command(f"ACL SETUSER podium on >geheim resetchannels {RIGHTS}")
    url = valkey.url.replace("unix://", "unix://podium:geheim@")
    async with store_at(url + "?db=1", client) as store:
        await put(store)
        await put(store, "b")
        assert (await store.get([key(), key("b")])).values == (b"value", b"value")
        assert await store.lock(key("lock"), 10.0) is True
        await store.unlock(key("lock"))
        assert store.status().state == "connected"
        counters = store.status().counters
        assert (counters.errors, counters.write_errors, counters.lock_errors) == (0, 0, 0)

        assert await cache_problems(url, RedisSettings()) != ()
        assert (await store.get(["elsewhere"])).outcome == "error"


# --- the purge epoch ---------------------------------------------------------


async def test_the_epoch_is_read_at_start_and_followed_within_a_second(valkey, operator, client):
    await operator.set("podium:epoch", 7)
    async with store_at(valkey.url, client, CacheSettings()) as store:
        assert store.epoch == 7
        await operator.incr("podium:epoch")
        began = time.monotonic()

        await eventually(lambda: store.epoch == 8)

        assert time.monotonic() - began < 1.0


async def test_what_was_purged_does_not_come_back_when_the_server_loses_the_epoch(
    valkey, operator, client
):
    """Evicted, flushed, or a replica took over that had not heard of the purge."""
    await operator.set("podium:epoch", 7)
    async with store_at(valkey.url, client, CacheSettings()) as store:
        await operator.delete("podium:epoch")

        async def is_back() -> bool:
            return await operator.get("podium:epoch") == b"7"

        await eventually(is_back)
        assert store.epoch == 7
        assert store.status().state == "connected"


async def test_purged_during_an_outage_no_entry_comes_back_with_the_server(
    valkey, operator, client
):
    """The epoch is known before the first lookup goes out, not a probe interval later."""
    settings = CacheSettings(timeout_s=2.0, breaker_failures=1, breaker_probe_s=0.2)
    async with store_at(valkey.url, client, settings) as store:
        await operator.execute_command("CONFIG SET requirepass geheim")
        await operator.client_kill_filter(skipme=True, _type="normal")
        await until_outcome(store, "open")
        await operator.incr("podium:epoch")
        await operator.execute_command("CONFIG", "SET", "requirepass", "")

        async def used_again() -> bool:
            return await outcome(store) != "open"

        await eventually(used_again)
        assert store.epoch == 1


async def test_an_epoch_that_cannot_be_read_any_more_closes_the_store_within_a_second(
    valkey, operator, client
):
    """Values would still come, but nobody knows whether they were purged."""
    await operator.execute_command("ACL SETUSER podium on >geheim ~podium:* +@all")
    url = valkey.url.replace("unix://", "unix://podium:geheim@")
    async with store_at(url, client, CacheSettings(timeout_s=2.0, breaker_probe_s=60)) as store:
        await put(store)
        await operator.execute_command("ACL SETUSER podium resetkeys ~podium:0:*")
        began = time.monotonic()

        await until_outcome(store, "open")

        assert time.monotonic() - began < 1.5  # 1 s, and a busy machine


async def test_a_late_reply_does_not_end_an_outage_which_only_reading_the_epoch_does(
    valkey, client
):
    settings = CacheSettings(timeout_s=20, breaker_probe_s=60)
    async with store_at(valkey.url, client, settings) as store:
        await put(store)
        valkey.freeze()
        late = asyncio.create_task(outcome(store))
        await asyncio.sleep(0.01)
        store._breaker.trip(SystemClock().now())
        valkey.thaw()

        assert await late == "ok"
        assert await outcome(store) == "open"


async def test_an_epoch_that_is_no_number_keeps_the_cache_off(valkey, operator, client):
    """Without the epoch nobody knows which entries were purged."""
    await operator.set("podium:epoch", "seven")
    async with store_at(valkey.url, client) as store:
        assert await outcome(store) == "open"
        await operator.set("podium:epoch", "7")
        await until_outcome(store, "ok")
        assert store.epoch == 7
