"""What every score cache promises: the fake, and the slates over a dictionary and a real Valkey.

The first level is off here: what it alone does is in `tests/service/cache/test_slates.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import pytest

from ranking_models.schema import Float32
from service.cache import ScoreCache, SlateKey
from service.cache.opening import score_store
from service.cache.slates import SlateCache
from service.cache.store import ScoreStore
from service.clock import SystemClock
from service.settings import CacheSettings, RedisSettings
from service.testing import FakeClock, MemoryScoreCache, MemoryStore
from tests.support.valkey import ValkeyServer

# Far above what an answer takes: here it is right answers that are looked at.
SETTINGS = CacheSettings(timeout_s=2.0, first_level_ttl_s=0, refresh_beta=0, ttl_jitter=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "slates", "slates over valkey"])
async def cache(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[ScoreCache]:
    if request.param == "memory":
        yield MemoryScoreCache(clock)
        return
    store: ScoreStore = MemoryStore(clock)
    if request.param != "slates":
        server: ValkeyServer = request.getfixturevalue("valkey")
        store = score_store(server.url, cache=SETTINGS, redis=RedisSettings(), clock=SystemClock())
    await store.start()
    kept = SlateCache(store, settings=SETTINGS, clock=clock)
    yield kept
    await store.stop()


@pytest.fixture
def stall(request: pytest.FixtureRequest, cache: ScoreCache) -> Iterator[Callable[[], None]]:
    """Makes the cache hang."""
    if isinstance(cache, MemoryScoreCache):
        yield lambda: setattr(cache, "lookup_s", 3600.0)
        return
    assert isinstance(cache, SlateCache)
    store = cache._store
    if isinstance(store, MemoryStore):
        yield lambda: setattr(store, "get_s", 3600.0)
        return
    server: ValkeyServer = request.getfixturevalue("valkey")
    yield server.freeze
    server.thaw()


def key(name: str = "a", count: int = 3) -> SlateKey:
    return SlateKey(f"podium:0:cafe:R:{name}", count)


def scores(count: int = 3, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).random(count, np.float32)


async def test_what_was_never_put_is_a_miss(cache):
    lookup = await cache.get(key())

    assert (lookup.outcome, lookup.scores, lookup.age_s) == ("miss", None, None)


@pytest.mark.parametrize("count", [1, 3, 1000])
async def test_a_hit_is_the_computed_answer_bit_by_bit(cache, count):
    computed = scores(count)
    await cache.put(key(count=count), computed, computed_s=0.002)

    lookup = await cache.get(key(count=count))

    assert lookup.outcome == "hit"
    assert lookup.scores.dtype == np.float32
    assert lookup.scores.tobytes() == computed.tobytes()


async def test_a_hit_cannot_be_changed_by_whoever_put_or_got_it(cache):
    computed = scores()
    await cache.put(key(), computed, computed_s=0.0)
    expected = computed.copy()
    computed[:] = 0
    got = (await cache.get(key())).scores

    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1
    np.testing.assert_array_equal((await cache.get(key())).scores, expected)


async def test_the_latest_put_is_the_one_that_counts(cache):
    await cache.put(key(), scores(seed=1), computed_s=0.0)
    await cache.put(key(), scores(seed=2), computed_s=0.0)

    np.testing.assert_array_equal((await cache.get(key())).scores, scores(seed=2))


async def test_keys_do_not_see_each_other(cache):
    await cache.put(key("a"), scores(), computed_s=0.0)

    assert (await cache.get(key("b"))).outcome == "miss"


async def test_age_counts_from_the_put_and_is_never_negative(cache, clock):
    await cache.put(key(), scores(), computed_s=0.0)
    clock.advance(12.5)
    assert (await cache.get(key())).age_s == pytest.approx(12.5)

    clock.jump(-3600)
    assert (await cache.get(key())).age_s == 0.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
async def test_scores_that_are_not_finite_are_not_kept(cache, wrong):
    await cache.put(key(), np.array([0.1, wrong, 0.2], np.float32), computed_s=0.0)

    assert (await cache.get(key())).outcome == "miss"
    assert cache.status().counters.writes_skipped == 1


async def test_scores_of_another_number_of_candidates_are_not_served(cache):
    await cache.put(key(count=3), scores(2), computed_s=0.0)

    assert (await cache.get(key(count=3))).outcome == "miss"


async def test_a_cancelled_lookup_disturbs_no_other(cache):
    """A cancelled command may leave its reply on the connection for the next caller."""
    names = [f"slate-{i}" for i in range(20)]
    for i, name in enumerate(names):
        await cache.put(key(name), scores(seed=i), computed_s=0.0)
    tasks = [asyncio.create_task(cache.get(key(name))) for name in names]
    for turns, task in enumerate(tasks):
        await asyncio.sleep(0)
        if turns % 2:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    for i, name in enumerate(names):
        np.testing.assert_array_equal((await cache.get(key(name))).scores, scores(seed=i))


async def test_a_lookup_ends_when_its_caller_can_wait_no_longer(cache, stall, clock):
    await cache.put(key(), scores(), computed_s=0.0)
    stall()
    began = time.monotonic(), clock.now()

    lookup = await cache.get(key(), timeout_s=0.05)

    took_s = time.monotonic() - began[0] + clock.now() - began[1]
    assert (lookup.outcome, lookup.scores, lookup.age_s) == ("error", None, None)
    assert 0.04 < took_s < SETTINGS.timeout_s / 2
    counters = cache.status().counters
    assert (counters.errors, counters.timeouts, counters.misses) == (1, 1, 0)


async def test_a_caller_with_time_enough_is_answered(cache):
    await cache.put(key(), scores(), computed_s=0.0)

    assert (await cache.get(key(), timeout_s=10.0)).outcome == "hit"


async def test_the_status_tells_what_happened(cache):
    await cache.get(key())
    await cache.put(key(), scores(), computed_s=0.0)
    await cache.get(key())

    status = cache.status()

    assert (status.state, status.breaker, status.problem) == ("connected", "closed", None)
    counters = status.counters
    assert (counters.hits, counters.misses, counters.writes) == (1, 1, 1)
    assert (counters.errors, counters.unreadable, counters.write_errors) == (0, 0, 0)


async def test_past_its_soft_end_an_entry_is_stale_and_to_be_computed_anew(cache, clock):
    await cache.put(key(), scores(), computed_s=0.0)
    clock.advance(SETTINGS.ttl_s - 0.01)
    assert (await cache.get(key())).refresh is False
    clock.advance(0.02)

    lookup = await cache.get(key())

    assert (lookup.outcome, lookup.refresh) == ("stale", True)
    assert lookup.age_s == pytest.approx(SETTINGS.ttl_s + 0.01)
    np.testing.assert_array_equal(lookup.scores, scores())


async def test_past_its_hard_end_an_entry_is_gone(cache, clock):
    await cache.put(key(), scores(), computed_s=0.0)
    clock.advance(SETTINGS.ttl_s * SETTINGS.hard_ttl_factor + 0.01)

    assert (await cache.get(key())).outcome == "miss"


async def test_a_slate_that_was_put_anew_is_fresh_again(cache, clock):
    await cache.put(key(), scores(seed=1), computed_s=0.0)
    clock.advance(SETTINGS.ttl_s + 1)
    await cache.put(key(), scores(seed=2), computed_s=0.0)

    lookup = await cache.get(key())

    assert (lookup.outcome, lookup.age_s) == ("hit", 0.0)
    np.testing.assert_array_equal(lookup.scores, scores(seed=2))


async def test_one_of_many_may_compute_a_slate_and_nobody_has_to_give_that_back(cache, clock):
    assert await cache.claim(key(), for_s=0.2) is True
    assert await cache.claim(key(), for_s=0.2) is False
    assert await cache.claim(key("other"), for_s=0.2) is True


async def test_a_fresh_cache_belongs_to_epoch_0(cache):
    assert cache.epoch == 0
