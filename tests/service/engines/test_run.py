"""What becomes of a batch of several jobs when engines fail, hang, or run out of time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking_models.schema import FeatureBatch
from service.engines.chain import EngineChain
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.engines.rows import CandidateRows
from service.engines.scored import EveryEngineFailed
from service.errors import DeadlineExpired, EngineFailed
from service.settings import EngineSettings
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import random_batch

JOBS = [random_batch(rows, seed=rows) for rows in (3, 1, 4, 2, 5)]
EXPECTED = [FakeEngine.expected(job) for job in JOBS]
SPANS = [slice(0, 3), slice(3, 4), slice(4, 8), slice(8, 10), slice(10, 15)]
FOR_EVER = 10**9


@pytest.fixture
def clock():
    return FakeClock()


def of_jobs(*jobs):
    """Finds the rows of these jobs in a batch."""
    firsts = np.concatenate([JOBS[job].dense[:, 0] for job in jobs])
    return lambda batch: np.isin(batch.dense[:, 0], firsts)


def poisoned(name, *jobs):
    """An engine that fails whenever these jobs are in a call."""
    engine = FaultyEngine(FakeEngine(name))
    engine.fail_on(of_jobs(*jobs))
    return engine


def dead(name):
    engine = FaultyEngine(FakeEngine(name))
    engine.fail(FOR_EVER)
    return engine


def ran(chain, deadlines=None, jobs=JOBS):
    run = chain.start(jobs, deadlines)
    assert run.proceed()
    return run


def assert_only_these_failed(batch, guilty):
    for job, span in enumerate(SPANS):
        if job in guilty:
            with pytest.raises(EngineFailed):
                batch.part(span)
        else:
            np.testing.assert_array_equal(batch.part(span).scores, EXPECTED[job])


# --- who is to blame ---


@pytest.mark.parametrize("guilty", range(5))
def test_only_the_guilty_job_fails_when_it_fails_every_engine(guilty, clock):
    chain = EngineChain([poisoned("first", guilty), poisoned("spare", guilty)], clock)

    batch = ran(chain).result()

    assert_only_these_failed(batch, {guilty})
    assert batch.part(SPANS[guilty - 1]).engine.name == "spare"
    with pytest.raises(EngineFailed, match=r"first: .* these rows; spare: .* these rows"):
        batch.part(SPANS[guilty])


def test_neighbours_of_the_guilty_job_of_an_only_engine_keep_that_engine(clock):
    chain = EngineChain([poisoned("first", 2)], clock)

    batch = ran(chain).result()

    assert_only_these_failed(batch, {2})
    assert not batch.part(SPANS[0]).fallback


def test_one_poisonous_request_opens_no_breaker(clock):
    engines = [poisoned("first", 2), poisoned("spare", 2)]
    chain = EngineChain([golden_link(engine, clock) for engine in engines], clock)

    for _ in range(50):
        ran(chain)

    assert [state.opened for state in chain.states()] == [0, 0]


def test_poison_does_not_hide_that_the_engine_before_is_dead(clock):
    engines = [dead("first"), poisoned("spare", 2)]
    chain = EngineChain([golden_link(engine, clock) for engine in engines], clock)

    for _ in range(3):
        assert_only_these_failed(ran(chain).result(), {2})

    assert [state.status for state in chain.states()] == ["open", "ready"]


def test_an_engine_whose_batches_the_next_one_scores_is_left_alone_whatever_golden_rows_say(clock):
    engines = [poisoned("first", 0, 1, 2, 3, 4), FakeEngine("spare")]
    chain = EngineChain([golden_link(engine, clock) for engine in engines], clock)

    for _ in range(3):
        assert_only_these_failed(ran(chain).result(), set())

    assert chain.states()[0].status == "open"


def test_a_request_that_only_the_first_engine_fails_on_is_scored_by_the_next(clock):
    spare = FakeEngine("spare")
    chain = EngineChain([poisoned("first", 2), spare], clock)

    batch = ran(chain).result()

    assert_only_these_failed(batch, set())
    assert spare.calls == [15], "the whole batch, at once"
    assert batch.fallback == "failed"


def test_if_the_last_engine_is_dead_the_one_before_it_finds_the_guilty(clock):
    chain = EngineChain([poisoned("first", 2), dead("spare")], clock)

    batch = ran(chain).result()

    assert_only_these_failed(batch, {2})
    assert not batch.part(SPANS[0]).fallback


def test_dead_engines_are_asked_a_few_times_and_the_batch_counts_once(clock):
    chain = EngineChain([dead("first")], clock)

    run = ran(chain)

    with pytest.raises(EveryEngineFailed, match=r"^first: a fault that was ordered$") as error:
        run.result()
    assert len(error.value.calls) <= 1 + 2 + 3
    assert chain.states()[0].failures_in_a_row == 1
    assert chain.states()[0].status == "failing"


def test_a_job_alone_is_not_asked_for_again(clock):
    chain = EngineChain([dead("first")], clock)

    with pytest.raises(EveryEngineFailed) as error:
        ran(chain, jobs=JOBS[:1]).result()

    assert len(error.value.calls) == 1


GOLDEN_ROWS = random_batch(6, seed=99)


def golden_link(engine, clock):
    scores = FakeEngine.expected(GOLDEN_ROWS)
    return EngineLink(
        engine, golden=Golden(rows=GOLDEN_ROWS, scores=scores, tolerance=1e-6), clock=clock
    )


def with_golden_rows(engine, clock):
    return EngineChain([golden_link(engine, clock)], clock)


def ask_alone(chain, times):
    for _ in range(times):
        with pytest.raises(EveryEngineFailed):
            ran(chain, jobs=JOBS[2:3]).result()


def test_a_poisonous_request_that_is_always_alone_does_not_take_the_engine_from_the_others(clock):
    chain = with_golden_rows(poisoned("first", 2), clock)

    ask_alone(chain, 100)

    assert chain.states()[0].status in ("ready", "failing")
    assert chain.states()[0].opened == 0
    np.testing.assert_array_equal(ran(chain, jobs=JOBS[:1]).result().scores, EXPECTED[0])


def test_golden_rows_are_asked_only_when_the_engine_is_about_to_be_left_alone(clock):
    engine = FakeEngine()
    faulty = FaultyEngine(engine)
    faulty.fail_on(of_jobs(2))
    chain = with_golden_rows(faulty, clock)

    ask_alone(chain, 2)
    assert engine.calls == []
    ask_alone(chain, 1)
    assert engine.calls == [GOLDEN_ROWS.rows]


def test_the_one_innocent_among_many_guilty_is_scored_and_the_engine_stays(clock):
    engine = poisoned("first", 0, 1, 2, 4)
    chain = with_golden_rows(engine, clock)

    for _ in range(50):
        assert_only_these_failed(ran(chain).result(), {0, 1, 2, 4})

    assert (chain.states()[0].status, chain.states()[0].opened) == ("ready", 0)


def test_guilty_requests_that_come_together_do_not_take_the_engine_from_the_others(clock):
    chain = with_golden_rows(poisoned("first", 0, 1), clock)

    for _ in range(50):
        with pytest.raises(EveryEngineFailed):
            ran(chain, jobs=JOBS[:2]).result()

    assert chain.states()[0].opened == 0


@pytest.mark.parametrize("score", [float("nan"), -0.5, 1.5])
def test_rows_that_get_no_probability_do_not_take_the_engine_from_the_others(score, clock):
    engine = FaultyEngine(FakeEngine("first"))
    engine.spoil(of_jobs(0, 2, 4), score)
    chain = with_golden_rows(engine, clock)

    for _ in range(100):
        assert_only_these_failed(ran(chain).result(), {0, 2, 4})
        clock.advance(0.01)

    assert (chain.states()[0].status, chain.states()[0].opened) == ("ready", 0)


def test_an_engine_that_spoils_golden_rows_as_well_is_left_alone(clock):
    engine = FaultyEngine(FakeEngine("first"))
    engine.spoil(lambda batch: np.arange(batch.rows) % 4 != 0)
    chain = with_golden_rows(engine, clock)

    for _ in range(20):
        ran(chain)
        clock.advance(0.01)

    assert (chain.states()[0].status, chain.states()[0].opened) == ("open", 1)


def test_what_each_of_two_engines_fails_on_the_other_one_scores(clock):
    chain = EngineChain([poisoned("first", 1), poisoned("spare", 3)], clock)

    batch = ran(chain).result()

    assert_only_these_failed(batch, set())
    assert batch.part(SPANS[3]).engine.name == "first"


def test_an_engine_that_fails_its_golden_rows_too_is_asked_no_further(clock):
    chain = with_golden_rows(dead("first"), clock)

    run = ran(chain)

    with pytest.raises(EveryEngineFailed) as error:
        run.result()
    assert len(error.value.calls) <= 1 + 2 + 3
    assert chain.states()[0].status == "open"


def test_a_dead_engine_is_left_alone_although_everybody_was_alone(clock):
    chain = with_golden_rows(dead("first"), clock)

    ask_alone(chain, 3)

    assert (chain.states()[0].status, chain.states()[0].opened) == ("open", 1)


def test_an_engine_without_memory_is_left_alone_although_it_has_room_for_golden_rows(clock):
    engine = FaultyEngine(FakeEngine())
    chain = with_golden_rows(engine, clock)
    for _ in range(3):
        engine.refuse_memory(1)
        ask_alone(chain, 1)

    assert chain.states()[0].status == "open"


def test_rows_that_cannot_be_put_together_fail_nobody_who_is_fine(clock):
    odd = FeatureBatch(dense=np.zeros((2, 3), np.float32), ids=np.zeros((2, 2), np.int32))
    chain = EngineChain([FakeEngine()], clock)

    batch = ran(chain, jobs=[JOBS[0], odd, JOBS[1]]).result()

    np.testing.assert_array_equal(batch.part(slice(0, 3)).scores, EXPECTED[0])
    np.testing.assert_array_equal(batch.part(slice(5, 6)).scores, EXPECTED[1])


# --- the breaker, seen from outside ---


def test_an_engine_that_is_left_alone_costs_its_neighbours_no_call(clock):
    first, spare = FakeEngine("first"), FakeEngine("spare")
    faulty = FaultyEngine(first)
    faulty.fail(FOR_EVER)
    chain = EngineChain([faulty, spare], clock)
    for _ in range(3):
        assert ran(chain).result().fallback == "failed"
    faulty.mend()

    batch = ran(chain).result()

    assert batch.fallback == "left_alone"
    assert [call.engine for call in batch.calls] == ["spare"]
    assert first.calls == []


def test_when_everyone_is_left_alone_the_error_says_why(clock):
    chain = EngineChain([dead("first")], clock, EngineSettings(breaker_failures=1))
    ran(chain)

    with pytest.raises(EveryEngineFailed, match="first: left alone: first: a fault") as error:
        ran(chain).result()

    assert error.value.calls == ()


def test_memory_that_is_refused_sends_the_batch_on_and_opens_when_repeated(clock):
    first = FaultyEngine(FakeEngine("first"))
    first.refuse_memory(3)
    chain = EngineChain([first, FakeEngine("spare")], clock)

    batches = [ran(chain).result() for _ in range(4)]

    assert [batch.fallback for batch in batches] == ["memory"] * 3 + ["left_alone"]
    assert batches[0].calls[0].error_type == "OutOfDeviceMemory"
    for batch in batches:
        assert_only_these_failed(batch, set())


def test_inline_a_call_that_took_too_long_keeps_its_scores_and_opens(clock):
    slow = FakeEngine("slow", clock=clock, seconds_per_call=2.5)
    chain = EngineChain([slow, FakeEngine("spare")], clock)

    batch = ran(chain).result()

    assert batch.part(SPANS[0]).engine.name == "slow"
    assert chain.states()[0].status == "open"


# --- an engine that is still on its way ---


def test_the_next_engine_serves_until_the_first_is_there_and_no_batch_is_lost(clock):
    pending, first = EngineLink.pending(FakeEngine("first").info, clock=clock), FakeEngine("first")
    chain = EngineChain([pending, FakeEngine("spare")], clock)
    assert chain.first.name == "first"
    assert [engine.info.name for engine in chain.engines] == ["spare"]

    before = ran(chain).result()
    pending.install(first)
    after = ran(chain).result()

    assert (before.fallback, before.part(SPANS[0]).fallback) == ("loading", True)
    assert (after.fallback, after.part(SPANS[0]).fallback) == (None, False)
    assert first.calls == [15]


def test_a_batch_that_began_before_the_first_engine_was_there_ends_where_it_began(clock):
    pending = EngineLink.pending(FakeEngine("first").info, clock=clock)

    class Installing(FakeEngine):
        def score(self, batch):
            pending.install(FakeEngine("first"))
            return super().score(batch)

    batch = ran(EngineChain([pending, Installing("spare")], clock)).result()

    assert batch.part(SPANS[0]).engine.name == "spare"


@pytest.mark.parametrize("why", ["loading", "refused"])
def test_a_chain_whose_only_engine_is_not_there_says_so(why, clock):
    link = EngineLink.pending(FakeEngine("first").info, clock=clock)
    if why == "refused":
        link.refuse("no memory")

    with pytest.raises(EveryEngineFailed, match=f"first: {why}: ") as error:
        ran(EngineChain([link], clock)).result()

    assert error.value.fallback == why


# --- deadlines ---


def test_nobody_is_asked_again_for_a_job_whose_deadline_has_passed(clock):
    first = FaultyEngine(FakeEngine("first", clock=clock, seconds_per_call=0.05))
    first.spoil(lambda batch: np.full(batch.rows, True))
    spare = FakeEngine("spare")
    deadlines = [clock.now() + (0.04 if job % 2 else 0.06) for job in range(5)]

    batch = ran(EngineChain([first, spare], clock), deadlines).result()

    assert spare.calls == [3 + 4 + 5]
    for job, span in enumerate(SPANS):
        if job % 2:
            with pytest.raises(DeadlineExpired):
                batch.part(span)
        else:
            np.testing.assert_array_equal(batch.part(span).scores, EXPECTED[job])


def test_when_nobody_waits_any_more_no_engine_is_started(clock):
    slow = FaultyEngine(FakeEngine("slow", clock=clock, seconds_per_call=0.05))
    slow.spoil(lambda batch: np.full(batch.rows, True))
    spare = FakeEngine("spare")

    batch = ran(EngineChain([slow, spare], clock), [clock.now() + 0.01] * 5).result()

    assert spare.calls == []
    with pytest.raises(DeadlineExpired):
        batch.part(SPANS[0])


def test_the_guilty_are_sought_only_as_long_as_somebody_waits(clock):
    class Slow(FakeEngine):
        def score(self, batch):
            super().score(batch)
            raise EngineFailed("broken")

    engine = Slow(clock=clock, seconds_per_call=0.02)

    ran(EngineChain([engine], clock), [clock.now() + 0.05] * 5)

    assert len(engine.calls) == 3


def test_a_request_does_not_fail_with_a_guilty_one_that_nobody_waits_for_any_more(clock):
    class Slow(FakeEngine):
        def score(self, batch):
            clock.advance(0.05)
            if of_jobs(0)(batch).any():
                raise EngineFailed("poisoned")
            return super().score(batch)

    link = EngineLink(Slow(), clock=clock)
    deadlines = [clock.now() + 0.01, clock.now() + 1.0]

    batch = ran(EngineChain([link], clock), deadlines, JOBS[:2]).result()

    np.testing.assert_array_equal(batch.part(SPANS[1]).scores, EXPECTED[1])
    assert link.status == "ready"


# --- candidates ---


class Split(FakeEngine):
    """Takes candidates as they are."""

    def score_candidates(self, rows):
        assert isinstance(rows, CandidateRows)
        return self.score(rows.tables.gather(rows))


class GatheredOnce:
    """Stands for the tables of a bundle whose rows are the items' numbers."""

    def __init__(self):
        self.gathered = []

    def gather(self, rows):
        self.gathered.append(rows.rows)
        dense = rows.items[:, None].astype(np.float32)
        return FeatureBatch(dense=dense, ids=np.zeros((rows.rows, 1), np.int32))


def candidates(tables, *items):
    one = FeatureBatch(dense=np.zeros((1, 0), np.float32), ids=np.zeros((1, 0), np.int32))
    return CandidateRows(
        tables=tables,
        users=one,
        contexts=one,
        request_of_row=np.zeros(len(items), np.int32),
        items=np.array(items, np.int32),
    )


def test_candidates_are_gathered_once_however_many_engines_need_them(clock):
    tables = GatheredOnce()
    jobs = [candidates(tables, 1, 2, 3), candidates(tables, 4, 5)]
    chain = EngineChain([dead("first"), dead("second"), FakeEngine("third")], clock)

    batch = ran(chain, jobs=jobs).result()

    assert tables.gathered == [5]
    assert batch.part(slice(0, 5)).engine.name == "third"


def test_an_engine_that_takes_candidates_gets_them_as_they_are(clock):
    tables = GatheredOnce()
    split = FaultyEngine(Split("split"))
    split.spoil(lambda batch: batch.dense[:, 0] == 4)
    spare = FakeEngine("spare")
    jobs = [candidates(tables, 1, 2, 3), candidates(tables, 4, 5)]

    batch = ran(EngineChain([split, spare], clock), jobs=jobs).result()

    assert spare.calls == [1]
    assert batch.part(slice(0, 3)).engine.name == "split"
    np.testing.assert_array_equal(
        batch.scores, FakeEngine.expected(tables.gather(CandidateRows.concatenate(jobs)))
    )


# --- whatever goes wrong ---

FAULTS = st.fixed_dictionaries(
    {
        "guilty": st.dictionaries(st.integers(0, 4), st.sampled_from(["poison", "spoil"])),
        "kind": st.sampled_from(["well", "dead", "short", "memory", "once"]),
    }
)


def engine_with(number, fault):
    engine = FaultyEngine(FakeEngine(f"engine {number}"))
    poison, spoiled = (
        [job for job, how in fault["guilty"].items() if how == one] for one in ("poison", "spoil")
    )
    if poison:
        engine.fail_on(of_jobs(*poison))
    if spoiled:
        engine.spoil(of_jobs(*spoiled))
    match fault["kind"]:
        case "dead":
            engine.fail(FOR_EVER)
        case "short":
            engine.answer_short(FOR_EVER)
        case "memory":
            engine.refuse_memory(FOR_EVER)
        case "once":
            engine.fail(1)
    return engine


@settings(max_examples=150, deadline=None)
@given(st.lists(FAULTS, min_size=1, max_size=3), st.integers(1, 6))
def test_every_row_is_scored_or_failed_and_only_the_guilty_fail(faults, batches):
    clock = FakeClock()
    links = [golden_link(engine_with(n, fault), clock) for n, fault in enumerate(faults)]
    chain = EngineChain(links, clock)
    for _ in range(batches):
        served = [link.serves for link in chain.links]
        run = ran(chain)
        try:
            batch = run.result()
        except EveryEngineFailed:
            batch = None
        for job, span in enumerate(SPANS):
            try:
                if batch is None:
                    raise EngineFailed("nobody")
                scores = batch.part(span).scores
            except EngineFailed:
                # Innocent: an engine that got calls was well, and had nothing against it.
                asked = [f for f, serves in zip(faults, served, strict=True) if serves]
                assert not any(f["kind"] == "well" and job not in f["guilty"] for f in asked)
            else:
                np.testing.assert_array_equal(scores, EXPECTED[job])
        clock.advance(0.01)
