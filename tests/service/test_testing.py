"""The public hook for faults: what is ordered happens, and nothing else does."""

import threading

import numpy as np
import pytest

from service.engines import valid_scores
from service.engines.rows import CandidateEngine
from service.errors import EngineFailed, OutOfDeviceMemory
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import random_batch

ROWS = random_batch(6)
EXPECTED = FakeEngine.expected(ROWS)


@pytest.fixture
def engine():
    return FaultyEngine(FakeEngine())


def as_expected(engine, rows=ROWS):
    return np.array_equal(engine.score(rows), FakeEngine.expected(rows))


def test_without_orders_it_is_the_engine_itself(engine):
    assert as_expected(engine)
    assert engine.info == FakeEngine().info


@pytest.mark.parametrize(
    ("order", "error"),
    [("fail", EngineFailed), ("refuse_memory", OutOfDeviceMemory)],
)
def test_as_many_calls_fail_as_were_ordered(engine, order, error):
    getattr(engine, order)(2)

    for _ in range(2):
        with pytest.raises(error):
            engine.score(ROWS)
    assert as_expected(engine)


def test_it_fails_for_a_while(engine):
    clock = FakeClock()
    engine.fail_for(3.0, clock)
    clock.advance(2.9)
    with pytest.raises(EngineFailed):
        engine.score(ROWS)

    clock.advance(0.1)

    assert as_expected(engine)


def test_it_fails_only_where_a_given_row_is_present(engine):
    engine.fail_on(lambda batch: batch.dense[:, 0] == ROWS.dense[4, 0])

    assert as_expected(engine, ROWS.take(slice(0, 4)))
    with pytest.raises(EngineFailed):
        engine.score(ROWS.take(slice(4, 5)))
    with pytest.raises(EngineFailed):
        engine.score(ROWS)


def test_distorted_scores_are_wrong_and_still_probabilities(engine):
    engine.distort(0.1)

    scores = engine.score(ROWS)

    np.testing.assert_allclose(abs(scores - EXPECTED), 0.1, atol=1e-6)
    assert valid_scores(scores).all()
    assert scores.dtype == np.float32


def test_spoiled_rows_leave_the_others_as_they_are(engine):
    engine.spoil(lambda batch: batch.dense[:, 0] == ROWS.dense[4, 0], 2.0)

    scores = engine.score(ROWS)

    assert np.flatnonzero(scores != EXPECTED).tolist() == [4]
    assert scores[4] == 2.0


def test_calls_hang_until_they_are_released(engine):
    engine.hang()
    scored = []
    thread = threading.Thread(target=lambda: scored.append(engine.score(ROWS)))
    thread.start()
    assert engine.entered.wait(10)
    assert scored == []

    engine.release()
    thread.join()

    np.testing.assert_array_equal(scored[0], EXPECTED)


def test_mended_it_is_the_engine_itself_again(engine):
    engine.fail(9)
    engine.refuse_memory(9)
    engine.answer_short(9)
    engine.fail_for(9.0, FakeClock())
    engine.fail_on(lambda batch: np.ones(batch.rows, bool))
    engine.spoil(lambda batch: np.ones(batch.rows, bool))
    engine.distort()
    engine.hang()

    engine.mend()

    assert as_expected(engine)


def test_it_takes_candidates_if_the_engine_does_and_fails_them_alike():
    class Split(FakeEngine):
        def score_candidates(self, rows):
            return np.full(rows.rows, 0.25, np.float32)

    engine = FaultyEngine(Split())
    assert isinstance(engine, CandidateEngine)
    assert not isinstance(FaultyEngine(FakeEngine()), CandidateEngine)

    engine.fail()

    with pytest.raises(EngineFailed):
        engine.score_candidates(ROWS)
    assert engine.score_candidates(ROWS).tolist() == [0.25] * 6
