"""The batcher, scoring on the event loop's own thread: what a caller may rely on."""

import asyncio
import contextvars
import gc

import numpy as np
import pytest

from ranking_models.schema import FeatureBatch
from service.batching.batcher import Batcher
from service.batching.records import ScoredTooLate
from service.engines.chain import EngineChain
from service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    EngineFailed,
    NotReady,
    QueueFull,
)
from service.settings import BatchPolicy
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import random_batch

POLICY = BatchPolicy(max_batch_rows=400, preferred_batch_rows=256)
FIXED = BatchPolicy(mode="fixed", max_batch_rows=400, preferred_batch_rows=256)


@pytest.fixture
def start(clock):
    """Makes a batcher of one instance over some engines."""

    def start(*engines, policy=POLICY, on_batch=None):
        return Batcher([EngineChain(engines, clock)], policy, clock, on_batch=on_batch)

    return start


def asked(batcher, rows, clock, timeout=1.0, **more):
    """A caller that waits for the scores of its rows."""
    batch = rows if isinstance(rows, FeatureBatch) else random_batch(rows)
    return asyncio.create_task(batcher.score(batch, deadline=clock.now() + timeout, **more))


async def settle():
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- who shares a batch ---


async def test_a_lone_request_is_scored_without_any_wait(start, clock):
    engine = FakeEngine(clock=clock, seconds_per_row=0.001)
    rows = random_batch(3)

    scored = await start(engine).score(rows, deadline=clock.now() + 1)

    np.testing.assert_array_equal(scored.scores, FakeEngine.expected(rows))
    assert scored.engine == engine.info
    assert scored.fallback is False
    assert scored.queue_s == 0.0
    assert scored.engine_s == pytest.approx(0.003)
    assert (scored.batch.rows, scored.batch.jobs, scored.batch.reason) == (3, 1, "idle")


async def test_all_requests_of_one_iteration_of_the_loop_share_a_batch(start, clock):
    engine = FakeEngine()
    batcher = start(engine)
    batches = [random_batch(rows, seed=rows) for rows in (1, 20, 5)]

    scored = await asyncio.gather(*[asked(batcher, rows, clock) for rows in batches])

    assert engine.calls == [26]
    for one, rows in zip(scored, batches, strict=True):
        np.testing.assert_array_equal(one.scores, FakeEngine.expected(rows))
        assert (one.batch.rows, one.batch.jobs) == (26, 3)


async def test_no_engine_call_is_larger_than_the_policy_or_any_engine_allows(start, clock):
    engine = FakeEngine(max_batch_rows=64)
    batcher = start(engine, FakeEngine("next", max_batch_rows=50))

    await asyncio.gather(*[asked(batcher, 30, clock) for _ in range(4)])

    assert engine.calls == [30, 30, 30, 30]


async def test_a_request_larger_than_a_batch_is_scored_in_several_and_joined(start, clock):
    engine = FakeEngine(clock=clock, seconds_per_row=0.001)
    batcher = start(engine)
    large, small = random_batch(1000), random_batch(10, seed=1)

    one, other = await asyncio.gather(
        asked(batcher, large, clock, timeout=5), asked(batcher, small, clock, timeout=5)
    )

    assert engine.calls == [400, 400, 210]
    np.testing.assert_array_equal(one.scores, FakeEngine.expected(large))
    np.testing.assert_array_equal(other.scores, FakeEngine.expected(small))
    assert one.queue_s == 0.0
    assert one.engine_s == pytest.approx(1.010)
    assert other.queue_s == pytest.approx(0.8)
    assert one.batch == other.batch


async def test_in_fixed_mode_a_request_waits_for_company_and_no_longer(start, clock):
    batcher = start(FakeEngine(), policy=FIXED)
    first = asked(batcher, 1, clock)
    await settle()
    clock.advance(0.003)
    second = asked(batcher, 2, clock)
    await settle()
    assert not first.done()

    clock.advance(0.002)
    await settle()

    assert (await first).batch == (await second).batch
    assert (await first).batch.reason == "delay"
    assert (await first).queue_s == pytest.approx(0.005)
    assert (await second).queue_s == pytest.approx(0.002)
    assert (await second).batch.oldest_wait_ms == pytest.approx(5)


async def test_a_timer_that_rings_early_costs_one_more_wait_and_does_not_spin(
    start, clock, monkeypatch
):
    """uvloop's timers count whole milliseconds and round: 5.4 ms ring after 5."""
    loop, set_timers = asyncio.get_running_loop(), []

    def call_later(delay_s, *callback, context):
        set_timers.append(delay_s)
        return loop.call_at(loop.time() + round(delay_s, 3), *callback, context=context)

    monkeypatch.setattr(loop, "call_later", call_later)
    policy = BatchPolicy(mode="fixed", max_queue_delay_s=0.0054)
    task = asked(start(FakeEngine(), policy=policy), 1, clock)
    await settle()

    clock.advance(0.005)
    await settle()
    assert not task.done()
    clock.advance(0.001)

    assert (await task).batch.reason == "delay"
    assert set_timers == [pytest.approx(0.0054), pytest.approx(0.001)]


# --- deadlines ---


async def test_a_request_whose_deadline_passes_in_the_queue_hears_so_at_once(start, clock):
    engine = FakeEngine()
    batcher = start(engine, policy=FIXED)
    task = asked(batcher, 1, clock, timeout=0.002)
    await settle()

    clock.advance(0.002)
    await settle()

    assert task.done()
    with pytest.raises(DeadlineExpired):
        await task
    assert engine.calls == []
    assert batcher.waiting_rows == 0


async def test_scores_that_come_after_the_deadline_are_not_handed_out(start, clock):
    batcher = start(FakeEngine(clock=clock, seconds_per_call=0.1))
    late, fine = asked(batcher, 1, clock, timeout=0.05), asked(batcher, 2, clock, timeout=0.5)

    with pytest.raises(DeadlineExpired):
        await late
    assert (await fine).batch.jobs == 2


async def test_scores_that_come_after_the_deadline_go_with_the_news_for_whoever_asks_next(
    start, clock
):
    rows = random_batch(3)
    engine = FakeEngine(clock=clock, seconds_per_call=0.1)

    with pytest.raises(ScoredTooLate) as late:
        await start(engine).score(rows, deadline=clock.now() + 0.05)

    np.testing.assert_array_equal(late.value.scored.scores, FakeEngine.expected(rows))
    assert late.value.scored.fallback is False
    assert late.value.scored.engine_s == pytest.approx(0.1)


async def test_a_deadline_that_has_passed_already_is_no_work_for_the_engine(start, clock):
    engine = FakeEngine()

    with pytest.raises(DeadlineExpired):
        await start(engine).score(random_batch(1), deadline=clock.now() - 0.001)

    assert engine.calls == []


async def test_a_request_that_cannot_make_it_is_refused_and_the_others_are_served(start, clock):
    batcher = start(FakeEngine(clock=clock, seconds_per_row=0.001))
    for _ in range(3):  # teaches the batcher that 400 rows take 0.4 s
        await asyncio.gather(*[asked(batcher, 200, clock) for _ in range(2)])

    fine, refused = asked(batcher, 200, clock), asked(batcher, 200, clock, timeout=0.3)

    with pytest.raises(DeadlineUnreachable):
        await refused
    assert (await fine).batch.rows == 200


async def test_a_full_queue_refuses(start, clock):
    policy = BatchPolicy(max_waiting_rows=100)
    batcher = start(FakeEngine(), policy=policy)
    first = asked(batcher, 60, clock)
    await asyncio.sleep(0)

    with pytest.raises(QueueFull):
        await batcher.score(random_batch(60), deadline=clock.now() + 1)

    assert (await first).batch.rows == 60


# --- faults stay with their owners ---


async def test_a_cancelled_caller_takes_its_rows_out_and_nobody_else_notices(start, clock):
    engine = FakeEngine()
    batcher = start(engine, policy=FIXED)
    gone, stays = asked(batcher, 5, clock), asked(batcher, 7, clock)
    await settle()

    gone.cancel()
    await settle()
    assert batcher.waiting_rows == 7
    clock.advance(0.005)

    assert (await stays).batch.rows == 7
    assert engine.calls == [7]


async def test_cancellation_in_the_very_moment_of_the_answer_disturbs_nobody(start, clock):
    batcher = start(FakeEngine())
    gone, stays = asked(batcher, 5, clock), asked(batcher, 7, clock)
    await asyncio.sleep(0)  # both wait, the batch leaves in the next iteration

    gone.cancel()

    assert len((await stays).scores) == 7
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_when_the_engine_fails_every_caller_of_the_batch_hears_it(start, clock):
    engine = FaultyEngine(FakeEngine())
    engine.fail()
    batcher = start(engine)

    failed = await asyncio.gather(
        *[asked(batcher, n, clock) for n in (1, 2, 3)], return_exceptions=True
    )

    assert [type(error) for error in failed] == [EngineFailed] * 3
    assert len({id(error) for error in failed}) == 3, "each caller has an exception of its own"
    assert "a fault that was ordered" in str(failed[0])
    assert len((await asked(batcher, 4, clock)).scores) == 4


async def test_a_spoiled_score_fails_its_own_request_and_no_other(start, clock):
    good, bad = random_batch(5), random_batch(3, seed=1)
    engine = FaultyEngine(FakeEngine())
    engine.spoil(lambda batch: batch.dense[:, 0] == bad.dense[1, 0])
    batcher = start(engine)

    one, other = await asyncio.gather(
        asked(batcher, good, clock), asked(batcher, bad, clock), return_exceptions=True
    )

    np.testing.assert_array_equal(one.scores, FakeEngine.expected(good))
    assert isinstance(other, EngineFailed)


async def test_only_who_needed_the_next_engine_is_told_of_a_fallback(start, clock):
    good, bad = random_batch(5), random_batch(3, seed=1)
    engine = FaultyEngine(FakeEngine("first"))
    engine.spoil(lambda batch: batch.dense[:, 0] == bad.dense[1, 0])
    spare = FakeEngine("spare")
    batcher = start(engine, spare)

    one, other = await asyncio.gather(asked(batcher, good, clock), asked(batcher, bad, clock))

    assert (one.engine.name, one.fallback) == ("first", False)
    assert (other.engine.name, other.fallback) == ("spare", True)
    np.testing.assert_array_equal(other.scores, FakeEngine.expected(bad))
    assert spare.calls == [1], "only the spoiled row was scored again"


async def test_a_large_request_fails_as_a_whole_when_one_of_its_batches_fails(start, clock):
    engine = FaultyEngine(FakeEngine())
    engine.fail(calls=1)
    batcher = start(engine)

    with pytest.raises(EngineFailed):
        await asked(batcher, 1000, clock)

    assert batcher.waiting_rows == 0, "the rest of its rows is not scored for nobody"


async def test_rows_that_do_not_fit_together_fail_instead_of_hanging(start, clock):
    batcher = start(FakeEngine())
    odd = FeatureBatch(dense=np.zeros((2, 3), np.float32), ids=np.zeros((2, 2), np.int32))

    failed = await asyncio.gather(
        asked(batcher, 3, clock), asked(batcher, odd, clock), return_exceptions=True
    )

    assert [type(error) for error in failed] == [EngineFailed] * 2


async def test_an_error_that_a_cancelled_caller_missed_is_not_reported_as_lost(start, clock):
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    engine = FaultyEngine(FakeEngine())
    engine.fail()
    batcher = start(engine)
    task = asked(batcher, 1, clock)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)  # right after the batch has failed

    with pytest.raises(asyncio.CancelledError):
        await task

    del task
    gc.collect()
    assert lost == []


# --- what telemetry is told ---


async def test_every_batch_is_reported_with_its_jobs_and_engine_calls(start, clock):
    records = []
    first = FaultyEngine(FakeEngine("first", clock=clock, seconds_per_call=0.002))
    first.fail()
    batcher = start(
        first,
        FakeEngine("spare", clock=clock, seconds_per_call=0.003),
        policy=FIXED,
        on_batch=records.append,
    )
    began = clock.now()
    tasks = [asked(batcher, 2, clock, timeout=0.5), asked(batcher, 3, clock)]
    await settle()
    clock.advance(0.005)
    await asyncio.gather(*tasks)

    (record,) = records
    assert (record.model, record.precision) == ("fake", "fp32")
    assert (record.rows, record.waiting_rows, record.reason) == (5, 5, "delay")
    assert record.taken_at == pytest.approx(began + 0.005)
    assert record.finished_at == pytest.approx(began + 0.008)
    assert [(m.rows, m.arrived_at, m.deadline_at, m.request) for m in record.members] == [
        (2, began, began + 0.5, None),
        (3, began, began + 1.0, None),
    ]
    assert [(c.engine, c.rows, c.error_type) for c in record.calls] == [
        ("first", 5, "EngineFailed"),
        ("spare", 5, None),
    ]
    assert record.error_type is None


async def test_a_batch_that_no_engine_scored_is_reported_too(start, clock):
    records = []
    engine = FaultyEngine(FakeEngine())
    engine.answer_short()
    batcher = start(engine, on_batch=records.append)

    with pytest.raises(EngineFailed):
        await asked(batcher, 2, clock)

    assert [record.error_type for record in records] == ["EngineFailed"]


async def test_a_batch_with_one_row_that_nobody_could_score_did_not_fail(start, clock):
    records, bad = [], random_batch(1, seed=1)
    first, spare = FaultyEngine(FakeEngine("first")), FaultyEngine(FakeEngine("spare"))
    first.spoil(lambda batch: batch.dense[:, 0] == bad.dense[0, 0])
    spare.fail()
    batcher = start(first, spare, on_batch=records.append)

    good = asked(batcher, 5, clock)
    with pytest.raises(EngineFailed):
        await asked(batcher, bad, clock)

    assert len((await good).scores) == 5
    assert [call.error_type for call in records[0].calls] == [None, "EngineFailed"]
    assert records[0].error_type is None


async def test_telemetry_that_fails_costs_nobody_an_answer(start, clock):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(record):
        raise RuntimeError("no disk")

    batcher = start(FakeEngine(), on_batch=broken)

    assert len((await asked(batcher, 2, clock)).scores) == 2
    assert len((await asked(batcher, 3, clock)).scores) == 3
    assert len(reported) == 2


async def test_a_batch_runs_in_no_single_requests_context(start, clock):
    """Else the spans of a batch would hang below whichever request came first."""
    request = contextvars.ContextVar("request", default="nobody")
    seen = []

    class Watched(FakeEngine):
        def score(self, batch):
            seen.append(request.get())
            return super().score(batch)

    batcher = start(Watched(), on_batch=lambda record: seen.append(request.get()))

    request.set("r-1")
    await asked(batcher, 1, clock)

    assert seen == ["nobody", "nobody"]


# --- the end ---


async def test_stopping_finishes_what_is_queued_and_refuses_what_is_new(start, clock):
    batcher = start(FakeEngine(), policy=FIXED)
    queued = asked(batcher, 5, clock)
    await settle()

    stopping = asyncio.create_task(batcher.stop())
    await settle()
    with pytest.raises(NotReady):
        await batcher.score(random_batch(1), deadline=clock.now() + 1)
    assert not stopping.done()
    clock.advance(0.005)
    await stopping

    assert len((await queued).scores) == 5


async def test_the_last_batch_is_reported_before_the_batcher_has_stopped(start, clock):
    records = []
    batcher = start(FakeEngine(), on_batch=records.append)
    task = asked(batcher, 5, clock)
    await asyncio.sleep(0)

    await batcher.stop()

    assert len(records) == 1
    assert task.done()


async def test_an_idle_batcher_stops_at_once_and_twice(start):
    batcher = start(FakeEngine())

    await batcher.stop()
    await batcher.stop()


def test_every_instance_needs_its_chain():
    clock = FakeClock()
    chain = EngineChain([FakeEngine()], clock)

    with pytest.raises(ValueError, match="2 instances need as many chains, got 1"):
        Batcher([chain], BatchPolicy(instances=2, execution="thread"), clock)
