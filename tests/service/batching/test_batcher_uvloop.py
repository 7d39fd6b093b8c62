"""The batcher on the loop that serves: its timers are coarser than asyncio's."""

import asyncio

import numpy as np
import pytest
import uvloop

from service.batching.batcher import Batcher
from service.clock import SystemClock
from service.engines.chain import EngineChain
from service.settings import BatchPolicy
from service.testing import FakeEngine
from tests.support.batches import random_batch

LONG_ENOUGH_S = 60.0


@pytest.mark.parametrize("execution", ["inline", "thread"])
@pytest.mark.parametrize("mode", ["adaptive", "fixed"])
def test_callers_come_and_go_and_each_gets_its_own_scores(mode, execution):
    batches = [random_batch(1 + n % 17, seed=n) for n in range(200)]

    async def serve():
        clock = SystemClock()
        policy = BatchPolicy(
            mode=mode, execution=execution, max_batch_rows=50, preferred_batch_rows=50
        )
        batcher = Batcher([EngineChain([FakeEngine()], clock)], policy, clock)

        async def one_after_the_other(mine):
            return [
                await batcher.score(rows, deadline=clock.now() + LONG_ENOUGH_S) for rows in mine
            ]

        callers = [one_after_the_other(batches[n::20]) for n in range(20)]
        scored = await asyncio.gather(*callers)
        await batcher.stop()
        return scored

    scored = uvloop.run(serve())

    for n, mine in enumerate(scored):
        for one, rows in zip(mine, batches[n::20], strict=True):
            np.testing.assert_array_equal(one.scores, FakeEngine.expected(rows))
