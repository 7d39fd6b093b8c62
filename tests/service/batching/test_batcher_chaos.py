"""No caller is ever left waiting: random traffic, cancellation, faults and shutdown."""

import asyncio
import random
import time

import numpy as np
import pytest

from service.batching.batcher import Batcher
from service.engines.chain import EngineChain
from service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    EngineFailed,
    NotReady,
    QueueFull,
)
from service.settings import BatchPolicy
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

PATIENT_S = 1e6
HANGS_AFTER_S = 60.0
"""Of real time; all of it together takes half a second."""

KNOWN_ENDS = (DeadlineExpired, DeadlineUnreachable, EngineFailed, NotReady, QueueFull)


def some_policy(dice: random.Random, execution) -> BatchPolicy:
    largest = dice.choice([7, 50, 400])
    return BatchPolicy(
        mode=dice.choice(["adaptive", "fixed"]),
        max_batch_rows=largest,
        preferred_batch_rows=min(dice.choice([5, 30, 256]), largest),
        max_queue_delay_s=dice.choice([0.0, 0.005]),
        max_waiting_rows=dice.choice([100, 5000]),
        instances=1 if execution == "inline" else dice.choice([1, 2, 3]),
        execution=execution,
    )


def some_chain(dice: random.Random, clock) -> tuple[EngineChain, FaultyEngine]:
    first = FaultyEngine(
        FakeEngine("first", clock=clock, seconds_per_row=dice.choice([0.0, 0.0001]))
    )
    rest = [FakeEngine("spare")] if dice.random() < 0.5 else []
    return EngineChain([first, *rest], clock), first


@pytest.mark.parametrize("execution", ["inline", "thread"])
@pytest.mark.parametrize("seed", range(8))
async def test_every_caller_gets_its_own_scores_or_a_known_error(seed, execution, clock):
    dice = random.Random(f"{execution} {seed}")
    policy = some_policy(dice, execution)
    chains = [some_chain(dice, clock) for _ in range(policy.instances)]
    lost, records = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    batcher = Batcher([chain for chain, _ in chains], policy, clock, on_batch=records.append)

    tasks = []
    for number in range(300):
        if number == 250:
            stopping = asyncio.create_task(batcher.stop())
        rows = random_batch(dice.choice([1, 3, 10, 60, 500]), seed=number)
        task = asyncio.create_task(
            batcher.score(
                rows,
                deadline=clock.now() + dice.choice([-0.001, 0.001, 0.02, PATIENT_S]),
                priority=dice.choice(["high", "normal", "low"]),
            )
        )
        tasks.append((task, rows))
        disturb(dice, tasks, [engine for _, engine in chains])
        for _ in range(dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        if dice.random() < 0.3:
            clock.advance(dice.choice([0.0005, 0.003, 0.006]))

    given_up_at = time.monotonic() + HANGS_AFTER_S
    while not stopping.done():
        assert time.monotonic() < given_up_at, "a caller was left waiting"
        clock.advance(0.001)  # fixed mode waits for company even now
        await asyncio.sleep(0)
    await stopping
    assert all(task.done() for task, _ in tasks[:250])
    ends = await asyncio.gather(*[task for task, _ in tasks], return_exceptions=True)

    for end, (_, rows) in zip(ends, tasks, strict=True):
        if not isinstance(end, BaseException):
            np.testing.assert_array_equal(end.scores, FakeEngine.expected(rows))
        else:
            assert isinstance(end, (*KNOWN_ENDS, asyncio.CancelledError)), repr(end)
    assert not all(isinstance(end, BaseException) for end in ends)
    assert batcher.waiting_rows == 0
    assert sum(record.rows for record in records) == sum(
        call.rows for record in records for call in record.calls[:1]
    )
    assert lost == []


def disturb(dice, tasks, engines):
    """Now and then: a caller goes away, an engine fails, or spoils some rows."""
    if dice.random() < 0.15:
        dice.choice(tasks)[0].cancel()
    engine, fault = dice.choice(engines), dice.random()
    if fault < 0.05:
        engine.fail(dice.choice([1, 3]))
    elif fault < 0.10:
        engine.answer_short()
    elif fault < 0.15:
        threshold = dice.choice([1.5, 2.5, 99.0])
        engine.spoil(lambda batch: batch.dense[:, 0] > threshold, dice.choice([np.nan, -1.0, 2.0]))
