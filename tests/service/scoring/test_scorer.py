"""Where scores come from, what the cache is told, and what it is held to have known."""

import numpy as np
import pytest

from service.cache.opening import score_store
from service.cache.slates import SlateCache
from service.clock import SystemClock
from service.messages import CacheReport
from service.settings import CacheSettings, RedisSettings
from service.testing import FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.rankers import Kitchen, deployment_of

ITEMS = ("i1", "i2", "i3")
BYPASS = CacheReport(result="bypass", hits=0, misses=0)
ERROR = CacheReport(result="error", hits=0, misses=0)
MISS = CacheReport(result="miss", hits=0, misses=len(ITEMS))


@pytest.fixture
def cache(clock):
    return MemoryScoreCache(clock)


@pytest.fixture
def kitchen(tiny_bundle, clock, cache):
    """Makes a ranker with one deployment over these engines."""

    def kitchen(*engines):
        return Kitchen([deployment_of(tiny_bundle, *engines, clock=clock, cache=cache)], clock)

    return kitchen


# --- computed and cached ---


async def test_what_was_computed_once_is_a_hit_with_the_same_slate_and_no_engine_call(
    kitchen, clock
):
    engine = FakeEngine()
    served = kitchen(engine)
    computed = await served.serve(*ITEMS)
    clock.advance(2)

    cached = await served.serve(*ITEMS)

    assert computed.cache == MISS
    assert cached.cache == CacheReport(result="hit", hits=3, misses=0, age_ms=2000, level="server")
    assert cached.items == computed.items
    assert cached.model == computed.model
    assert engine.calls == [3]


async def test_a_deployment_without_a_cache_bypasses_it(tiny_bundle, clock):
    kitchen = Kitchen([deployment_of(tiny_bundle, FakeEngine(), clock=clock)], clock)

    ranked = await kitchen.rank(*ITEMS)

    assert ranked.reply.cache == BYPASS
    assert ranked.fresh is None


async def test_engines_share_no_entries_and_deployments_of_the_same_engine_do(
    tiny_bundle, clock, cache
):
    """Two engines round differently; an A/A split over one engine must cost no hits."""
    first, other = FakeEngine("first"), FakeEngine("other")
    deployments = [
        deployment_of(tiny_bundle, *engines, clock=clock, cache=cache, name=name)
        for name, engines in {"a": [first], "b": [first, other], "c": [other]}.items()
    ]
    surfaces = {name: name for name in "abc"}
    kitchen = Kitchen(deployments, clock, surfaces=surfaces)

    results = [
        (await kitchen.serve(*ITEMS, context={"surface": name})).cache.result for name in "abc"
    ]

    assert results == ["miss", "hit", "miss"]


# --- a cache that does not answer has not missed ---


async def test_a_cache_that_fails_was_asked_in_vain_and_still_gets_the_scores(kitchen, cache):
    served = kitchen(FakeEngine())
    cache.fails = True
    ranked = await served.rank(*ITEMS)

    assert ranked.reply.cache == ERROR
    assert ranked.fresh is not None
    cache.fails = False
    await served.ranker.record(ranked)
    assert (await served.rank(*ITEMS)).reply.cache.result == "hit"


async def test_a_cache_that_is_left_alone_is_neither_asked_nor_told(kitchen, cache):
    cache.left_alone = True

    ranked = await kitchen(FakeEngine()).rank(*ITEMS)

    assert ranked.reply.cache == BYPASS
    assert ranked.fresh is None
    assert ranked.reply.degraded is None


async def test_a_slow_cache_takes_at_most_half_of_the_time_that_is_left(kitchen, clock, cache):
    cache.lookup_s = 60.0

    reply = await kitchen(FakeEngine(clock=clock, seconds_per_call=0.020)).serve(
        *ITEMS, timeout_ms=50
    )

    assert reply.degraded is None
    assert reply.cache == ERROR
    assert reply.timing_ms.cache == pytest.approx(25)
    assert reply.timing_ms.total == pytest.approx(45)


async def test_a_redis_that_hangs_leaves_the_engines_their_time(valkey, tiny_bundle):
    """With the default settings a lookup may take 20 ms: all that this caller has."""
    clock, redis = SystemClock(), RedisSettings()
    settings = CacheSettings(breaker_failures=1000, first_level_ttl_s=0)
    store = score_store(valkey.url, cache=settings, redis=redis, clock=clock)
    cache = SlateCache(store, settings=settings, clock=clock)
    await store.start()
    kitchen = Kitchen([deployment_of(tiny_bundle, FakeEngine(), clock=clock, cache=cache)], clock)
    valkey.freeze()

    # A busy machine may take the other 10 ms as well, but not every time.
    replies = [await kitchen.serve(*ITEMS, timeout_ms=20) for _ in range(20)]

    valkey.thaw()
    await store.stop()
    computed = [reply for reply in replies if reply.degraded is None]
    assert computed
    # Once the purge epoch has not been read for a second, the cache is left alone.
    assert {reply.cache.result for reply in replies} <= {"error", "bypass"}


# --- engines that fail or are late ---


async def test_a_fallback_engines_scores_are_served_and_never_stored(kitchen, cache):
    first = FaultyEngine(FakeEngine("first"))
    first.fail()
    served = kitchen(first, FakeEngine("second"))

    ranked = await served.rank(*ITEMS)
    await served.ranker.record(ranked)

    assert ranked.reply.degraded == "fallback_engine"
    assert ranked.reply.model.engine == "second"
    assert ranked.reply.cache == MISS
    assert cache.status().counters.writes == 0
    again = await served.rank(*ITEMS)
    assert (again.reply.cache, again.reply.model.engine) == (MISS, "first")


async def test_a_slate_by_popularity_still_says_that_the_cache_had_missed(kitchen, clock, cache):
    """Else the hit rate of a variant would rise with the slates that it is too slow for."""
    cache.lookup_s = 0.003
    first = FaultyEngine(FakeEngine())
    first.fail()

    ranked = await kitchen(first).rank(*ITEMS)

    assert ranked.reply.degraded == "popularity"
    assert ranked.reply.cache == MISS
    assert ranked.reply.timing_ms.cache == pytest.approx(3)
    assert ranked.fresh is None


async def test_scores_that_come_just_too_late_are_there_for_the_next_who_asks(kitchen, clock):
    engine = FakeEngine(clock=clock, seconds_per_call=0.060)
    served = kitchen(engine)
    late = await served.serve(*ITEMS, timeout_ms=50)

    again = await served.serve(*ITEMS, timeout_ms=50)

    assert (late.degraded, late.cache) == ("popularity", MISS)
    assert (again.degraded, again.cache.result) == (None, "hit")
    assert engine.calls == [3]


async def test_a_fallbacks_late_scores_are_not_stored_either(kitchen, clock):
    first = FaultyEngine(FakeEngine("first"))
    first.fail()
    slow = FakeEngine("second", clock=clock, seconds_per_call=0.060)

    ranked = await kitchen(first, slow).rank(*ITEMS, timeout_ms=50)

    assert ranked.reply.degraded == "popularity"
    assert ranked.fresh is None


async def test_a_popularity_deployment_asks_neither_cache_nor_engine(tiny_bundle, clock):
    served = Kitchen([deployment_of(tiny_bundle, clock=clock)], clock)
    items = tuple(str(item) for item in tiny_bundle.item_ids)

    reply = await served.serve("unlisted", *items, k=1000)

    assert reply.degraded is None
    assert reply.cache == BYPASS
    assert (reply.model.engine, reply.model.precision) == ("popularity", "none")
    by_popularity = [str(tiny_bundle.item_ids[at]) for at in tiny_bundle.popularity]
    assert [item.id for item in reply.items] == [*by_popularity, "unlisted"]
    assert np.all(np.diff([item.score for item in reply.items]) < 0)
