"""What the chain of engines promises when some of them fail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engines import are_valid, valid_scores
from service.engines.chain import EngineChain
from service.engines.state import total
from service.errors import EngineFailed
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import random_batch

BATCH = random_batch(6)
EXPECTED = FakeEngine.expected(BATCH)
ALL = slice(0, 6)


def chain_of(*engines):
    return EngineChain(engines, FakeClock())


def spoiled(name, rows, score=float("nan")):
    """An engine that gives some rows of BATCH a score that is none."""
    engine = FaultyEngine(FakeEngine(name))
    engine.spoil(lambda batch: np.isin(batch.dense[:, 0], BATCH.dense[rows, 0]), score)
    return engine


def failing(name):
    engine = FaultyEngine(FakeEngine(name))
    engine.fail(calls=10**9)
    return engine


def test_the_first_engine_scores_and_the_others_rest():
    spare = FakeEngine("spare")

    scored = chain_of(FakeEngine("first"), spare).score(BATCH).part(ALL)

    np.testing.assert_array_equal(scored.scores, EXPECTED)
    assert (scored.engine.name, scored.fallback) == ("first", False)
    assert spare.calls == []


@pytest.mark.parametrize("fault", ["fails", "answers short", "raises something else"])
def test_a_failed_call_is_scored_by_the_next_engine_in_the_same_call(fault):
    first = FaultyEngine(FakeEngine("first"))
    if fault == "fails":
        first.fail()
    elif fault == "answers short":
        first.answer_short()
    else:
        first.spoil(lambda batch: np.zeros((2, 3, 4), bool))  # raises ValueError inside
    chain = chain_of(first, FakeEngine("spare"))

    scored = chain.score(BATCH).part(ALL)

    np.testing.assert_array_equal(scored.scores, EXPECTED)
    assert (scored.engine.name, scored.fallback) == ("spare", True)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf"), -0.001, 1.001])
def test_rows_without_a_probability_are_scored_again_and_alone(score):
    spare, idle = FakeEngine("spare"), FakeEngine("idle")

    batch = chain_of(spoiled("first", [1, 4], score), spare, idle).score(BATCH)

    np.testing.assert_array_equal(batch.scores, EXPECTED)
    assert spare.calls == [2]
    assert idle.calls == []
    assert [call.engine for call in batch.calls] == ["first", "spare"]


def test_each_job_is_told_only_of_the_engines_that_its_own_rows_needed():
    batch = chain_of(spoiled("first", [4]), FakeEngine("spare")).score(BATCH)

    untouched, rescued = batch.part(slice(0, 3)), batch.part(slice(3, 6))

    assert (untouched.engine.name, untouched.fallback) == ("first", False)
    assert (rescued.engine.name, rescued.fallback) == ("spare", True)


def test_rows_go_down_the_chain_until_someone_scores_them():
    chain = chain_of(
        spoiled("first", [1, 4]),
        failing("second"),
        spoiled("third", [4]),
        last := FakeEngine("last"),
    )

    batch = chain.score(BATCH)

    np.testing.assert_array_equal(batch.scores, EXPECTED)
    assert [batch.part(slice(row, row + 1)).engine.name for row in (0, 1, 4)] == [
        "first",
        "third",
        "last",
    ]
    assert last.calls == [1]


def test_a_row_that_nobody_can_score_fails_its_own_job_and_no_other():
    batch = chain_of(spoiled("first", [4]), spoiled("spare", [4])).score(BATCH)

    np.testing.assert_array_equal(batch.part(slice(0, 4)).scores, EXPECTED[:4])
    with pytest.raises(EngineFailed, match=r"first: 1 of 6 .*; spare: 1 of 1 "):
        batch.part(slice(3, 6))


def test_when_all_fail_the_error_has_everyones_reason():
    short = FaultyEngine(FakeEngine("short"))
    short.answer_short()
    chain = chain_of(failing("first"), short, spoiled("wild", [0, 1, 2, 3, 4, 5]))

    with pytest.raises(EngineFailed) as error:
        chain.score(BATCH)

    assert str(error.value) == (
        "first: a fault that was ordered; "
        "short: 6 rows gave scores of shape (5,); "
        "wild: 6 of 6 scores are not in [0, 1]"
    )


def test_every_attempt_is_reported_with_its_rows_time_and_error():
    clock = FakeClock()
    slow = FakeEngine("slow", clock=clock, seconds_per_row=0.001)
    chain = EngineChain([failing("first"), spoiled("second", [3]), slow], clock)

    calls = chain.score(BATCH).calls

    assert [(c.engine, c.rows, c.error_type) for c in calls] == [
        ("first", 6, "EngineFailed"),
        ("second", 6, None),
        ("slow", 1, None),
    ]
    assert calls[2].finished_at - calls[2].started_at == pytest.approx(0.001)


def test_a_call_that_gives_no_probability_at_all_is_reported_as_an_error():
    calls = chain_of(spoiled("wild", range(6)), FakeEngine("spare")).score(BATCH).calls

    assert [call.error_type for call in calls] == ["invalid_scores", None]


def test_the_state_tells_what_each_engine_has_done():
    first = spoiled("first", [4])
    chain = chain_of(first, FakeEngine("spare"))
    chain.score(BATCH)
    first.fail()
    chain.score(BATCH)

    one, other = chain.states()

    assert (one.calls, one.rows, one.failed_calls, one.invalid_rows) == (2, 5, 1, 1)
    assert one.failures_in_a_row == 1
    assert one.last_error == "first: a fault that was ordered"
    assert (other.calls, other.rows, other.failed_calls, other.last_error) == (2, 7, 0, None)


def test_an_engine_that_works_again_has_no_failures_in_a_row():
    first = FaultyEngine(FakeEngine("first"))
    chain = chain_of(first, FakeEngine("spare"))
    first.fail(2)
    for _ in range(3):
        chain.score(BATCH)

    state = chain.states()[0]

    assert (state.failed_calls, state.failures_in_a_row) == (2, 0)


def test_instances_of_one_chain_are_added_up():
    chains = [chain_of(FakeEngine("first"), FakeEngine("spare")) for _ in range(2)]
    for chain in (*chains, chains[0]):
        chain.score(BATCH)

    first, spare = total(chain.states() for chain in chains)

    assert (first.calls, first.rows) == (3, 18)
    assert spare.calls == 0


def test_an_engine_is_as_its_worst_instance_is():
    well, other = chain_of(FakeEngine("first")), chain_of(failing("first"))
    for _ in range(3):
        with pytest.raises(EngineFailed):
            other.score(BATCH)

    (first,) = total(chain.states() for chain in (well, other))

    assert (first.status, first.opened) == ("open", 1)
    assert first.problem == "first: a fault that was ordered"


def test_batches_fit_the_engine_that_serves_now_and_the_others_get_cuts():
    large, small = (
        FaultyEngine(FakeEngine("large", max_batch_rows=500)),
        FakeEngine("small", max_batch_rows=100, best_batch_rows=64),
    )
    chain = chain_of(large, small)
    assert (chain.max_batch_rows, chain.best_batch_rows) == (500, 500)
    large.fail(3)

    for _ in range(3):
        chain.score(random_batch(250))

    assert small.calls == [100, 100, 50] * 3
    assert chain.states()[0].status == "open"
    assert (chain.max_batch_rows, chain.best_batch_rows) == (100, 64)


def test_a_chain_needs_an_engine():
    with pytest.raises(ValueError, match="at least one engine"):
        chain_of()


def test_probabilities_include_both_ends():
    scores = np.array([0.0, 1.0, 0.5, -1e-9, 1.0000001, np.nan, np.inf], np.float32)

    assert valid_scores(scores).tolist() == [True, True, True, False, False, False, False]


SCORES = st.lists(st.floats(width=32) | st.floats(0, 1, width=32), min_size=1, max_size=9)


@given(SCORES)
def test_whether_all_are_probabilities_shows_at_a_glance(given):
    scores = np.array(given, np.float32)

    assert are_valid(scores) <= valid_scores(scores).all()
    assert are_valid(scores) or not valid_scores(scores).all() or np.signbit(scores).any()


def test_a_negative_zero_is_a_probability():
    class Zero(FakeEngine):
        def score(self, batch):
            return np.full(batch.rows, -0.0, np.float32)

    batch = chain_of(Zero()).score(random_batch(3))

    assert (batch.scores == 0).all()
    assert batch.calls[0].error_type is None
