"""No caller is ever left waiting: random traffic, cancellation, faults, hangs and shutdown."""

import asyncio
import random
import time
from contextlib import ExitStack

import numpy as np
import pytest

from ranking_models.schema import FeatureBatch
from service.batching.batcher import Batcher
from service.engines.chain import EngineChain
from service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    EngineFailed,
    NotReady,
    QueueFull,
)
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

PATIENT_S = 1e6
HANGS_AFTER_S = 60.0
"""Of real time; all of it together takes half a second."""

NEVER_LEFT_ALONE = EngineSettings(
    breaker_failures=1_000_000, breaker_rate=1.0, max_execution_s=3_600.0
)

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
        preserve_ordering=dice.random() < 0.3,
    )


def some_rows(dice: random.Random, number: int) -> FeatureBatch:
    """Mostly new; sometimes some that others have asked for as well."""
    rows = dice.choice([1, 3, 10, 60, 500])
    return random_batch(rows, seed=number if dice.random() < 0.7 else dice.choice([1, 2]))


def some_chain(dice: random.Random, clock) -> tuple[EngineChain, FaultyEngine]:
    first = FaultyEngine(
        FakeEngine("first", clock=clock, seconds_per_row=dice.choice([0.0, 0.0001]))
    )
    rest = [FakeEngine("spare")] if dice.random() < 0.5 else []
    return EngineChain([first, *rest], clock, NEVER_LEFT_ALONE), first


@pytest.mark.parametrize("execution", ["inline", "thread"])
@pytest.mark.parametrize("seed", range(8))
async def test_every_caller_gets_its_own_scores_or_a_known_error(seed, execution, clock):
    dice = random.Random(f"{execution} {seed}")
    policy = some_policy(dice, execution)
    chains = [some_chain(dice, clock) for _ in range(policy.instances)]
    lost, records = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    batcher = Batcher([chain for chain, _ in chains], policy, clock, on_batch=records.append)

    tasks, told = [], []
    holds = ExitStack()  # calls that do not come back for a while
    for number in range(300):
        if number == 250:
            stopping = asyncio.create_task(batcher.stop())
        rows = some_rows(dice, number)
        more = {
            "deadline": clock.now() + dice.choice([-0.001, 0.001, 0.02, PATIENT_S]),
            "priority": dice.choice(["high", "normal", "low"]),
            "deployment": dice.choice(["one", "other"]),
        }
        if dice.random() < 0.7:
            tasks.append((asyncio.create_task(batcher.score(rows, **more)), rows))
        else:
            told.append(Told(batcher, rows, more))
        disturb(dice, tasks, told, [engine for _, engine in chains])
        if execution == "thread" and dice.random() < 0.1:
            holds.close()
        if execution == "thread" and dice.random() < 0.05:
            holds.enter_context(dice.choice(chains)[1].hold())
        for _ in range(dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        if dice.random() < 0.3:
            clock.advance(dice.choice([0.0005, 0.003, 0.006]))
    holds.close()

    given_up_at = time.monotonic() + HANGS_AFTER_S
    while not stopping.done():
        assert time.monotonic() < given_up_at, "a caller was left waiting"
        clock.advance(0.001)  # fixed mode waits for company even now
        await asyncio.sleep(0)
    await stopping
    ends = await asyncio.gather(*[task for task, _ in tasks], return_exceptions=True)

    for end, (_, rows) in zip(ends, tasks, strict=True):
        check_end(end, rows)
    for one in told:
        assert len(one.ends) == (0 if one.cancelled else 1), "told once, unless it went away"
        for end in one.ends:
            check_end(end, one.rows)
    assert not all(isinstance(end, BaseException) for end in ends)
    assert batcher.waiting_rows == 0
    for record in records:
        if all(call.error_type is None for call in record.calls):
            assert record.calls[0].rows == record.rows - record.duplicate_rows
    assert lost == []


def check_end(end, rows):
    if not isinstance(end, BaseException):
        np.testing.assert_array_equal(end.scores, FakeEngine.expected(rows))
    else:
        assert isinstance(end, (*KNOWN_ENDS, asyncio.CancelledError)), repr(end)


class Told:
    """A caller without a task."""

    def __init__(self, batcher, rows, more):
        self.rows, self.ends, self.cancelled, self.pending = rows, [], False, None
        try:
            self.pending = batcher.submit(rows, then=self.ends.append, **more)
        except KNOWN_ENDS as refusal:
            self.ends.append(refusal)

    def cancel(self):
        if not self.ends:
            self.pending.cancel()
            self.cancelled = True


def disturb(dice, tasks, told, engines):
    """Now and then: a caller goes away, an engine fails, or spoils some rows."""
    if dice.random() < 0.15:
        gone = dice.choice([*[task for task, _ in tasks], *told])
        gone.cancel()
    engine, fault = dice.choice(engines), dice.random()
    if fault < 0.05:
        engine.fail(dice.choice([1, 3]))
    elif fault < 0.10:
        engine.answer_short()
    elif fault < 0.15:
        threshold = dice.choice([1.5, 2.5, 99.0])
        engine.spoil(lambda batch: batch.dense[:, 0] > threshold, dice.choice([np.nan, -1.0, 2.0]))
