"""The batcher, scoring on the event loop's own thread: what a caller may rely on."""

import asyncio
import contextvars
import gc

import msgspec
import numpy as np
import pytest

from ranking_models.schema import FeatureBatch
from service.batching.batcher import Batcher
from service.batching.records import ScoredTooLate
from service.engines.chain import EngineChain
from service.engines.rows import as_features
from service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    EngineFailed,
    NotReady,
    QueueFull,
)
from service.settings import BatchPolicy
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import candidates, new_batch, random_batch

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
    batch = rows if isinstance(rows, FeatureBatch) else new_batch(rows)
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


async def test_no_engine_call_is_larger_than_the_policy_or_the_engine_that_serves_allows(
    start, clock
):
    engine = FakeEngine(max_batch_rows=70)
    batcher = start(engine)

    await asyncio.gather(*[asked(batcher, 30, clock) for _ in range(4)])

    assert engine.calls == [60, 60]


async def test_what_the_policy_leaves_open_is_as_the_engine_wants_it(start, clock):
    class Sized(FakeEngine):
        @property
        def info(self):
            return msgspec.structs.replace(super().info, best_batch_rows=120)

    engine = Sized()
    batcher = start(engine, policy=BatchPolicy())

    await asyncio.gather(*[asked(batcher, 60, clock) for _ in range(4)])

    assert engine.calls == [120, 120]


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
    assert (one.batch.rows, one.batch.jobs) == (other.batch.rows, other.batch.jobs) == (210, 2)


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

    assert (await first).batch.rows == (await second).batch.rows == 3
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


# --- equal rows ---


async def test_equal_rows_that_wait_together_are_scored_once(start, clock):
    engine, records = FakeEngine(), []
    batcher = start(engine, on_batch=records.append)
    rows = random_batch(10)

    one, part, other = await asyncio.gather(
        asked(batcher, rows, clock),
        asked(batcher, rows.take(slice(2, 5)), clock),
        asked(batcher, 4, clock),
    )

    assert engine.calls == [14]
    np.testing.assert_array_equal(one.scores, FakeEngine.expected(rows))
    np.testing.assert_array_equal(part.scores, FakeEngine.expected(rows)[2:5])
    assert len(other.scores) == 4
    assert (one.batch.rows, one.batch.duplicate_rows) == (17, 3)
    assert (records[0].rows, records[0].duplicate_rows) == (17, 3)


async def test_a_candidate_that_two_requests_of_a_user_name_is_scored_once(start, clock):
    engine = FakeEngine()
    batcher = start(engine)
    first, second = candidates(1, 2, [3, 4, 5]), candidates(1, 2, [5, 6])

    one, other = await asyncio.gather(
        *[asyncio.create_task(batcher.score(r, deadline=clock.now() + 1)) for r in (first, second)]
    )

    assert engine.calls == [4]
    np.testing.assert_array_equal(one.scores, FakeEngine.expected(as_features(first)))
    np.testing.assert_array_equal(other.scores, FakeEngine.expected(as_features(second)))


async def test_a_request_does_not_fail_with_another_that_has_rows_in_common(start, clock):
    """The engine refuses a call with a poisoned row; the request beside it has none."""
    engine = Poisonable()
    good = random_batch(5)
    bad = FeatureBatch.concatenate([good, engine.poison])
    batcher = start(engine)

    failed, fine = await asyncio.gather(
        asked(batcher, bad, clock), asked(batcher, good, clock), return_exceptions=True
    )

    assert isinstance(failed, EngineFailed)
    np.testing.assert_array_equal(fine.scores, FakeEngine.expected(good))


class Poisonable(FakeEngine):
    """Fails whenever a certain row is among those it is asked for."""

    poison = random_batch(1, seed=666)

    def score(self, batch):
        if (batch.dense[:, 0] == self.poison.dense[0, 0]).any():
            raise EngineFailed("poisoned")
        return super().score(batch)


# --- callers without a task ---


async def test_a_caller_without_a_task_is_told_the_scores(start, clock):
    batcher, ends = start(FakeEngine()), []
    rows = new_batch(3)

    batcher.submit(rows, deadline=clock.now() + 1, then=ends.append)
    assert ends == []
    await settle()

    (scored,) = ends
    np.testing.assert_array_equal(scored.scores, FakeEngine.expected(rows))


async def test_a_caller_without_a_task_is_told_what_went_wrong(start, clock):
    engine = FaultyEngine(FakeEngine())
    engine.fail(calls=100)
    batcher, ends = start(engine), []

    batcher.submit(new_batch(3), deadline=clock.now() + 1, then=ends.append)
    batcher.submit(new_batch(3), deadline=clock.now() - 1, then=ends.append)
    await settle()

    assert [type(end) for end in ends] == [DeadlineExpired, EngineFailed]


async def test_a_caller_that_cancels_is_told_nothing_and_its_rows_are_not_scored(start, clock):
    engine, ends = FakeEngine(), []
    batcher = start(engine)

    pending = batcher.submit(new_batch(3), deadline=clock.now() + 1, then=ends.append)
    batcher.submit(new_batch(2), deadline=clock.now() + 1, then=ends.append)
    pending.cancel()
    await settle()
    pending.cancel()  # a second time, and after the end, changes nothing

    assert engine.calls == [2]
    assert [len(end.scores) for end in ends] == [2]


async def test_a_caller_that_cannot_take_its_answer_disturbs_nobody(start, clock):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(end):
        raise RuntimeError("the connection is gone")

    batcher = start(FakeEngine())
    batcher.submit(new_batch(3), deadline=clock.now() + 1, then=broken)

    assert len((await asked(batcher, 2, clock)).scores) == 2
    assert [str(context["exception"]) for context in reported] == ["the connection is gone"]


async def test_an_answer_may_ask_for_more_and_withdraw_others(start, clock):
    batcher, ends = start(FakeEngine()), []
    more = new_batch(4)

    def go_on(end):
        ends.append(end)
        other.cancel()
        batcher.submit(more, deadline=clock.now() + 1, then=ends.append)

    batcher.submit(new_batch(3), deadline=clock.now() + 1, then=go_on)
    other = batcher.submit(new_batch(2), deadline=clock.now() + 1, then=ends.append)
    await settle()

    assert [len(end.scores) for end in ends] == [3, 4]
    await batcher.stop()


async def test_a_refused_caller_without_a_task_leaves_nothing_behind(start, clock):
    batcher = start(FakeEngine(), policy=BatchPolicy(max_waiting_rows=10))
    batcher.submit(new_batch(8), deadline=clock.now() + 1, then=lambda end: None)

    with pytest.raises(QueueFull):
        batcher.submit(new_batch(8), deadline=clock.now() + 1, then=lambda end: None)

    await batcher.stop()
    with pytest.raises(NotReady):
        batcher.submit(new_batch(8), deadline=clock.now() + 1, then=lambda end: None)


# --- deployments, and the order of answers ---


async def test_a_flood_of_one_deployment_does_not_hold_up_another(start, clock):
    batcher, ends = start(FakeEngine(clock=clock, seconds_per_row=0.0001)), []
    for _ in range(20):
        batcher.submit(
            new_batch(200),
            deadline=clock.now() + 60,
            deployment="flood",
            then=lambda end: ends.append("flood"),
        )
    batcher.submit(
        new_batch(200),
        deadline=clock.now() + 60,
        deployment="trickle",
        then=lambda end: ends.append("trickle"),
    )
    await batcher.stop()

    assert len(ends) == 21
    assert ends.index("trickle") <= 2


@pytest.mark.parametrize("ordered", [False, True])
async def test_answers_leave_in_the_order_of_arrival_where_that_is_wanted(start, clock, ordered):
    policy = BatchPolicy(max_batch_rows=50, preferred_batch_rows=50, preserve_ordering=ordered)
    batcher, ends = start(FakeEngine(), policy=policy), []
    for number, priority in enumerate(["normal", "low", "normal", "high", "low", "high"]):
        batcher.submit(
            new_batch(50),
            deadline=clock.now() + 60,
            priority=priority,
            then=lambda end, number=number: ends.append(number),
        )
    await settle()
    await batcher.stop()

    assert ends == ([0, 1, 2, 3, 4, 5] if ordered else [3, 5, 0, 2, 1, 4])


async def test_scores_that_are_held_until_it_is_too_late_go_with_the_news(start, clock):
    policy = BatchPolicy(max_batch_rows=50, preferred_batch_rows=50, preserve_ordering=True)
    engine = FakeEngine(clock=clock, seconds_per_call=0.1)
    batcher = start(engine, policy=policy)
    first = asked(batcher, 50, clock, timeout=60, priority="low")
    await asyncio.sleep(0)
    held = asked(batcher, 50, clock, timeout=0.15, priority="high")

    with pytest.raises(ScoredTooLate):
        await held
    assert len((await first).scores) == 50


async def test_the_end_does_not_wait_for_one_that_was_held_for_another_that_is_too_late(
    start, clock
):
    policy = BatchPolicy(
        mode="fixed",
        max_queue_delay_s=1.0,
        max_batch_rows=50,
        preferred_batch_rows=50,
        preserve_ordering=True,
    )
    batcher = start(FakeEngine(), policy=policy)
    waits = asked(batcher, 1, clock, timeout=0.1, priority="low")
    await settle()
    held = asked(batcher, 50, clock, timeout=60, priority="high")
    await settle()
    end = asyncio.create_task(batcher.stop())
    await settle()
    assert not held.done()

    clock.advance(0.1)
    await settle()

    assert end.done()
    assert isinstance(waits.exception(), DeadlineExpired)
    assert len(held.result().scores) == 50


# --- explanations ---


async def test_a_reply_says_what_its_wait_was_for(start, clock):
    batcher = start(FakeEngine(clock=clock, seconds_per_row=0.001), policy=FIXED)
    first = asked(batcher, 300, clock, timeout=10)
    await settle()
    second = asked(batcher, 20, clock, timeout=10)
    await settle()
    clock.advance(0.002)
    third = asked(batcher, 30, clock, timeout=10)
    await settle()
    clock.advance(0.003)
    await settle()

    why = (await second).batch
    assert (why.reason, why.rows, why.executing) == ("delay", 50, 0)
    assert why.engine_wait_ms == pytest.approx(0)
    assert why.company_wait_ms == pytest.approx(5)
    assert why.arrival_rows_per_s > 0
    assert (await third).batch.company_wait_ms == pytest.approx(3)
    assert (await first).batch.reason == "preferred"


async def test_a_reply_says_that_it_waited_for_an_engine(start, clock):
    batcher = start(FakeEngine(clock=clock, seconds_per_row=0.001))

    first, second = await asyncio.gather(
        asked(batcher, 400, clock, timeout=10), asked(batcher, 10, clock, timeout=10)
    )

    assert second.batch.engine_wait_ms == pytest.approx(400)
    assert second.batch.company_wait_ms == pytest.approx(0)
    assert first.batch.engine_wait_ms == 0


async def test_a_reply_names_what_has_been_learnt_of_batches(start, clock):
    batcher = start(FakeEngine(clock=clock, seconds_per_call=0.001, seconds_per_row=0.0001))
    first = await asked(batcher, 10, clock, timeout=10)
    for rows in range(1, 40):
        last = await asked(batcher, rows, clock, timeout=10)

    assert first.batch.batch_fixed_ms is None
    assert last.batch.batch_fixed_ms == pytest.approx(1.0, rel=0.05)
    assert last.batch.batch_row_us == pytest.approx(100, rel=0.05)


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
    engine.fail(calls=100)
    batcher = start(engine)

    failed = await asyncio.gather(
        *[asked(batcher, n, clock) for n in (1, 2, 3)], return_exceptions=True
    )

    assert [type(error) for error in failed] == [EngineFailed] * 3
    assert len({id(error) for error in failed}) == 3, "each caller has an exception of its own"
    assert "a fault that was ordered" in str(failed[0])


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


async def test_rows_that_fit_with_nobody_elses_do_not_leave_anybody_waiting(start, clock):
    batcher = start(FakeEngine())
    odd = FeatureBatch(dense=np.zeros((2, 3), np.float32), ids=np.zeros((2, 2), np.int32))

    ends = await asyncio.gather(
        asked(batcher, 3, clock), asked(batcher, odd, clock), return_exceptions=True
    )

    assert len(ends[0].scores) == 3
    assert isinstance(ends[1], EngineFailed) or len(ends[1].scores) == 2


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


async def test_a_trace_that_cannot_be_begun_costs_nobody_an_answer(start, clock):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    batcher = start(FakeEngine())

    for rows in (2, 3):  # the instance is there for the next one as well
        assert len((await asked(batcher, rows, clock, context=object())).scores) == rows
    assert [context["message"] for context in reported] == ["a batch could not be traced"] * 2


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


async def test_who_is_late_may_cancel_others_as_it_is_told(start, clock):
    engine = FakeEngine()
    batcher, others, told = start(engine), [], []

    def gone(end):
        told.append(end)
        for other in others:
            other.cancel()

    batcher.submit(new_batch(1), deadline=clock.now(), then=gone)
    for deadline in (clock.now(), clock.now() + 1):  # late as well, and in the batch that leaves
        others.append(batcher.submit(new_batch(2), deadline=deadline, then=told.append))
    bystander = asked(batcher, 3, clock)
    await settle()

    assert len((await asyncio.wait_for(bystander, 5)).scores) == 3
    assert [type(end) for end in told] == [DeadlineExpired]
    assert batcher.is_idle
    await batcher.stop()
