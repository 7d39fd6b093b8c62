"""The batcher with engines on threads of their own: the event loop goes on meanwhile."""

import asyncio
import threading

import numpy as np
import pytest

from service.batching.batcher import Batcher
from service.batching.outlook import FIRST_BATCHES
from service.engines.chain import EngineChain
from service.errors import DeadlineExpired, EngineFailed
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

ONE = BatchPolicy(max_batch_rows=400, preferred_batch_rows=256, execution="thread")
TWO = BatchPolicy(max_batch_rows=400, preferred_batch_rows=256, instances=2, execution="thread")


@pytest.fixture
async def start(clock):
    """Makes a batcher with one engine for each instance, and stops it in the end."""
    batchers = []

    def start(*engines, policy=ONE):
        batcher = Batcher([EngineChain([engine], clock) for engine in engines], policy, clock)
        batchers.append(batcher)
        return batcher

    yield start
    for batcher in batchers:
        await batcher.stop()


def asked(batcher, rows, clock, timeout=1.0):
    return asyncio.create_task(
        batcher.score(random_batch(rows, seed=rows), deadline=clock.now() + timeout)
    )


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def entered(engine):
    """Until a call of the engine has begun."""
    assert await asyncio.to_thread(engine.entered.wait, 10)


async def test_the_engine_runs_on_a_thread_of_its_own(start, clock):
    threads = set()

    class Watched(FakeEngine):
        def score(self, batch):
            threads.add(threading.current_thread())
            return super().score(batch)

    batcher = start(Watched())
    for _ in range(5):
        await asked(batcher, 1, clock)

    (thread,) = threads
    assert thread is not threading.main_thread()
    await batcher.stop()
    assert not thread.is_alive()


async def test_what_arrives_while_the_engine_is_busy_forms_the_next_batch(start, clock):
    fake = FakeEngine()
    engine = FaultyEngine(fake)
    batcher = start(engine)
    with engine.hold():
        first = asked(batcher, 1, clock)
        await entered(engine)
        others = [asked(batcher, rows, clock) for rows in (2, 3, 4)]
        await settle()
        assert batcher.waiting_rows == 9

    scored = await asyncio.gather(first, *others)

    assert fake.calls == [1, 9]
    for one, rows in zip(scored, (1, 2, 3, 4), strict=True):
        expected = FakeEngine.expected(random_batch(rows, seed=rows))
        np.testing.assert_array_equal(one.scores, expected)


async def test_a_second_instance_scores_beside_the_first_until_it_is_known_to_gain_nothing(
    start, clock
):
    first, second = FaultyEngine(FakeEngine()), FaultyEngine(FakeEngine())
    batcher = start(first, second, policy=TWO)
    with second.hold(), first.hold():
        alone = asked(batcher, 1, clock)
        await asyncio.to_thread(lambda: first.entered.wait(0.01) or second.entered.wait(10))
        other = asked(batcher, 2, clock)
        await settle()
        assert batcher.waiting_rows == 0

    assert (await alone).batch.reason == "idle"
    assert (await other).batch.reason == "no_gain"
    assert (await other).batch.executing == 1


async def test_the_parts_of_a_large_request_run_on_all_instances_and_are_joined(start, clock):
    engines = [FakeEngine(), FakeEngine()]
    batcher = start(*engines, policy=TWO)

    scored = await asked(batcher, 1900, clock)

    expected = FakeEngine.expected(random_batch(1900, seed=1900))
    np.testing.assert_array_equal(scored.scores, expected)
    assert sum(engines[0].calls + engines[1].calls) == 1900


async def test_a_deadline_passes_while_the_engine_is_busy_and_the_caller_hears_so(start, clock):
    engine = FaultyEngine(FakeEngine())
    batcher = start(engine)
    with engine.hold():
        scored = asked(batcher, 1, clock, timeout=0.05)
        await entered(engine)
        queued = asked(batcher, 1, clock, timeout=0.04)
        patient = asked(batcher, 2, clock, timeout=10)
        await settle()

        clock.advance(0.04)
        await settle()
        assert (scored.done(), queued.done()) == (False, True)
        clock.advance(0.01)
        await settle()
        assert scored.done()

        for late in (scored, queued):
            with pytest.raises(DeadlineExpired):
                await late
    assert (await patient).batch.rows == 2


async def test_a_caller_cancelled_while_it_is_scored_disturbs_nobody(start, clock):
    engine = FaultyEngine(FakeEngine())
    batcher = start(engine)
    with engine.hold():
        gone, stays = asked(batcher, 1, clock), asked(batcher, 2, clock)
        await entered(engine)
        gone.cancel()
        await settle()
        assert gone.cancelled()

    assert (await stays).batch.jobs == 2


async def test_stopping_waits_for_the_batch_that_is_under_way(start, clock):
    engine = FaultyEngine(FakeEngine())
    batcher = start(engine)
    with engine.hold():
        under_way = asked(batcher, 1, clock)
        await entered(engine)
        queued = asked(batcher, 2, clock)
        await settle()
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        assert not stopping.done()

    await stopping

    assert (under_way.done(), queued.done()) == (True, True)
    assert len((await queued).scores) == 2


async def test_stopping_waits_even_for_a_batch_that_nobody_waits_for_any_more(start, clock):
    engine = FaultyEngine(FakeEngine())
    batcher = start(engine)
    with engine.hold():
        late = asked(batcher, 1, clock, timeout=0.01)
        await entered(engine)
        clock.advance(0.01)
        await asyncio.wait([late])
        assert isinstance(late.exception(), DeadlineExpired)
        stopping = asyncio.create_task(batcher.stop())
        await settle()
        assert not stopping.done(), "the engine is still busy"

    await stopping


async def test_a_batch_that_failed_teaches_nothing_whether_somebody_waits_for_it_or_not(clock):
    engine = FaultyEngine(FakeEngine())
    patient = EngineSettings(breaker_failures=100, breaker_rate=1.0)
    batcher = Batcher([EngineChain([engine], clock, patient)], ONE, clock)
    engine.fail(FIRST_BATCHES)
    for _ in range(FIRST_BATCHES):
        with engine.hold():
            gone = asked(batcher, 1, clock)
            await entered(engine)
            clock.advance(0.1)
            gone.cancel()
            await settle()

    assert (await asked(batcher, 2, clock)).batch.batch_fixed_ms is None
    await batcher.stop()


async def test_a_failed_engine_fails_its_batch_and_scores_the_next(start, clock):
    engine = FaultyEngine(FakeEngine())
    engine.fail()
    batcher = start(engine)

    with pytest.raises(EngineFailed):
        await asked(batcher, 1, clock)

    assert len((await asked(batcher, 2, clock)).scores) == 2
