"""Engines that hang: their batch goes on elsewhere, and nobody is left waiting."""

import asyncio
import threading
from contextvars import Context

import numpy as np
import pytest

from service.batching.instance import Instance
from service.engines.chain import EngineChain
from service.engines.check import Check
from service.engines.golden import Golden
from service.engines.scored import EveryEngineFailed
from service.settings import EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

JOBS = [random_batch(3, seed=3), random_batch(2, seed=2)]
GOLDEN = Golden(rows=JOBS[0], scores=FakeEngine.expected(JOBS[0]), tolerance=1e-6)
LIMIT_S = 0.5
SETTINGS = EngineSettings(max_execution_s=LIMIT_S)


@pytest.fixture
async def start(clock):
    """Makes an instance on a thread of its own, and closes it in the end."""
    instances = []

    def start(*engines, execution="thread"):
        instance = Instance(EngineChain(engines, clock, SETTINGS), execution, clock)
        instances.append(instance)
        return instance

    yield start
    for instance in instances:
        instance.close()


@pytest.fixture
def hanging():
    engine = FaultyEngine(FakeEngine("first"))
    engine.hang()
    yield engine
    engine.mend()


def asked(instance, deadlines=None):
    """A batch, and the future of its outcome."""
    outcome = asyncio.get_running_loop().create_future()
    instance.score(JOBS, outcome.set_result, Context(), deadlines=deadlines)
    return outcome


async def entered(engine):
    assert await asyncio.to_thread(engine.entered.wait, 10)


async def let_the_bound_pass(clock):
    clock.advance(LIMIT_S)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until(condition):
    """Until another thread has made it true; asking costs it the processor."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.to_thread(lambda: None)
    raise AssertionError("it never came to pass")


async def test_a_batch_whose_engine_hangs_is_scored_by_the_next_on_another_thread(
    start, hanging, clock
):
    instance = start(hanging, FakeEngine("spare"))
    outcome = asked(instance)
    await entered(hanging)

    await let_the_bound_pass(clock)
    done = await outcome

    part = done.scored.part(slice(0, 3))
    np.testing.assert_array_equal(part.scores, FakeEngine.expected(JOBS[0]))
    assert (part.engine.name, done.fallback) == ("spare", "hung")
    assert [call.error_type for call in done.calls] == ["hung", None]
    assert done.calls[0].finished_at - done.calls[0].started_at == pytest.approx(LIMIT_S)
    assert instance.chain.states()[0].status == "hung"


async def test_the_next_batches_pass_by_the_engine_that_hangs(start, hanging, clock):
    instance = start(hanging, FakeEngine("spare"))
    first = asked(instance)
    await entered(hanging)
    await let_the_bound_pass(clock)
    await first

    done = await asked(instance)

    assert [call.engine for call in done.calls] == ["spare"]
    assert done.started_at == done.ended_at, "nobody waited"


async def test_without_another_engine_the_callers_hear_of_it_at_once(start, hanging, clock):
    instance = start(hanging)
    outcome = asked(instance)
    await entered(hanging)
    await let_the_bound_pass(clock)

    done = await outcome

    assert isinstance(done.scored, EveryEngineFailed)
    assert "first: a call took 0.5 s, which is too long" in str(done.scored)


async def test_what_comes_back_late_is_ignored_and_the_engine_waits_for_golden_rows(
    start, hanging, clock
):
    instance = start(hanging, FakeEngine("spare"))
    link = instance.chain.links[0]
    outcome = asked(instance)
    await entered(hanging)
    await let_the_bound_pass(clock)
    await outcome

    hanging.release()
    await until(lambda: link.status == "open")

    assert link.state.rows == 0
    assert (await asked(instance)).scored.part(slice(0, 3)).engine.name == "spare"
    Check(link, GOLDEN, clock).proceed()
    assert (await asked(instance)).scored.part(slice(0, 3)).engine.name == "first"


async def test_one_after_the_other_may_hang(start, hanging, clock):
    second = FaultyEngine(FakeEngine("second"))
    second.hang()
    instance = start(hanging, second, FakeEngine("third"))
    outcome = asked(instance)
    await entered(hanging)
    await let_the_bound_pass(clock)
    await entered(second)
    await let_the_bound_pass(clock)

    done = await outcome
    second.mend()

    assert [call.error_type for call in done.calls] == ["hung", "hung", None]


async def test_a_call_that_comes_back_in_time_is_not_given_up(start, hanging, clock):
    instance = start(hanging, FakeEngine("spare"))
    outcome = asked(instance)
    await entered(hanging)
    clock.advance(LIMIT_S * 0.9)
    hanging.release()

    done = await outcome
    await let_the_bound_pass(clock)

    assert [(call.engine, call.error_type) for call in done.calls] == [("first", None)]
    assert instance.chain.states()[0].status == "ready"


async def test_golden_rows_that_hang_do_not_hold_up_the_next_batch_for_ever(start, hanging, clock):
    instance = start(hanging, FakeEngine("spare"))
    instance.check(Check(instance.chain.links[0], GOLDEN, clock))
    await entered(hanging)
    outcome = asked(instance)

    await let_the_bound_pass(clock)
    done = await outcome

    assert [call.engine for call in done.calls] == ["spare"]


async def test_closing_waits_for_no_engine_that_hangs(start, hanging, clock):
    instance = start(hanging, FakeEngine("spare"))
    outcome = asked(instance)
    await entered(hanging)
    await let_the_bound_pass(clock)
    await outcome

    instance.close()

    assert hanging.entered.is_set()
    assert all(t.daemon for t in threading.enumerate() if t.name == "podium-engine")


async def test_rows_whose_deadline_passed_while_the_engine_hung_are_not_asked_for_again(
    start, hanging, clock
):
    spare = FakeEngine("spare")
    instance = start(hanging, spare)
    outcome = asked(instance, deadlines=[clock.now() + 0.1, clock.now() + 9])
    await entered(hanging)

    await let_the_bound_pass(clock)
    await outcome

    assert spare.calls == [2]


async def test_inline_the_outcome_is_there_at_once_and_so_is_a_check(start, clock):
    engine = FakeEngine()
    instance = start(engine, execution="inline")

    outcome = asked(instance)
    instance.check(Check(instance.chain.links[0], GOLDEN, clock))

    assert outcome.done()
    assert engine.calls == [5, 3]
