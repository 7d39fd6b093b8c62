"""The straight line: what a caller gets, whatever happens to the engines, and what is recorded."""

import asyncio

import pytest

from experiments.definition import Experiment, Variant
from experiments.events import Lapse, unit_digest
from ranking_models.bundle import Bundle
from service.errors import (
    DeadlinePassed,
    DeadlineUnreachable,
    EnginesFailed,
    InvalidRequest,
    NoCandidates,
    QueueFull,
    UnknownItem,
)
from service.messages import RankRequest, UserRef
from service.settings import BatchPolicy
from service.testing import FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.bundles import write_tiny_bundle
from tests.support.rankers import TOKENS, Kitchen, deployment_of

AA = Experiment(
    key="aa",
    unit="user",
    variants=(Variant(name="control", share_bp=5000), Variant(name="same", share_bp=5000)),
)
USER = UserRef(id="u1")
DEFAULT = BatchPolicy()


def failing(name="broken"):
    engine = FaultyEngine(FakeEngine(name))
    engine.fail(calls=1000)
    return engine


@pytest.fixture
def kitchen(tiny_bundle, clock):
    """Makes a ranker with one deployment over these engines."""

    def kitchen(*engines, policy=DEFAULT, cache=None, **options):
        deployment = deployment_of(tiny_bundle, *engines, clock=clock, policy=policy, cache=cache)
        return Kitchen([deployment], clock, **options)

    return kitchen


async def settle():
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- a slate every time, on time ---


async def test_the_first_engine_that_can_answers_and_the_reply_names_it(kitchen):
    served = kitchen(failing(), FakeEngine("spare"))

    reply = await served.serve()

    assert reply.degraded == "fallback_engine"
    assert (reply.model.engine, reply.model.precision) == ("spare", "fp32")
    assert served.metric("podium_degraded_total", reason="fallback_engine") == 1


async def test_when_every_engine_fails_popularity_answers(kitchen, tiny_bundle):
    served = kitchen(failing("one"), failing("two"))
    best = str(tiny_bundle.item_ids[tiny_bundle.popularity[0]])

    reply = await served.serve("unlisted", best)

    assert reply.degraded == "popularity"
    assert (reply.model.engine, reply.model.precision) == ("popularity", "none")
    assert [item.id for item in reply.items] == [best, "unlisted"]
    assert served.metric("podium_degraded_total", reason="popularity") == 1
    assert served.metric("podium_deadline_exceeded_total") == 0


async def test_when_every_engine_fails_and_nothing_else_will_do_the_caller_hears_it(kitchen):
    served = kitchen(failing("one"), failing("two"), allow_degraded=False)

    with pytest.raises(EnginesFailed, match="'ranker'"):
        await served.rank()


async def test_when_the_deadline_passes_popularity_answers(kitchen, clock):
    served = kitchen(FakeEngine(clock=clock, seconds_per_call=0.060))

    reply = await served.serve(timeout_ms=50)

    assert reply.degraded == "popularity"
    assert reply.model.engine == "popularity"
    assert served.metric("podium_deadline_exceeded_total") == 1


async def test_a_deadline_counts_from_the_arrival(kitchen, clock):
    served = kitchen(FakeEngine())
    arrived = clock.now()
    clock.advance(0.050)

    ranked = await served.ranker.rank(
        RankRequest(candidates=("i1",), timeout_ms=50), arrived=arrived
    )

    assert ranked.reply.degraded == "popularity"


async def test_when_the_deadline_passes_and_nothing_else_will_do_the_caller_hears_it(
    kitchen, clock
):
    served = kitchen(FakeEngine(clock=clock, seconds_per_call=0.060), allow_degraded=False)

    with pytest.raises(DeadlinePassed, match="50 ms"):
        await served.rank(timeout_ms=50)

    assert served.metric("podium_deadline_exceeded_total") == 1


async def test_a_full_queue_is_a_refusal_and_no_reason_to_rank_by_popularity(kitchen):
    policy = BatchPolicy(mode="fixed", max_waiting_rows=3)
    served = kitchen(FakeEngine(), policy=policy)
    waiting = asyncio.create_task(served.rank("i1", "i2", "i3"))
    await settle()

    with pytest.raises(QueueFull) as refused:
        await served.rank("i1")

    assert refused.value.retry_after_s >= 1
    assert served.metric("podium_shed_total", reason="queue_full") == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_would_most_likely_be_late_is_refused_at_the_door(kitchen, clock):
    served = kitchen(FakeEngine(clock=clock, seconds_per_row=0.001, max_batch_rows=400))
    items = [f"x{n}" for n in range(200)]

    def asks(hour, timeout_ms=1000):  # for other rows every hour: equal ones are scored once
        return served.rank(*items, timeout_ms=timeout_ms, context={"hour": hour})

    for _ in range(3):  # teaches the batcher that 400 rows take 0.4 s
        await asyncio.gather(asks(1), asks(2))

    fine = asyncio.create_task(asks(1))
    hurried = asyncio.create_task(asks(2, timeout_ms=300))

    with pytest.raises(DeadlineUnreachable):
        await hurried
    assert (await fine).reply.degraded is None


# --- item pages ---


async def page(served, anchor):
    # As the handler of the page asks: the candidates are found in the bundle.
    asked = RankRequest(candidates=(anchor,), anchor_item=anchor)
    return (await served.ranker.item_page(asked, arrived=served.clock.now())).reply


async def test_an_item_page_ranks_what_the_bundle_has_beside_its_anchor(kitchen):
    served = kitchen(FakeEngine())
    beside = served.deployments["ranker"].candidates_of("i7")

    reply = await page(served, "i7")

    assert {item.id for item in reply.items} <= set(beside)
    assert len(reply.items) == min(20, len(beside))
    with pytest.raises(UnknownItem):
        await page(served, "unlisted")


async def test_an_item_without_anything_beside_it_has_no_page(tmp_path, clock):
    lonely = Bundle.open(write_tiny_bundle(tmp_path, items=1))
    served = Kitchen([deployment_of(lonely, FakeEngine(), clock=clock)], clock)

    with pytest.raises(NoCandidates):
        await page(served, "i0")


# --- explanations ---


async def test_an_explanation_shows_the_inputs_that_the_engine_was_given(kitchen):
    served = kitchen(FakeEngine())

    reply = await served.serve("i1", "i2", "i3", k=2, explain=True)

    assert set(reply.explain.inputs) == {item.id for item in reply.items}
    assert reply.explain.batch.rows == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_a_slate_that_no_engine_scored_is_explained_as_well(kitchen, clock, fails):
    engine = FaultyEngine(FakeEngine())
    served = kitchen(engine, cache=MemoryScoreCache(clock))
    asked = {"user": USER} if fails else {}
    plain = await served.serve()
    engine.fail(calls=1)

    reply = await served.serve(explain=True, **asked)

    assert reply.model.engine == ("popularity" if fails else plain.model.engine)
    assert reply.explain.batch is None
    assert set(reply.explain.inputs) == {"i1", "i2", "i3"}


# --- exposures ---


async def test_an_exposure_is_recorded_after_the_reply_and_not_before(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])

    ranked = await served.rank(user=USER)
    assert served.exposures.recorded == []
    await served.ranker.record(ranked)

    (exposure,) = served.exposures.recorded
    reply = ranked.reply
    assert exposure.slate_id == reply.slate_id
    assert (exposure.cache_result, exposure.engine) == ("bypass", "fake")
    (arm,) = exposure.arms
    assert (arm.experiment, arm.unit) == ("aa", unit_digest("u1"))
    assert arm.variant == reply.experiments[0].variant
    claims = TOKENS.verify(reply.exposure, served.clock.wall())
    assert (claims.slate_id, claims.arms) == (reply.slate_id, (arm,))
    assert served.metric("podium_exposures_total", variant=f"aa:{arm.variant}") == 1


@pytest.mark.parametrize(
    ("engine", "raised"), [(failing(), EnginesFailed), (FakeEngine(), InvalidRequest)]
)
async def test_a_ranking_that_fails_exposes_nobody_and_is_a_lapse_of_its_arm(
    kitchen, engine, raised
):
    served = kitchen(engine, experiments=[AA], allow_degraded=False)
    context = {"hour": "late"} if raised is InvalidRequest else {}

    with pytest.raises(raised):
        await served.serve(user=USER, context=context)

    (lapse,) = served.exposures.recorded
    assert isinstance(lapse, Lapse)
    assert lapse.code == raised.code
    assert [(arm.experiment, arm.unit) for arm in lapse.arms] == [("aa", unit_digest("u1"))]


async def test_a_ranking_without_an_experiment_that_fails_is_nobodys_lapse(kitchen):
    served = kitchen(failing(), allow_degraded=False)

    with pytest.raises(EnginesFailed):
        await served.serve(user=USER)

    assert served.exposures.recorded == []


async def test_a_slate_that_nobody_was_there_to_be_sent_is_no_exposure(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])
    ranked = await served.rank(user=USER, context={"surface": "home"})

    await served.ranker.record(ranked, delivered=False)

    (lapse,) = served.exposures.recorded
    assert isinstance(lapse, Lapse)
    assert (lapse.code, lapse.arms, lapse.surface) == ("client_gone", ranked.exposure.arms, "home")
    assert served.metric("podium_exposures_total", variant=f"aa:{lapse.arms[0].variant}") is None


async def test_a_caller_who_hangs_up_while_an_engine_works_is_a_lapse(kitchen):
    engine = FakeEngine()
    served = kitchen(engine, experiments=[AA])
    ranking = asyncio.create_task(served.rank(user=USER))
    await asyncio.sleep(0)
    ranking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ranking

    (lapse,) = served.exposures.recorded
    assert (type(lapse), lapse.code) == (Lapse, "cancelled")


async def test_a_request_without_a_task_that_is_given_up_is_a_lapse_as_well(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])
    request = RankRequest(candidates=("i1",), user=USER)
    told = []

    submitted = served.ranker.submit(request, arrived=served.clock.now(), then=told.append)
    submitted.cancel()

    (lapse,) = served.exposures.recorded
    assert (type(lapse), lapse.code, told) == (Lapse, "cancelled", [])


async def test_an_item_page_without_candidates_is_a_lapse(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])
    page = RankRequest(candidates=("page",), anchor_item="nowhere", user=USER)

    with pytest.raises(UnknownItem):
        await served.ranker.item_page(page, arrived=served.clock.now())

    (lapse,) = served.exposures.recorded
    assert (type(lapse), lapse.code) == (Lapse, "unknown_item")


async def test_an_exposure_says_what_the_slate_took_of_the_engines(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])

    await served.serve("i1", "i2", user=USER, context={"surface": "home"})

    (exposure,) = served.exposures.recorded
    assert (exposure.predictions, exposure.surface) == (2, "home")
    assert exposure.compute_ms >= 0
    assert exposure.queue_ms >= 0


async def test_a_degraded_slate_stays_in_its_arm(kitchen):
    """The analysis is by intention to treat."""
    served = kitchen(failing(), experiments=[AA])

    await served.serve(user=USER)

    (exposure,) = served.exposures.recorded
    assert (exposure.degraded, exposure.engine) == ("popularity", "popularity")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "TARGETING_KEY_MISSING"),
        ({"user": USER, "force": {"aa": "same"}}, "FORCED"),
        ({"user": USER, "external": {"aa": "nope"}}, "DEFAULT"),
        ({"external": {"aa": "same"}}, "EXTERNAL"),
    ],
)
async def test_who_was_not_drawn_undisturbed_is_served_and_not_counted(kitchen, fields, reason):
    served = kitchen(FakeEngine(), experiments=[AA])

    reply = await served.serve(**fields)

    assert [e.reason for e in reply.experiments] == [reason]
    assert reply.exposure is None
    assert served.exposures.recorded == []


async def test_a_decision_taken_elsewhere_is_obeyed_and_counted(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])

    for variant in ("control", "same"):
        await served.serve(user=USER, external={"aa": variant})

    assert [e.arms[0].variant for e in served.exposures.recorded] == ["control", "same"]


async def test_decisions_that_we_do_not_know_are_ignored_and_counted(kitchen):
    served = kitchen(FakeEngine(), experiments=[AA])

    await served.serve(user=USER, external={"aa": "nope", "unheard-of": "x"})

    assert served.metric("podium_external_ignored_total") == 2


# --- what metrics call the variant ---


async def test_rankings_count_for_the_variant_that_decides_the_deployment(tiny_bundle, clock):
    deciding = Experiment(
        key="model",
        variants=(
            Variant(name="old", share_bp=0),
            Variant(name="new", share_bp=10_000, deployment="new"),
        ),
    )
    deployments = [
        deployment_of(tiny_bundle, FakeEngine(name), clock=clock, name=name)
        for name in ("old", "new")
    ]
    served = Kitchen(deployments, clock, experiments=[AA, deciding])

    reply = await served.serve(user=USER)
    await served.serve()  # nobody's: without a user nothing is picked

    assert [e.key for e in reply.experiments] == ["aa", "model"]
    assert reply.model.engine == "new"
    counted = {"surface": "none", "outcome": "ok"}
    assert served.metric("podium_requests_total", variant="model:new", engine="new", **counted) == 1
    assert served.metric("podium_requests_total", variant="none", engine="old", **counted) == 1
