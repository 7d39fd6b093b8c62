"""Slates of the cache: given out stale, renewed behind replies, computed once for all who ask."""

import asyncio

import msgspec
import pytest

from experiments.definition import Experiment, Variant
from service.batching.batcher import Batcher
from service.cache.opening import score_store
from service.cache.slate_worth import SlateWorth
from service.cache.slates import SlateCache
from service.clock import SystemClock
from service.errors import QueueFull
from service.messages import RankRequest, UserRef
from service.settings import BatchPolicy, CacheSettings, RedisSettings
from service.testing import FakeEngine, FaultyEngine, MemoryStore
from tests.support.rankers import Kitchen, deployment_of

ITEMS = ("i1", "i2", "i3")
SETTINGS = CacheSettings(ttl_s=100, ttl_jitter=0, refresh_beta=0, first_level_ttl_s=1.0)
LONG_WAIT = BatchPolicy(mode="fixed", max_queue_delay_s=30.0)
STALE_S = 101.0
GONE_S = 301.0


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def served(tiny_bundle, clock, store):
    """Makes a process: its first level and its engines, over the store of all."""

    def served(*engines, settings=SETTINGS, policy=None, **fields):
        cache = SlateCache(store, settings=settings, clock=clock)
        policy = policy or BatchPolicy()
        deployment = deployment_of(tiny_bundle, *engines, clock=clock, cache=cache, policy=policy)
        return Kitchen([deployment], clock, **fields)

    return served


async def idle():
    """Let everything that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


def results(replies):
    return sorted({reply.cache.result for reply in replies})


# --- stale while it is computed anew ---


async def test_a_stale_slate_is_given_out_at_once_and_computed_anew_behind_the_reply(served, clock):
    engine = FakeEngine()
    process = served(engine)
    computed = await process.serve(*ITEMS)
    clock.advance(STALE_S)

    stale = await process.rank(*ITEMS)
    assert engine.calls == [3]
    await idle()
    again = await process.serve(*ITEMS)

    assert (stale.reply.cache.result, stale.reply.degraded) == ("stale", None)
    assert stale.reply.cache.age_ms == 101_000
    assert stale.reply.items == computed.items == again.items
    assert engine.calls == [3, 3]
    assert (again.cache.result, again.cache.age_ms) == ("hit", 0)


async def test_a_thousand_readers_of_a_stale_slate_have_it_computed_once(served, clock):
    engine = FakeEngine()
    process = served(engine)
    await process.serve(*ITEMS)
    clock.advance(STALE_S)

    replies = await asyncio.gather(*(process.serve(*ITEMS) for _ in range(1000)))
    await idle()

    assert engine.calls == [3, 3]
    assert "miss" not in results(replies)


async def test_two_processes_with_the_same_stale_slate_have_it_computed_once(served, clock):
    engines = [FakeEngine(), FakeEngine()]
    one, other = map(served, engines)
    await one.serve(*ITEMS)
    await other.serve(*ITEMS)
    clock.advance(STALE_S)

    replies = await asyncio.gather(
        *(process.serve(*ITEMS) for process in [one, other] for _ in range(100))
    )
    await idle()

    assert sum(len(engine.calls) for engine in engines) == 2
    assert "miss" not in results(replies)
    assert [(await p.serve(*ITEMS)).cache.result for p in (one, other)] == ["hit", "hit"]


async def test_a_process_that_died_while_it_computed_holds_nobody_up_for_long(served, clock, store):
    engine = FakeEngine()
    process = served(engine)
    await process.serve(*ITEMS)
    clock.advance(STALE_S)
    (key,) = store.entries
    assert await store.lock(f"{key}:lock", 1.0)
    await process.serve(*ITEMS)
    await idle()
    assert engine.calls == [3]
    clock.advance(1.1)

    assert (await process.serve(*ITEMS)).cache.result == "stale"
    await idle()

    assert engine.calls == [3, 3]


async def test_what_a_fallback_computes_anew_is_not_stored(served, clock):
    first = FaultyEngine(FakeEngine("first"))
    process = served(first, FakeEngine("second"))
    await process.serve(*ITEMS)
    clock.advance(STALE_S)
    first.fail()
    await process.serve(*ITEMS)
    await idle()

    reply = await process.serve(*ITEMS)

    assert reply.cache.result == "stale"
    assert reply.cache.age_ms == 101_000


async def test_slates_that_are_computed_anew_let_live_requests_go_first(served, clock, monkeypatch):
    process = served(FakeEngine())
    await process.serve(*ITEMS)
    clock.advance(STALE_S)
    priorities = []
    submit = Batcher.submit

    def noted(self, rows, **given):
        priorities.append(given["priority"])
        return submit(self, rows, **given)

    monkeypatch.setattr(Batcher, "submit", noted)
    await process.serve(*ITEMS)
    await idle()
    await process.serve("i4")

    assert priorities == ["low", "normal"]


# --- when nobody can compute ---


async def test_while_no_engine_can_score_a_stale_slate_says_that_it_is_degraded(served, clock):
    engine = FaultyEngine(FakeEngine())
    process = served(engine)
    computed = await process.serve(*ITEMS)
    engine.fail_for(1000, clock)
    assert (await process.serve("i4")).degraded == "popularity"
    clock.advance(STALE_S)

    reply = await process.serve(*ITEMS)

    assert (reply.degraded, reply.cache.result) == ("stale", "stale")
    assert reply.items == computed.items
    assert reply.model == computed.model


async def test_without_cache_server_and_engine_the_process_gives_out_what_it_still_has(
    served, clock, store
):
    engine = FaultyEngine(FakeEngine())
    process = served(engine)
    computed = await process.serve(*ITEMS)
    clock.advance(50)
    store.fails = True
    engine.fail_for(1000, clock)

    reply = await process.serve(*ITEMS)

    assert (reply.degraded, reply.cache.result, reply.cache.level) == ("stale", "stale", "process")
    assert reply.cache.age_ms == 50_000
    assert reply.items == computed.items
    assert process.metric("podium_cache_total", result="stale") == 1


async def test_a_slate_past_its_hard_end_is_given_out_by_nobody(served, clock, store):
    engine = FaultyEngine(FakeEngine())
    process = served(engine)
    await process.serve(*ITEMS)
    clock.advance(GONE_S)
    store.fails = True
    engine.fail()

    assert (await process.serve(*ITEMS)).degraded == "popularity"


async def test_a_slate_of_the_past_may_answer_where_popularity_may_not(served, clock, store):
    engine = FaultyEngine(FakeEngine())
    process = served(engine, allow_degraded=False)
    await process.serve(*ITEMS)
    clock.advance(50)
    store.fails = True
    engine.fail()

    assert (await process.serve(*ITEMS)).degraded == "stale"


async def test_a_deadline_that_passes_is_answered_by_what_the_process_still_has(
    served, clock, store
):
    engine = FakeEngine()
    process = served(engine)
    await process.serve(*ITEMS)
    clock.advance(50)
    store.fails = True
    engine._clock, engine._seconds_per_call = clock, 0.06

    reply = await process.serve(*ITEMS, timeout_ms=50)

    assert (reply.degraded, reply.cache.result) == ("stale", "stale")


# --- one computation for all who ask ---


@pytest.mark.parametrize("over", ["memory", "valkey"])
async def test_five_hundred_who_ask_for_one_cold_slate_are_one_engine_call(
    over, request, tiny_bundle, clock, store
):
    settings = CacheSettings(timeout_s=5.0)
    if over == "valkey":
        url = request.getfixturevalue("valkey").url
        clock = SystemClock()
        store = score_store(url, cache=settings, redis=RedisSettings(), clock=clock)
    await store.start()
    cache = SlateCache(store, settings=settings, clock=clock)
    engine = FakeEngine()
    process = Kitchen([deployment_of(tiny_bundle, engine, clock=clock, cache=cache)], clock)

    replies = await asyncio.gather(*(process.serve(*ITEMS, timeout_ms=10_000) for _ in range(500)))
    await store.stop()

    assert engine.calls == [3]
    assert len({reply.items for reply in replies}) == 1
    assert results(replies) in (["miss"], ["hit", "miss"])


async def test_one_of_those_who_shared_a_computation_stores_it_and_pays_for_it(served):
    experiment = Experiment(
        key="e", variants=(Variant(name="a", share_bp=10_000), Variant(name="b", share_bp=0))
    )
    process = served(FakeEngine(), experiments=[experiment])

    ranked = await asyncio.gather(*(process.rank(*ITEMS, user=user("u1")) for _ in range(5)))

    assert sum(r.fresh is not None for r in ranked) == 1
    assert sum(r.exposure.predictions for r in ranked) == 3
    assert {r.reply.cache.result for r in ranked} == {"miss"}


async def test_waiters_survive_the_cancellation_of_who_asked_first(served):
    engine = FakeEngine()
    process = served(engine)
    first = asyncio.create_task(process.rank(*ITEMS))
    others = [asyncio.create_task(process.rank(*ITEMS)) for _ in range(3)]
    await asyncio.sleep(0)

    first.cancel()
    ranked = await asyncio.gather(*others)

    assert first.cancelled() or first.cancelling()
    assert engine.calls == [3]
    assert sum(r.fresh is not None for r in ranked) == 1


async def test_nobody_waits_behind_whom_he_goes_before(served):
    process = served(FakeEngine(), policy=LONG_WAIT)

    async def waiting_rows_after(priority):
        tasks.append(asyncio.create_task(process.rank(*ITEMS, priority=priority)))
        await idle()
        return process.deployments["ranker"].batcher.waiting_rows

    tasks = []
    rows = [await waiting_rows_after(p) for p in ("low", "low", "high", "normal", "low", "high")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert rows == [3, 3, 6, 6, 6, 6], "the first high one begins anew, and all others join"


async def test_when_the_last_one_leaves_the_computation_is_called_off(served):
    engine = FakeEngine()
    process = served(engine, policy=LONG_WAIT)
    tasks = [asyncio.create_task(process.rank(*ITEMS)) for _ in range(3)]
    await asyncio.sleep(0)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert process.deployments["ranker"].batcher.waiting_rows == 0
    assert engine.calls == []


async def test_a_waiter_with_less_time_gets_its_own_fate_and_the_others_their_scores(served, clock):
    engine = FakeEngine(clock=clock, seconds_per_call=0.060)
    process = served(engine)

    patient, hasty, other = await asyncio.gather(
        process.serve(*ITEMS, timeout_ms=500),
        process.serve(*ITEMS, timeout_ms=50),
        process.serve(*ITEMS, timeout_ms=500),
    )

    assert (hasty.degraded, hasty.cache.result) == ("stale", "stale")
    assert (patient.degraded, other.degraded) == (None, None)
    assert engine.calls == [3]


async def test_who_has_time_left_gets_the_scores_that_came_too_late_for_who_began(served, clock):
    engine = FakeEngine(clock=clock, seconds_per_call=0.060)
    process = served(engine)

    hasty, patient = await asyncio.gather(
        process.rank(*ITEMS, timeout_ms=50), process.rank(*ITEMS, timeout_ms=500)
    )

    assert patient.reply.degraded is None
    assert engine.calls == [3]
    assert hasty.reply.degraded == "stale", "it was computed, just not in its time"


async def test_a_refusal_at_the_door_is_told_to_who_knocked(served):
    policy = msgspec.structs.replace(LONG_WAIT, max_waiting_rows=4)
    process = served(FakeEngine(), policy=policy)
    admitted = asyncio.create_task(process.rank(*ITEMS))
    await asyncio.sleep(0)

    with pytest.raises(QueueFull):
        await process.rank("i4", "i5")

    admitted.cancel()


# --- across processes ---


async def page(process, anchor="i1"):
    asked = RankRequest(candidates=("-",), anchor_item=anchor, k=3, timeout_ms=1000)
    ranked = await process.ranker.item_page(asked, arrived=process.clock.now())
    await process.ranker.record(ranked)
    return ranked.reply


async def test_a_cold_item_page_is_computed_by_one_of_two_processes(served):
    engines = [FakeEngine(), FakeEngine()]
    one, other = map(served, engines)

    replies = await asyncio.gather(page(one), page(other))

    assert sum(len(engine.calls) for engine in engines) == 1
    assert results(replies) == ["hit", "miss"]
    assert replies[0].items == replies[1].items


async def test_who_waits_in_vain_for_another_process_computes_it_himself(served, store):
    engine = FakeEngine()
    process = served(engine)
    await page(process)
    (key,) = store.entries
    store.entries.clear()
    process = served(engine)
    assert await store.lock(f"{key}:lock", 50.0) is False

    reply = await page(process)

    assert (reply.cache.result, reply.degraded) == ("miss", None)
    assert len(engine.calls) == 2


async def test_what_one_user_asks_for_the_first_time_costs_no_lock(served, store):
    process = served(FakeEngine())

    await process.serve(*ITEMS)

    assert not store._locks


async def test_a_lock_that_takes_long_takes_nobody_past_his_deadline(
    tiny_bundle, store, monkeypatch
):
    async def for_ever(key, ttl_s):
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "lock", for_ever)
    clock = SystemClock()
    cache = SlateCache(store, settings=SETTINGS, clock=clock)
    engine = FakeEngine()
    process = Kitchen([deployment_of(tiny_bundle, engine, clock=clock, cache=cache)], clock)
    asked = RankRequest(candidates=("-",), anchor_item="i1", k=3, timeout_ms=50)

    began = clock.now()
    ranked = await asyncio.wait_for(process.ranker.item_page(asked, arrived=began), 5.0)

    assert ranked.reply.degraded == "popularity"
    assert clock.now() - began >= 0.049
    assert engine.calls == []


# --- modes and arms of an experiment ---


def experiment(**fields):
    return Experiment(
        key="e",
        variants=(
            Variant(name="control", share_bp=5000),
            Variant(name="other", share_bp=5000, cache=fields.pop("cache", None)),
        ),
        **fields,
    )


def user(name):
    return UserRef(id=name)


async def asked_in_both(process):
    """The results of two requests each, in both arms."""
    return [
        (await process.serve(*ITEMS, force={"e": variant})).cache.result
        for variant in ("control", "other", "control", "other")
    ]


async def test_variants_that_compute_the_same_share_entries(served):
    process = served(FakeEngine(), experiments=[experiment()])

    assert await asked_in_both(process) == ["miss", "hit", "hit", "hit"]


async def test_variants_with_isolated_caches_share_nothing(served):
    engine = FakeEngine()
    process = served(engine, experiments=[experiment(isolate_cache=True)])

    assert await asked_in_both(process) == ["miss", "miss", "hit", "hit"]
    drawn = await process.serve(*ITEMS, user=user("unlisted"))
    assert drawn.cache.result == "hit", "drawn into one of the two"


async def test_who_is_in_no_arm_shares_with_nobody_who_is(served):
    paused = experiment(isolate_cache=True, state="paused")
    process = served(FakeEngine(), experiments=[paused])
    await process.serve(*ITEMS, force={"e": "other"})

    assert (await process.serve(*ITEMS)).cache.result == "miss"


async def test_a_variant_may_have_the_cache_off(served):
    process = served(FakeEngine(), experiments=[experiment(cache="off")])

    assert await asked_in_both(process) == ["miss", "bypass", "hit", "bypass"]


async def test_a_variant_may_have_the_cache_on_where_its_deployment_has_it_off(
    tiny_bundle, clock, store
):
    cache = SlateCache(store, settings=SETTINGS, clock=clock)
    deployment = deployment_of(tiny_bundle, FakeEngine(), clock=clock, cache=cache)
    off = replaced(deployment, cache_mode="off")
    process = Kitchen([off], clock, experiments=[experiment(cache="exact")])

    assert await asked_in_both(process) == ["bypass", "miss", "bypass", "hit"]


def replaced(deployment, *, cache_mode):
    settings = msgspec.structs.replace(deployment.settings, cache=cache_mode)
    return msgspec.structs.replace(deployment, settings=settings)


async def test_an_a_a_phase_leaves_the_cache_as_the_surface_has_it(served):
    aa = experiment(cache="off", isolate_cache=True, state="aa")
    process = served(FakeEngine(), experiments=[aa])

    first, second = [await process.serve(*ITEMS, user=user(u)) for u in ("u1", "u1")]

    assert (first.cache.result, second.cache.result) == ("miss", "hit")


# --- whether it pays to ask ---


async def test_a_ranking_that_does_not_ask_is_computed_and_stored_nowhere(
    tiny_bundle, clock, store
):
    engine = FakeEngine()
    cache = SlateCache(store, settings=SETTINGS, clock=clock)
    worth = SlateWorth("never")
    process = Kitchen(
        [deployment_of(tiny_bundle, engine, clock=clock, cache=cache, slate_worth=worth)], clock
    )

    replies = [await process.serve(*ITEMS) for _ in range(2)]
    page = await process.serve(*ITEMS, anchor_item="i1")

    assert results(replies) == ["bypass"]
    assert page.cache.result == "miss"
    assert engine.calls == [3, 3, 3]
    assert store.status().counters.writes == 1


async def test_what_lookups_cost_and_bring_is_learnt(tiny_bundle, clock, store):
    cache = SlateCache(store, settings=SETTINGS, clock=clock)
    worth = SlateWorth("auto")
    process = Kitchen(
        [deployment_of(tiny_bundle, FakeEngine(), clock=clock, cache=cache, slate_worth=worth)],
        clock,
    )

    await process.serve(*ITEMS)

    report = worth.report()
    assert report.lookup_s is not None
    assert report.lookup_s > 0
    assert report.scoring_s is not None


# --- while the cache server is left alone ---


async def test_while_the_server_is_left_alone_this_process_still_knows_what_it_computed(
    served, store
):
    engine = FakeEngine()
    process = served(engine)
    store.left_alone = True

    first, second = [await process.serve(*ITEMS) for _ in range(2)]

    assert (first.cache.result, second.cache.result) == ("bypass", "hit")
    assert second.cache.level == "process"
    assert second.items == first.items
    assert engine.calls == [3]
    assert store.status().counters.left_alone == 1


async def test_then_engines_that_fail_as_well_leave_what_this_process_has(served, store, clock):
    engine = FaultyEngine(FakeEngine())
    process = served(engine)
    store.left_alone = True
    computed = await process.serve(*ITEMS)
    clock.advance(SETTINGS.first_level_ttl_s + 0.1)
    engine.fail_for(1000, clock)

    stale = await process.serve(*ITEMS)
    other = await process.serve(*ITEMS[:2])

    assert (stale.degraded, stale.items) == ("stale", computed.items)
    assert other.degraded == "popularity"


async def test_submitted_and_awaited_requests_end_alike_while_it_is_left_alone(served, store):
    process = served(FakeEngine())
    store.left_alone = True
    told = asyncio.get_running_loop().create_future()
    asked = RankRequest(candidates=ITEMS)

    process.ranker.submit(asked, arrived=process.clock.now(), then=told.set_result)
    submitted = await told
    awaited = await process.ranker.rank(
        msgspec.structs.replace(asked, candidates=ITEMS[::-1]), arrived=process.clock.now()
    )

    assert submitted.reply.cache == awaited.reply.cache
    assert submitted.reply.items == awaited.reply.items
    assert submitted.fresh is None
