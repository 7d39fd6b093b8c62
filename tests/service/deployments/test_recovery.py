"""Engines that failed come back without a request that would show it."""

import asyncio
import logging

import pytest

from service.clock import SystemClock
from service.deployments import Deployments
from service.deployments.recovery import can_score, looked_after
from service.settings import BatchPolicy
from service.testing import FakeEngine, FaultyEngine
from tests.support.rankers import deployment_of
from tests.support.valkey import eventually

CLOCK = SystemClock()
THREAD = BatchPolicy(execution="thread")


@pytest.fixture
def engine():
    return FaultyEngine(FakeEngine())


def failed_once(deployment, engine):
    engine.fail()
    golden, _ = deployment.bundle.golden
    with pytest.raises(Exception, match="ordered"):
        deployment.chains[0].score(golden)


async def test_a_chain_that_failed_is_asked_again_though_nobody_ranks(tiny_bundle, engine):
    deployment = deployment_of(tiny_bundle, engine, clock=CLOCK)
    failed_once(deployment, engine)
    assert not can_score(deployment)

    async with looked_after(Deployments([deployment]), CLOCK, stop_limit_s=10):
        await eventually(lambda: can_score(deployment))


async def test_engines_that_are_well_are_left_alone(tiny_bundle):
    fake = FakeEngine()
    by_popularity = deployment_of(tiny_bundle, clock=CLOCK, name="popularity")
    deployments = Deployments([deployment_of(tiny_bundle, fake, clock=CLOCK), by_popularity])

    async with looked_after(deployments, CLOCK, stop_limit_s=10):
        for _ in range(10):
            await asyncio.sleep(0)

    assert fake.calls == []


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
