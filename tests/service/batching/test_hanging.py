"""No caller is left waiting for an engine that hangs, whatever else goes wrong meanwhile."""

import asyncio
import random
import threading

import numpy as np
import pytest

from service.batching.batcher import Batcher
from service.engines.chain import EngineChain
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.errors import DeadlineExpired, EngineFailed, RankingError
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

SETTINGS = EngineSettings(max_execution_s=0.05)
LOOKS = 20_000
"""How often the loop turns before a caller counts as left behind; a few hundred do."""


GOLDEN_ROWS = random_batch(6, seed=99)
GOLDEN = Golden(rows=GOLDEN_ROWS, scores=FakeEngine.expected(GOLDEN_ROWS), tolerance=1e-6)


def chain_of(engines, clock):
    links = [EngineLink(e, golden=GOLDEN, settings=SETTINGS, clock=clock) for e in engines]
    return EngineChain(links, clock, SETTINGS)


def some_chain(dice, clock):
    engines = [FaultyEngine(FakeEngine(f"engine {number}")) for number in range(3)]
    return chain_of(engines, clock), engines


def disturb(dice, tasks, engines):
    engine = dice.choice(engines)
    match dice.randrange(12):
        case 0:
            engine.hang()
        case 1:
            engine.mend()
        case 2:
            engine.fail(dice.choice([1, 4]))
        case 3:
            engine.spoil(lambda batch: batch.dense[:, 0] > 1.0)
        case 4:
            engine.fail_on(lambda batch: batch.dense[:, 1] > 2.0)
        case 5:
            dice.choice(tasks)[0].cancel()


class HangsAtGoldenRows(FakeEngine):
    """Fails at everybody else's."""

    def __init__(self):
        super().__init__()
        self.may_answer = threading.Event()

    def score(self, batch):
        if batch.rows != GOLDEN_ROWS.rows:
            raise EngineFailed("broken")
        self.may_answer.wait()
        return super().score(batch)


@pytest.mark.parametrize("callers", [1, 40], ids=["alone", "guilty together"])
async def test_golden_rows_that_never_come_back_hold_nobody_up(callers, clock):
    engine, spare = HangsAtGoldenRows(), FaultyEngine(FakeEngine("spare"))
    spare.fail(10**9)
    batcher = Batcher([chain_of([spare, engine], clock)], BatchPolicy(execution="thread"), clock)
    try:
        for _ in range(SETTINGS.breaker_failures + 1):
            deadline = clock.now() + 1000.0
            tasks = [
                asyncio.create_task(batcher.score(random_batch(2, seed), deadline=deadline))
                for seed in range(callers)
            ]
            for _ in range(LOOKS):
                if all(task.done() for task in tasks):
                    break
                clock.advance(0.001)
                await asyncio.to_thread(lambda: None)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, EngineFailed) for end in ends), ends
        assert batcher.instances[0].chain.states()[1].status == "hung"
    finally:
        engine.may_answer.set()
    await batcher.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_every_caller_gets_its_own_scores_or_a_known_error(seed, clock):
    dice = random.Random(seed)
    chains, engines = zip(*[some_chain(dice, clock) for _ in range(2)], strict=True)
    engines = [engine for of_chain in engines for engine in of_chain]
    policy = BatchPolicy(
        execution="thread", instances=2, max_batch_rows=50, preferred_batch_rows=20
    )
    batcher = Batcher(chains, policy, clock)
    lost, tasks = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    try:
        for number in range(120):
            rows = random_batch(dice.choice([1, 3, 10, 70]), seed=number)
            deadline = clock.now() + dice.choice([0.02, 0.2, 10.0])
            tasks.append((asyncio.create_task(batcher.score(rows, deadline=deadline)), rows))
            disturb(dice, tasks, engines)
            await asyncio.to_thread(lambda: None)
            clock.advance(dice.choice([0.0, 0.001, 0.02]))
        stopping = asyncio.create_task(batcher.stop())
        for _ in range(LOOKS):
            if stopping.done():
                break
            clock.advance(0.001)
            await asyncio.to_thread(lambda: None)
        assert stopping.done(), "stopping waits for an engine that hangs"
        ends = await asyncio.gather(*[task for task, _ in tasks], return_exceptions=True)
    finally:
        for engine in engines:
            engine.mend()

    for end, (_, rows) in zip(ends, tasks, strict=True):
        if isinstance(end, BaseException):
            known = (DeadlineExpired, EngineFailed, RankingError, asyncio.CancelledError)
            assert isinstance(end, known), repr(end)
        else:
            np.testing.assert_array_equal(end.scores, FakeEngine.expected(rows))
    assert lost == []
