"""Interleaved slates: made by two rankers, credited item by item, honest when one fails."""

import asyncio

import pytest

from experiments.definition import INTERLEAVED, Experiment, Variant
from experiments.interleaving import coins, team_draft
from service.errors import EnginesFailed
from service.messages import CacheReport, UserRef
from service.settings import BatchPolicy
from service.testing import FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.contrary import ContraryEngine
from tests.support.rankers import TOKENS, Kitchen, deployment_of

ITEMS = tuple(f"i{n}" for n in range(10))
USER = UserRef(id="u1")
DUEL = Experiment(
    key="duel",
    method="interleave",
    variants=(
        Variant(name="control", share_bp=5000, deployment="ranker"),
        Variant(name="contrary", share_bp=5000, deployment="contrary"),
    ),
)


@pytest.fixture
def kitchen(tiny_bundle, clock):
    def kitchen(one=None, other=None, *, cache=None, experiments=(DUEL,), **options):
        deployments = [
            deployment_of(tiny_bundle, engine, clock=clock, name=name, cache=cache)
            for name, engine in [
                ("ranker", one or FakeEngine()),
                ("contrary", other or ContraryEngine("contrary")),
            ]
        ]
        return Kitchen(deployments, clock, experiments=experiments, **options)

    return kitchen


def failing(name="broken"):
    engine = FaultyEngine(FakeEngine(name))
    engine.fail(calls=1000)
    return engine


async def order_of(kitchen, variant):
    """What a ranker alone would serve."""
    reply = await kitchen.serve(*ITEMS, force={"duel": variant}, user=USER, k=10)
    return {item.id: item.score for item in reply.items}


async def test_the_slate_is_the_draft_that_its_id_stands_for(kitchen):
    served = kitchen()
    orders = [await order_of(served, name) for name in ("control", "contrary")]

    reply = await served.serve(*ITEMS, user=USER, k=6)

    rankings = [[ITEMS.index(item) for item in order] for order in orders]
    draft = team_draft(rankings[0], rankings[1], 6, coins(reply.slate_id, "duel", 3))
    assert [item.id for item in reply.items] == [ITEMS[at] for at in draft.order]
    assert [item.rank for item in reply.items] == [1, 2, 3, 4, 5, 6]
    for item, team in zip(reply.items, draft.teams, strict=True):
        assert item.score == orders[team][item.id]
    claims = TOKENS.verify(reply.exposure, served.clock.wall())
    assert claims.teams == ("control", "contrary")
    assert claims.picks == "".join(map(str, draft.teams))


async def test_it_is_counted_under_a_variant_of_its_own_with_the_work_of_both(kitchen):
    served = kitchen()

    reply = await served.serve(*ITEMS, user=USER)

    (reference,) = reply.experiments
    assert (reference.variant, reference.reason) == (INTERLEAVED, "SPLIT")
    assert reply.model.engine == "fake"
    (exposure,) = served.exposures.recorded
    (arm,) = exposure.arms
    assert (arm.experiment, arm.variant, arm.propensity) == ("duel", INTERLEAVED, 1.0)
    assert exposure.predictions == 2 * len(ITEMS)


async def test_both_begin_equally_often(kitchen):
    served = kitchen()
    first = 0
    for _ in range(200):
        served.clock.advance(0.001)
        reply = await served.serve(*ITEMS[:3], user=USER, k=2)
        first += TOKENS.verify(reply.exposure, served.clock.wall()).picks[0] == "0"

    assert abs(first - 100) < 36  # five standard errors


@pytest.mark.parametrize("broken", ["control", "contrary"])
async def test_one_failing_ranker_leaves_the_others_slate_uncounted(kitchen, broken):
    sides = {"control": FakeEngine(), "contrary": ContraryEngine("contrary")} | {broken: failing()}
    served = kitchen(*sides.values(), allow_degraded=False)

    reply = await served.serve(*ITEMS, user=USER)

    other = "contrary" if broken == "control" else "control"
    (reference,) = reply.experiments
    assert (reference.variant, reference.reason) == (other, "ERROR")
    assert reply.model.engine == {"contrary": "contrary", "control": "fake"}[other]
    assert reply.degraded == "fallback_engine"
    assert reply.exposure is None
    assert served.exposures.recorded == []
    scores = [item.score for item in reply.items]
    assert scores == sorted(scores, reverse=True)


async def test_a_late_ranker_is_as_good_as_a_failing_one(kitchen, clock):
    slow = ContraryEngine("contrary", clock=clock, seconds_per_call=0.060)

    reply = await kitchen(FakeEngine(), slow).serve(*ITEMS, user=USER, timeout_ms=50)

    assert (reply.experiments[0].variant, reply.experiments[0].reason) == ("control", "ERROR")
    assert reply.model.engine == "fake"


async def test_one_that_is_refused_at_its_door_leaves_the_other(tiny_bundle, clock):
    """A queue that is full for one of the two is no reason to refuse the request."""
    full = BatchPolicy(mode="fixed", max_waiting_rows=len(ITEMS))
    deployments = [
        deployment_of(tiny_bundle, FakeEngine(), clock=clock),
        deployment_of(
            tiny_bundle, ContraryEngine("contrary"), clock=clock, name="contrary", policy=full
        ),
    ]
    served = Kitchen(deployments, clock, experiments=[DUEL])
    asked = {"user": USER, "timeout_ms": 10_000, "force": {"duel": "contrary"}}
    waiting = asyncio.create_task(served.rank(*ITEMS, **asked))
    await asyncio.sleep(0)

    reply = await served.serve(*ITEMS, user=USER)

    assert (reply.experiments[0].variant, reply.experiments[0].reason) == ("control", "ERROR")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_gets_no_slate_lapses_under_the_variant_of_both(kitchen):
    served = kitchen(failing(), failing(), allow_degraded=False)

    with pytest.raises(EnginesFailed):
        await served.serve(*ITEMS, user=USER)

    (lapse,) = served.exposures.recorded
    assert [arm.variant for arm in lapse.arms] == [INTERLEAVED]


async def test_when_both_fail_it_is_as_without_interleaving(kitchen):
    served = kitchen(failing(), failing())
    reply = await served.serve(*ITEMS, user=USER)
    assert (reply.degraded, reply.model.engine, reply.exposure) == (
        "popularity",
        "popularity",
        None,
    )

    with pytest.raises(EnginesFailed, match="'ranker'"):
        await kitchen(failing(), failing(), allow_degraded=False).serve(*ITEMS, user=USER)


async def test_each_ranker_has_its_own_cache_entries(kitchen, clock):
    cache = MemoryScoreCache(clock)
    served = kitchen(cache=cache)

    first = await served.serve(*ITEMS, user=USER)
    again = await served.serve(*ITEMS, user=USER)

    assert first.cache == CacheReport(result="miss", hits=0, misses=20)
    assert again.cache == CacheReport(result="hit", hits=20, misses=0, age_ms=0)
    assert cache.status().counters.writes == 2


async def test_what_one_of_them_knows_is_a_partial_hit(kitchen, clock):
    served = kitchen(cache=MemoryScoreCache(clock))
    await served.serve(*ITEMS, user=USER, force={"duel": "control"})

    reply = await served.serve(*ITEMS, user=USER)

    assert reply.cache == CacheReport(result="partial", hits=10, misses=10, age_ms=0)


async def test_who_takes_no_part_is_served_by_the_surfaces_own(kitchen):
    served = kitchen()

    reply = await served.serve(*ITEMS)  # nobody to draw for

    assert (reply.experiments[0].variant, reply.exposure) == ("control", None)
    scores = [item.score for item in reply.items]
    assert scores == sorted(scores, reverse=True)


async def test_an_explanation_says_whose_pick_each_item_was(kitchen):
    served = kitchen()

    mixed = await served.serve(*ITEMS, user=USER, k=4, explain=True)
    alone = await served.serve(*ITEMS, k=4, explain=True)

    claims = TOKENS.verify(mixed.exposure, served.clock.wall())
    assert list(mixed.explain.teams) == [item.id for item in mixed.items]
    assert [claims.teams.index(t) for t in mixed.explain.teams.values()] == [
        int(pick) for pick in claims.picks
    ]
    assert not alone.explain.teams


async def test_a_caller_that_leaves_takes_both_out(kitchen, clock):
    served = kitchen()
    waiting = asyncio.create_task(served.rank(*ITEMS, user=USER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [batcher.waiting_rows for batcher in served.deployments.batchers] == [0, 0]
