"""Score rows order the candidates, for all users alike; what matters is scored exactly."""

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.cache.row_codec import STEP
from service.cache.rows import RowLevels
from service.cache.store import StoredEntry
from service.engines.rows import as_features
from service.features import BundleFeatures
from service.messages import CacheReport, Candidate, RankRequest, UserRef
from service.scoring.segment import behind
from service.settings import CacheSettings, DeploymentSettings
from service.testing import FakeEngine, FaultyEngine, MemoryStore
from tests.support.bundles import write_tiny_segmented_bundle
from tests.support.rankers import Kitchen, deployment_of

ITEMS = tuple(f"i{n}" for n in range(20))
SOMEBODY = UserRef(id="u5")
"""Of segment 2."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_segmented_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def kitchen(bundle, clock, store, engine):
    """Makes a ranker whose one deployment is in a segment mode."""

    def kitchen(cache="segment", top=30, engines=(engine,), settings=None):
        deployment = deployment_of(
            bundle,
            *engines,
            clock=clock,
            rows=RowLevels.over(store, settings or CacheSettings(), clock),
            settings=DeploymentSettings(model="tiny", cache=cache, rescore_top=top),
        )
        return Kitchen([deployment], clock)

    return kitchen


@pytest.fixture
def exact(bundle, clock):
    return Kitchen([deployment_of(bundle, FakeEngine(), clock=clock)], clock)


async def warm(kitchen, *items, **fields):
    """Ask until there are rows."""
    filler = kitchen.deployments["ranker"].segments.filler
    for _ in range(2):
        await kitchen.serve(*(items or ITEMS), user=SOMEBODY, **fields)
        await filler.quiet()


def segment_score(bundle, engine, item, segment, context=None):
    """The sigmoid of the representatives' mean log odds, straight from the engine's function."""
    features = deployment_features(bundle)
    at = bundle.segments.representatives[segment]
    users = [f"u{n}" for n in at[at >= 0]] or [None]
    scores = np.concatenate(
        [engine.expected(features(item, user, context or {})) for user in users]
    ).astype(np.float64)
    return 1 / (1 + np.exp(-np.log(scores / (1 - scores)).mean()))


def deployment_features(bundle):
    source = BundleFeatures(bundle)

    def features(item, user, context) -> FeatureBatch:
        request = RankRequest(candidates=(item,), user=UserRef(id=user), context=context)
        return as_features(source.rows(source.encode(request)))

    return features


# --- without rows ---


@pytest.mark.parametrize("mode", ["segment", "segment_rescore"])
async def test_what_has_no_row_is_scored_exactly_at_once(kitchen, exact, mode):
    reply = await kitchen(mode).serve(*ITEMS, user=SOMEBODY)

    assert reply.items == (await exact.serve(*ITEMS, user=SOMEBODY)).items
    assert reply.cache == CacheReport(result="miss", hits=0, misses=20)


async def test_an_item_that_was_asked_for_once_gets_no_row(kitchen, store, engine):
    served = kitchen()

    await served.serve(*ITEMS)
    await served.deployments["ranker"].segments.filler.quiet()

    assert store.entries == {}
    assert engine.calls == [20]


# --- segment ---


async def test_once_there_are_rows_the_answer_is_what_the_segment_scores(kitchen, bundle, engine):
    served = kitchen()
    await warm(served)
    calls = len(engine.calls)

    for user, segment in (("u5", 2), ("u2", 3), (None, 0), ("stranger", 0)):
        reply = await served.serve(*ITEMS, user=UserRef(id=user))

        assert reply.cache.result == "hit"
        assert reply.cache.hits == 20
        for item in reply.items:
            expected = segment_score(bundle, engine, item.id, segment)
            assert item.score == pytest.approx(expected, abs=STEP / 8 + 1e-6)
    assert len(engine.calls) == calls


async def test_an_anonymous_visitor_gets_the_exact_order(kitchen, exact):
    served = kitchen()
    await warm(served)

    cached, computed = await served.serve(*ITEMS), await exact.serve(*ITEMS)

    scores = {item.id: item.score for item in computed.items}
    assert cached.cache.result == "hit"
    for item in cached.items:
        assert item.score == pytest.approx(scores[item.id], abs=STEP / 8 + 1e-6)


async def test_another_candidate_list_of_the_same_items_is_a_hit_as_well(kitchen):
    served = kitchen()
    await warm(served)

    reply = await served.serve("i9", "i3", "i4")

    assert reply.cache.result == "hit"


async def test_contexts_that_the_model_tells_apart_share_no_rows(kitchen):
    served = kitchen()
    await warm(served, context={"device": "web"})

    results = [
        (await served.serve(*ITEMS, context=context)).cache.result
        for context in ({"device": "web"}, {}, {"device": "ios"})
    ]

    assert results == ["hit", "hit", "miss"], "web is the default of a missing device"


async def test_a_missing_row_among_others_is_scored_beside_them(kitchen, engine, exact):
    served = kitchen()
    await warm(served)
    engine.calls.clear()

    reply = await served.serve(*ITEMS, "i30", user=SOMEBODY, k=21)

    assert engine.calls == [1]
    assert reply.cache.result == "partial"
    assert (reply.cache.hits, reply.cache.misses) == (20, 1)
    alone = (await exact.serve("i30", user=SOMEBODY)).items[0]
    assert next(i.score for i in reply.items if i.id == "i30") == alone.score


async def test_another_process_finds_the_rows_in_the_store(kitchen, engine):
    await warm(kitchen())
    engine.calls.clear()

    reply = await kitchen().serve(*ITEMS)

    assert reply.cache.result == "hit"
    assert engine.calls == []


async def test_a_row_of_an_epoch_that_was_purged_is_never_found(kitchen, store):
    served = kitchen()
    await warm(served)
    store.epoch += 1

    assert (await served.serve(*ITEMS)).cache.result == "miss"


async def test_the_age_told_is_that_of_the_oldest_row(kitchen, clock):
    served = kitchen()
    await warm(served)
    clock.advance(7)
    await warm(served, "i30")

    reply = await served.serve("i30", "i1")

    assert reply.cache.age_ms == pytest.approx(7_000, abs=1_000), "rows know whole seconds"


async def test_a_row_past_its_soft_end_is_used_and_computed_anew_in_the_background(
    kitchen, clock, engine
):
    served = kitchen()
    await warm(served)
    clock.advance(400)
    engine.calls.clear()

    assert (await served.serve(*ITEMS)).cache.result == "stale"
    await served.deployments["ranker"].segments.filler.quiet()

    assert engine.calls
    assert (await served.serve(*ITEMS)).cache.result == "hit"


async def test_a_row_past_its_hard_end_is_gone(kitchen, clock):
    served = kitchen()
    await warm(served)
    clock.advance(3 * 330 + 1)

    assert (await served.serve(*ITEMS)).cache.result == "miss"


# --- what no row can stand for ---


async def test_a_user_whom_the_request_describes_bypasses_the_rows(kitchen, exact):
    served = kitchen()
    await warm(served)
    user = UserRef(id="u5", features={"age": 71})

    reply = await served.serve(*ITEMS, user=user)

    assert reply.cache.result == "bypass"
    assert reply.items == (await exact.serve(*ITEMS, user=user)).items
    assert served.deployments["ranker"].segments.rows.status().counters.bypassed == 20


async def test_an_item_that_the_request_describes_is_scored_and_the_others_are_not(
    kitchen, exact, engine
):
    served = kitchen()
    await warm(served)
    engine.calls.clear()
    cheap = Candidate(id="i3", features={"price": 1.0})

    reply = await served.serve("i1", "i2", cheap, user=SOMEBODY)

    assert engine.calls == [1]
    assert (reply.cache.result, reply.cache.hits, reply.cache.misses) == ("partial", 2, 0)
    alone = (await exact.serve(cheap, user=SOMEBODY)).items[0]
    assert next(i.score for i in reply.items if i.id == "i3") == alone.score


async def test_an_item_that_the_catalogue_lacks_never_gets_a_row(kitchen, store):
    served = kitchen()
    await warm(served, "novelty", "i1")

    reply = await served.serve("novelty", "i1")

    assert (reply.cache.result, reply.cache.hits, reply.cache.misses) == ("partial", 1, 0)
    assert len(store.entries) == 1


# --- segment_rescore ---


async def test_with_as_many_exact_scores_as_candidates_the_slate_is_the_exact_one(kitchen, exact):
    served = kitchen("segment_rescore", top=20)
    await warm(served)

    for user in ("u0", "u5", "u9", None):
        reply = await served.serve(*ITEMS, user=UserRef(id=user), k=20)

        assert reply.items == (await exact.serve(*ITEMS, user=UserRef(id=user), k=20)).items
        assert reply.cache.result == "hit"


async def test_only_the_first_of_the_segments_order_are_scored_and_told_exactly(
    kitchen, bundle, engine, exact
):
    served = kitchen("segment_rescore", top=6)
    await warm(served)
    engine.calls.clear()

    reply = await served.serve(*ITEMS, user=SOMEBODY, k=4)

    assert engine.calls == [6]
    coarse = sorted(ITEMS, key=lambda item: -segment_score(bundle, engine, item, 2))[:6]
    everything = (await exact.serve(*ITEMS, user=SOMEBODY, k=20)).items
    expected = [item for item in everything if item.id in coarse][:4]
    assert [(i.id, i.score) for i in reply.items] == [(i.id, i.score) for i in expected]


async def test_a_slate_that_is_longer_has_all_of_it_scored(kitchen, engine):
    served = kitchen("segment_rescore", top=3)
    await warm(served)
    engine.calls.clear()

    reply = await served.serve(*ITEMS, k=9)

    assert engine.calls == [9]
    assert len(reply.items) == 9


async def test_missing_rows_are_scored_beside_the_first_of_the_others(kitchen, engine):
    served = kitchen("segment_rescore", top=5)
    await warm(served)
    engine.calls.clear()

    await served.serve(*ITEMS, "i30", "i31", k=5)

    assert engine.calls == [7]


def test_those_behind_keep_their_order_and_stay_behind():
    coarse = np.array([0.9, 0.2, 0.8, 0.4], np.float32)

    joined = behind(coarse, np.array([1]), np.array([0.3], np.float32))

    assert np.argsort(-joined).tolist() == [1, 0, 2, 3]
    assert joined[1] == np.float32(0.3)


def test_those_behind_keep_their_scores_where_they_are_lower_anyway():
    coarse = np.array([0.1, 0.9, 0.2], np.float32)

    joined = behind(coarse, np.array([1]), np.array([0.3], np.float32))

    assert joined.tolist() == np.array([0.1, 0.3, 0.2], np.float32).tolist()


# --- the store lies, fails, or is gone ---


@pytest.mark.parametrize("spoil", [lambda value: b"", lambda value: b"\0" * 56, lambda v: v[:-3]])
async def test_garbage_under_a_key_is_a_miss_for_that_item_alone(kitchen, store, exact, spoil):
    await warm(kitchen())
    key = next(iter(store.entries))
    value, _ = store.entries[key]
    await store.put([StoredEntry(key, spoil(value), 100.0)])
    served = kitchen()

    reply = await served.serve(*ITEMS, user=SOMEBODY, k=20)

    assert (reply.cache.result, reply.cache.hits, reply.cache.misses) == ("partial", 19, 1)
    assert served.deployments["ranker"].segments.rows.status().counters.unreadable == 1


async def test_values_that_changed_places_are_misses(kitchen, store, exact):
    await warm(kitchen())
    one, other = list(store.entries)[:2]
    store.entries[one], store.entries[other] = store.entries[other], store.entries[one]

    reply = await kitchen().serve(*ITEMS, user=SOMEBODY, k=20)

    assert (reply.cache.hits, reply.cache.misses) == (18, 2)


@pytest.mark.parametrize("outage", ["fails", "left_alone"])
async def test_a_store_that_is_gone_costs_nothing_but_exact_scores(kitchen, store, exact, outage):
    served = kitchen()
    setattr(store, outage, True)

    reply = await served.serve(*ITEMS, user=SOMEBODY)

    assert reply.items == (await exact.serve(*ITEMS, user=SOMEBODY)).items
    assert reply.degraded is None
    assert reply.cache.result == ("error" if outage == "fails" else "bypass")
    assert reply.cache.misses == 0


async def test_without_a_store_this_process_still_has_its_rows(kitchen, store):
    store.fails = True
    served = kitchen()
    await warm(served)

    assert (await served.serve(*ITEMS)).cache.result == "hit"


async def test_with_the_first_level_off_every_row_comes_from_the_store(kitchen, store):
    served = kitchen(settings=CacheSettings(first_level_ttl_s=0))
    await warm(served)
    store.asked.clear()

    assert (await served.serve(*ITEMS)).cache.result == "hit"
    assert len(store.asked[0]) == 20


async def test_requests_never_fetch_where_the_settings_say_so(kitchen, store):
    await warm(kitchen())
    store.asked.clear()
    served = kitchen(settings=CacheSettings(rows="never"))

    assert (await served.serve(*ITEMS)).cache.result == "miss"
    assert store.asked == []
    await warm(served)

    assert (await served.serve(*ITEMS)).cache.result == "hit", "fetched in the background"
    assert served.deployments["ranker"].segments.rows.status().counters.filled == 0


# --- engines ---


async def test_a_fallbacks_scores_make_no_rows(kitchen, store):
    broken = FaultyEngine(FakeEngine("first"))
    broken.fail(99)
    served = kitchen(engines=(broken, FakeEngine("second")))

    await warm(served)

    assert store.entries == {}
    assert (await served.serve(*ITEMS)).degraded == "fallback_engine"


async def test_what_cannot_be_scored_is_ordered_by_popularity(kitchen):
    broken = FaultyEngine(FakeEngine())
    broken.fail(99)

    reply = await kitchen(engines=(broken,)).serve(*ITEMS)

    assert reply.degraded == "popularity"
    assert reply.cache.misses == 20


# --- told to whoever asks ---


async def test_who_asks_why_is_told_of_rows_and_of_what_they_cost(kitchen):
    served = kitchen("segment_rescore", top=5)
    await warm(served)

    rows = (await served.serve(*ITEMS, user=SOMEBODY, k=5, explain=True)).explain.rows

    assert (rows.segment, rows.found, rows.scored, rows.fetching) == (2, 20, 5, "nothing")
    assert rows.lookup_us is not None
