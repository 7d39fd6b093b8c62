"""Engines come back without a request that would show it, and without users as the test."""

import asyncio
import logging

import msgspec
import pytest

from service.clock import SystemClock
from service.deployments import Deployments
from service.deployments.recovery import (
    GOLDEN_CHECK_S,
    EngineRecovery,
    can_score,
    looked_after,
)
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.errors import CacheUnavailable
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeClock, FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.rankers import deployment_of
from tests.support.valkey import eventually

CLOCK = SystemClock()
THREAD = BatchPolicy(execution="thread")
SETTINGS = EngineSettings(breaker_probe_s=0.02)


@pytest.fixture
def fake():
    return FakeEngine()


@pytest.fixture
def engine(fake):
    return FaultyEngine(fake)


@pytest.fixture
def cache():
    return MemoryScoreCache(FakeClock())


def link_of(bundle, engine, clock=CLOCK):
    """A link whose golden rows are the bundle's, with the scores that fake engines give."""
    rows, _ = bundle.golden
    golden = Golden(rows=rows, scores=FakeEngine.expected(rows), tolerance=1e-6)
    return EngineLink(engine, golden=golden, settings=SETTINGS, clock=clock)


def failed(deployment, engine, times=1):
    """Users' calls fail, and golden rows too while they are asked because of that."""
    golden, _ = deployment.bundle.golden
    for _ in range(times):
        engine.fail(2)
        with pytest.raises(Exception, match="ordered"):
            score(deployment, golden)
    engine.fail(0)


def score(deployment, rows):
    return deployment.chains[0].score(rows)


@pytest.mark.parametrize("policy", [BatchPolicy(), THREAD], ids=["inline", "thread"])
async def test_an_engine_that_was_left_alone_is_back_after_golden_rows(
    policy, tiny_bundle, engine, fake
):
    link = link_of(tiny_bundle, engine)
    deployment = deployment_of(tiny_bundle, link, clock=CLOCK, policy=policy)
    failed(deployment, engine, times=3)
    assert link.status == "open"
    assert not can_score(deployment)

    async with looked_after(Deployments([deployment]), CLOCK, stop_limit_s=10):
        await eventually(lambda: can_score(deployment))

    assert fake.calls == [tiny_bundle.golden[0].rows], "golden rows, once, and no user's"


async def test_it_stays_alone_as_long_as_its_golden_scores_are_wrong(tiny_bundle, engine, fake):
    link = link_of(tiny_bundle, engine)
    deployment = deployment_of(tiny_bundle, link, clock=CLOCK)
    failed(deployment, engine, times=3)
    engine.distort()

    async with looked_after(Deployments([deployment]), CLOCK, stop_limit_s=10):
        await eventually(lambda: len(fake.calls) >= 2)
        assert not link.serves
        assert "golden rows" in link.state.last_error
        engine.mend()
        await eventually(lambda: link.status == "ready")


async def test_a_server_that_is_not_ready_asks_itself_without_any_request(tiny_bundle, engine):
    """One failure opens no breaker, but a chain whose last call failed is not ready."""
    deployment = deployment_of(tiny_bundle, engine, clock=CLOCK)
    failed(deployment, engine)
    assert deployment.chains[0].states()[0].status == "failing"
    assert not can_score(deployment)

    async with looked_after(Deployments([deployment]), CLOCK, stop_limit_s=10):
        await eventually(lambda: can_score(deployment))


async def test_engines_that_are_well_are_left_alone(tiny_bundle, fake):
    by_popularity = deployment_of(tiny_bundle, clock=CLOCK, name="popularity")
    deployments = Deployments([deployment_of(tiny_bundle, fake, clock=CLOCK), by_popularity])

    async with looked_after(deployments, CLOCK, stop_limit_s=10):
        for _ in range(10):
            await asyncio.sleep(0)

    assert fake.calls == []


async def test_silent_corruption_is_found_within_a_minute(tiny_bundle, engine, fake):
    clock = FakeClock()
    link, spare = link_of(tiny_bundle, engine, clock), FakeEngine("spare")
    deployment = deployment_of(tiny_bundle, link, spare, clock=clock)
    recovery = EngineRecovery(Deployments([deployment]), clock)
    engine.distort()
    recovery.look()
    assert link.status == "ready"

    clock.advance(GOLDEN_CHECK_S)
    recovery.look()

    assert link.status == "open"
    assert score(deployment, tiny_bundle.golden[0].take(slice(0, 3))).fallback == "left_alone"
    assert spare.calls == [tiny_bundle.golden[0].rows, 3], "it was checked as well"


class Purges:
    """Counts purges, and refuses some first."""

    def __init__(self, refused=0):
        self.refused, self.done = refused, 0

    async def __call__(self):
        if self.refused:
            self.refused -= 1
            raise CacheUnavailable("no answer")
        self.done += 1


def checked(deployment, recovery, clock):
    """The engine's golden rows are due and asked for, and the recovery hears how it went."""
    clock.advance(GOLDEN_CHECK_S)
    recovery.look()
    recovery.look()


async def test_what_an_engine_has_stored_that_is_found_wrong_is_purged_each_time(
    tiny_bundle, engine, cache
):
    clock, purges = FakeClock(), Purges()
    link = link_of(tiny_bundle, engine, clock)
    deployment = deployment_of(tiny_bundle, link, clock=clock, cache=cache)
    recovery = EngineRecovery(Deployments([deployment]), clock, purge=purges)
    checked(deployment, recovery, clock)
    assert link.found_wrong == 0

    for times in (1, 2):
        engine.distort()
        checked(deployment, recovery, clock)
        await eventually(lambda times=times: purges.done == times)
        await eventually(lambda: link.status == "open")
        engine.mend()

        def is_back():
            clock.advance(1.0)
            recovery.look()
            return link.status == "ready"

        await eventually(is_back)
    assert purges.done == 2


async def test_an_engine_that_fails_has_stored_nothing_wrong(tiny_bundle, engine, cache):
    clock, purges = FakeClock(), Purges()
    link = link_of(tiny_bundle, engine, clock)
    deployment = deployment_of(tiny_bundle, link, clock=clock, cache=cache)
    recovery = EngineRecovery(Deployments([deployment]), clock, purge=purges)
    engine.fail(100)

    checked(deployment, recovery, clock)

    assert (link.status, link.found_wrong) == ("open", 0)
    await asyncio.sleep(0)
    assert purges.done == 0


async def test_a_purge_that_nobody_knows_of_is_tried_again(
    tiny_bundle, engine, cache, monkeypatch, caplog
):
    monkeypatch.setattr("service.deployments.recovery.PURGE_AGAIN_S", 0.01)
    clock, purges = FakeClock(), Purges(refused=2)
    link = link_of(tiny_bundle, engine, clock)
    deployment = deployment_of(tiny_bundle, link, clock=clock, cache=cache)
    recovery = EngineRecovery(Deployments([deployment]), clock, purge=purges)
    engine.distort()
    with caplog.at_level(logging.WARNING):
        checked(deployment, recovery, clock)
        await eventually(lambda: purges.done == 1)

    assert [r.message.split(":")[0] for r in caplog.records if "cache" in r.message] == [
        "engine fake scored golden rows wrong",
        *2 * ["the cache could not be purged, which is tried again"],
    ]


async def test_a_check_is_made_once_a_minute(tiny_bundle, fake):
    clock = FakeClock()
    deployment = deployment_of(tiny_bundle, link_of(tiny_bundle, fake, clock), clock=clock)
    recovery = EngineRecovery(Deployments([deployment]), clock)

    for _ in range(300):
        clock.advance(1.0)
        recovery.look()

    assert len(fake.calls) == 5


async def test_deployments_that_share_their_engines_do_not_ask_twice(tiny_bundle, fake):
    clock = FakeClock()
    one = deployment_of(tiny_bundle, link_of(tiny_bundle, fake, clock), clock=clock)
    recovery = EngineRecovery(Deployments([one, msgspec.structs.replace(one, name="other")]), clock)
    clock.advance(GOLDEN_CHECK_S)

    recovery.look()

    assert len(fake.calls) == 1


async def test_an_engine_that_hangs_as_it_is_probed_is_given_up(tiny_bundle, engine):
    clock = FakeClock()
    link = link_of(tiny_bundle, engine, clock)
    deployment = deployment_of(tiny_bundle, link, clock=clock)
    failed(deployment, engine, times=3)
    recovery = EngineRecovery(Deployments([deployment]), clock)
    with engine.hold():
        clock.advance(1.0)
        recovery.look()
        assert await asyncio.to_thread(engine.entered.wait, 10)
        assert link.status == "probing"
        clock.advance(2.1)
        recovery.look()
        assert link.status == "hung"
        clock.advance(60.0)
        recovery.look()
        assert link.status == "hung", "its thread is still in there"

    await eventually(lambda: link.status == "open")
    clock.advance(1.0)
    recovery.look()
    await eventually(lambda: link.status == "ready")


async def test_an_engine_that_hangs_is_left_alone_in_the_end(tiny_bundle, engine, caplog):
    caplog.set_level(logging.ERROR)
    deployment = deployment_of(tiny_bundle, engine, clock=CLOCK, policy=THREAD)
    golden, _ = tiny_bundle.golden
    with engine.hold():
        async with asyncio.timeout(10):
            async with looked_after(Deployments([deployment]), CLOCK, stop_limit_s=0.05):
                asking = asyncio.create_task(
                    deployment.batcher.score(golden, deadline=CLOCK.now() + 0.01)
                )
                await asyncio.to_thread(engine.entered.wait, 10)
            await asyncio.gather(asking, return_exceptions=True)

    assert "an engine hangs and is left alone after 0.05 s" in caplog.text
