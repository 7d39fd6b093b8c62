"""Copies: scored when nothing else has to be, compared, shown to nobody."""

import asyncio

import pytest

from experiments.definition import Experiment, Variant
from experiments.events import unit_digest
from service.messages import UserRef
from service.settings import BatchPolicy
from service.testing import FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.contrary import ContraryEngine
from tests.support.rankers import Kitchen, deployment_of

ITEMS = tuple(f"i{n}" for n in range(10))
USER = UserRef(id="u1")
DEFAULT = BatchPolicy()
DRAFT = Experiment(
    key="new",
    state="draft",
    shadow_bp=10_000,
    variants=(
        Variant(name="control", share_bp=5000, deployment="ranker"),
        Variant(name="new", share_bp=5000, deployment="new"),
    ),
)


@pytest.fixture
async def kitchen(tiny_bundle, clock):
    """Makes a ranker whose copies an engine scores."""
    open_kitchens = []

    async def kitchen(engine, *, cache=None, policy=DEFAULT, experiments=(DRAFT,)):
        deployments = [
            deployment_of(tiny_bundle, FakeEngine(), clock=clock, cache=cache),
            deployment_of(
                tiny_bundle, *engine, clock=clock, name="new", cache=cache, policy=policy
            ),
        ]
        made = Kitchen(deployments, clock, experiments=experiments)
        await made.shadow.start()
        open_kitchens.append(made)
        return made

    yield kitchen
    for made in open_kitchens:
        await made.shadow.stop()


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_contrary_variant_is_told_apart_before_anybody_sees_it(kitchen):
    served = await kitchen([ContraryEngine("contrary")])

    reply = await served.serve(*ITEMS, user=USER, k=3)
    await settle()

    (found,) = served.comparisons
    assert (found.experiment, found.phase, found.variant, found.reference) == (
        "new",
        1,
        "new",
        "control",
    )
    assert (found.overlap, found.kendall_tau) == (0.0, pytest.approx(-1.0))
    assert found.drift_max > 0.1
    assert found.unit == unit_digest("u1")
    assert found.at == served.clock.wall()
    assert reply.model.engine == "fake"
    assert served.shadow.counts.compared == 1
    label = {"variant": "new:new"}
    assert served.metric("podium_shadow_overlap_count", **label) == 1
    assert served.metric("podium_shadow_kendall_tau_bucket", **label, le="-0.5") == 1


async def test_an_equal_variant_agrees_wholly(kitchen):
    served = await kitchen([FakeEngine("other")])

    await served.serve(*ITEMS, user=USER)
    await settle()

    (found,) = served.comparisons
    assert (found.overlap, found.kendall_tau, found.drift_max) == (1.0, 1.0, 0.0)


async def test_a_cached_slate_is_compared_as_well_and_no_copy_is_cached(kitchen, clock):
    cache = MemoryScoreCache(clock)
    served = await kitchen([ContraryEngine("contrary")], cache=cache)
    await served.serve(*ITEMS, user=USER)
    await settle()

    cached = await served.serve(*ITEMS, user=USER)
    await settle()

    assert cached.cache.result == "hit"
    first, second = served.comparisons
    assert first.reference_latency_ms is not None
    assert second.reference_latency_ms is None
    assert second.kendall_tau == first.kendall_tau
    assert cache.status().counters.writes == 1
    assert cache.status().counters.hits == 1


async def test_the_latency_of_a_copy_is_its_engines_time_and_counts_for_no_arm(kitchen, clock):
    served = await kitchen([FakeEngine("slow", clock=clock, seconds_per_call=0.020)])

    reply = await served.serve(*ITEMS, user=USER)
    await settle()

    (found,) = served.comparisons
    assert found.latency_ms == pytest.approx(20)
    assert found.reference_latency_ms == pytest.approx(0)
    assert reply.timing_ms.total == 0.0
    assert served.metric("podium_requests_total", surface="none", variant="new:new",
                         engine="slow", outcome="ok") is None  # fmt: skip


async def test_a_copy_is_not_made_before_the_reply_has_left(kitchen):
    served = await kitchen([FakeEngine("other")])

    ranked = await served.rank(*ITEMS, user=USER)
    await settle()
    assert served.comparisons == []
    assert not ranked.is_done

    await served.ranker.record(ranked)
    await settle()
    assert len(served.comparisons) == 1


async def test_while_requests_wait_for_an_engine_copies_are_dropped(kitchen):
    # Rows wait in this queue until 4096 of them are there.
    served = await kitchen([FakeEngine("other")], policy=BatchPolicy(mode="fixed"))
    waiting = asyncio.create_task(
        served.rank(*ITEMS, user=UserRef(id="u2"), force={"new": "new"}, timeout_ms=10_000)
    )
    await settle()

    await served.serve(*ITEMS, user=USER)
    await settle()

    assert served.comparisons == []
    assert served.shadow.counts.shed_busy == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_while_an_engine_is_at_work_copies_are_dropped(kitchen):
    engine = FaultyEngine(FakeEngine("other"))
    served = await kitchen([engine], policy=BatchPolicy(execution="thread"))
    with engine.hold():
        scored = asyncio.create_task(
            served.rank(*ITEMS, user=USER, force={"new": "new"}, timeout_ms=10_000)
        )
        await asyncio.to_thread(engine.entered.wait, 10)

        await served.serve(*ITEMS, user=USER)

        assert served.shadow.counts.shed_busy == 1
    assert (await scored).reply.degraded is None


async def test_more_copies_than_may_wait_are_dropped_and_counted(kitchen):
    served = await kitchen([FakeEngine("other")])

    ranked = await served.rank(*ITEMS, user=USER)
    for _ in range(100):
        served.shadow.offer(ranked.copy)

    assert served.shadow.counts.shed_full == 36
    for _ in range(200):
        await settle()
    assert served.shadow.counts.compared == 64


async def test_a_variant_that_fails_is_counted_and_the_next_copy_is_scored(kitchen):
    engine = FaultyEngine(FakeEngine("other"))
    served = await kitchen([engine])
    engine.fail()

    await served.serve(*ITEMS, user=USER)
    await settle()
    await served.serve(*ITEMS, user=USER)
    await settle()

    assert (served.shadow.counts.failed, served.shadow.counts.compared) == (1, 1)
    assert len(served.comparisons) == 1


async def test_a_fallbacks_scores_are_not_the_variants(kitchen):
    first = FaultyEngine(FakeEngine("first"))
    first.fail(calls=1000)
    served = await kitchen([first, FakeEngine("second")])

    await served.serve(*ITEMS, user=USER)
    await settle()

    assert served.shadow.counts.failed == 1
    assert served.comparisons == []


async def test_a_variant_without_engines_has_no_scores_to_compare(kitchen):
    served = await kitchen([])

    await served.serve(*ITEMS, user=USER)
    await settle()

    assert served.shadow.counts.failed == 1


async def test_a_defect_ends_one_copy_and_is_logged(kitchen, caplog, monkeypatch):
    served = await kitchen([FakeEngine("other")])
    told = iter([RuntimeError("broken sink")])

    def tell(comparison):
        for error in told:
            raise error
        served.comparisons.append(comparison)

    monkeypatch.setattr(served.shadow, "_tell", tell)

    for _ in range(2):
        await served.serve(*ITEMS, user=USER)
        await settle()

    assert len(served.comparisons) == 1
    assert "new:new" in caplog.text


async def test_a_shutdown_waits_for_no_copy(kitchen):
    served = await kitchen([FakeEngine("other")], policy=BatchPolicy(mode="fixed"))
    ranked = await served.rank(*ITEMS, user=USER)
    for _ in range(3):
        served.shadow.offer(ranked.copy)
    await settle()  # one is in the batcher, and would leave when others join it

    await asyncio.wait_for(served.shadow.stop(), 1)
    served.shadow.offer(ranked.copy)

    assert served.shadow.counts.shed_stopping >= 3
    assert [batcher.waiting_rows for batcher in served.deployments.batchers] == [0, 0]
