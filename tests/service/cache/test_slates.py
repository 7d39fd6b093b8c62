"""Two levels, one answer: what each gives out, and when it asks the other."""

import gc
import tracemalloc

import numpy as np
import pytest

from service.cache import SlateKey
from service.cache.slates import SlateCache
from service.settings import CacheSettings
from service.testing import FakeClock, MemoryStore

SETTINGS = CacheSettings(ttl_s=100, ttl_jitter=0, refresh_beta=0, first_level_ttl_s=1.5)


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def process(store, clock):
    """Makes a process's view of the store."""

    def process(settings=SETTINGS, **given):
        return SlateCache(store, settings=settings, clock=clock, **given)

    return process


def key(name="a", count=3, epoch=0):
    return SlateKey(f"podium:{epoch}:cafe:R:{name}", count)


def scores(count=3, seed=1):
    return np.random.default_rng(seed).random(count, np.float32)


async def test_what_was_put_is_known_here_at_once_and_elsewhere_from_the_store(process, store):
    one, other = process(), process()
    await one.put(key(), scores(), computed_s=0.01)

    here, there = one.peek(key()), other.peek(key())

    assert (here.outcome, here.level) == ("hit", "process")
    assert there is None
    found = await other.get(key())
    assert (found.outcome, found.level) == ("hit", "server")
    assert other.peek(key()).level == "process"
    for lookup in (here, found, other.peek(key())):
        assert lookup.scores.tobytes() == scores().tobytes()
    assert len(store.asked) == 1


async def test_after_its_time_the_first_level_leaves_it_to_the_store(process, store, clock):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    clock.advance(1.6)
    assert cache.peek(key()) is None
    store.entries.clear()

    assert (await cache.get(key())).outcome == "miss"
    assert cache.left(key()).age_s == pytest.approx(1.6)


async def test_a_purge_leaves_nothing_of_the_old_epoch_in_the_process(process, store):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    store.epoch = 1

    assert cache.epoch == 1
    assert cache.status().first_level.entries == 0
    assert cache.left(key()) is None
    assert cache.peek(key(epoch=1)) is None


async def test_what_is_learnt_is_known_in_the_process_only(process, store):
    cache = process()

    cache.learn(key(), scores(), computed_s=0.01)

    assert cache.peek(key()).outcome == "hit"
    assert not store.entries


async def test_what_was_learnt_while_the_store_was_asked_is_no_miss(process, store):
    cache = process()
    assert cache.peek(key()) is None
    cache.learn(key(), scores(), computed_s=0.01)

    assert (await cache.get(key())).outcome == "hit"
    assert cache.status().counters.misses == 0


async def test_while_the_store_fails_the_first_level_answers_on(process, store):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    store.fails = True

    assert cache.peek(key()).outcome == "hit"
    assert (await cache.get(key("b"))).outcome == "error"


async def test_the_store_keeps_an_entry_for_its_hard_lifetime(process, store, clock):
    cache = process(CacheSettings(ttl_s=100, ttl_jitter=0.1, hard_ttl_factor=3))
    for n in range(50):
        await cache.put(key(str(n)), scores(), computed_s=0.01)

    ends = [end - clock.now() for _, end in store.entries.values()]

    assert 270 <= min(ends) < 280
    assert 320 < max(ends) <= 330


async def test_a_reply_that_belongs_to_another_key_is_not_believed(process, store):
    cache = process()
    await cache.put(key("a"), scores(), computed_s=0.01)
    await cache.put(key("b"), scores(seed=2), computed_s=0.01)
    store.entries[key("a").text], store.entries[key("b").text] = (
        store.entries[key("b").text],
        store.entries[key("a").text],
    )
    other = process()

    assert [(await other.get(key(name))).outcome for name in "ab"] == ["miss", "miss"]
    assert other.status().counters.unreadable == 2


async def test_a_clock_that_jumps_an_hour_makes_nothing_wrong(process, clock):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    clock.jump(-3600)
    assert (await cache.get(key())).age_s == 0.0
    clock.jump(7200)

    assert (await cache.get(key())).outcome == "miss"
    assert cache.left(key()) is None


async def test_a_clock_that_was_set_back_keeps_nothing_past_its_hard_end(process, clock):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    clock.jump(-3600)
    clock.advance(299)
    assert cache.left(key()) is not None
    clock.advance(2)

    assert cache.left(key()) is None


async def test_close_to_the_end_a_draw_decides_who_computes_anew(process, clock):
    draws = iter([0.1, 0.9999])
    settings = CacheSettings(ttl_s=100, ttl_jitter=0, first_level_ttl_s=1000, refresh_beta=1)
    cache = process(settings, draw=lambda: next(draws))
    await cache.put(key(), scores(), computed_s=0.05)
    clock.advance(99.8)

    assert [cache.peek(key()).refresh for _ in range(2)] == [False, True]


async def test_who_loses_a_claim_looks_into_the_store_from_then_on(process):
    one, other = process(), process()
    for cache in (one, other):
        await cache.put(key(), scores(), computed_s=0.01)

    assert await one.claim(key(), for_s=1.0) is True
    assert await other.claim(key(), for_s=1.0) is False

    assert one.peek(key()).outcome == "hit"
    assert other.peek(key()) is None


async def test_a_claim_never_outlives_half_of_a_lifetime(process, store, clock):
    cache = process(CacheSettings(ttl_s=1, ttl_jitter=0))
    assert await cache.claim(key(), for_s=10.0) is True
    clock.advance(0.51)

    assert await cache.claim(key(), for_s=10.0) is True


async def test_lookups_are_counted_by_where_and_how_they_were_found(process, clock):
    cache = process()
    await cache.put(key(), scores(), computed_s=0.01)
    cache.peek(key())
    await cache.get(key("b"))
    clock.advance(101)
    assert cache.peek(key()) is None
    await cache.get(key())

    counters = cache.status().counters

    assert (counters.hits, counters.process_hits) == (1, 1)
    assert (counters.misses, counters.stale) == (1, 1)


async def test_the_first_level_takes_no_more_memory_than_it_was_given():
    """As Python counts it, slates of 100 and of 3 candidates."""
    clock = FakeClock()
    for count in (3, 100):
        cache = SlateCache(
            MemoryStore(clock), settings=CacheSettings(first_level_mb=1), clock=clock
        )
        gc.collect()
        tracemalloc.start()
        for n in range(1500):
            cache.learn(key(f"{'x' * 80}{n}", count), scores(count), computed_s=0.01)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert 0.5e6 < cache.status().first_level.bytes <= 1e6
        assert taken <= 1.05e6
        assert taken >= 0.6 * cache.status().first_level.bytes
