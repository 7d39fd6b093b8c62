"""Timing engines against each other, on a clock that only their calls move."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from service.engines.calibration import sample_of
from service.engines.rows import CandidateRows
from service.errors import EngineFailed
from service.profiling.measuring import LEAST_CALLS, Times, measure, score_rows
from service.testing import FakeClock, FakeEngine


class Race:
    """Engines of one clock, and what was said of the progress."""

    def __init__(self, bundle) -> None:
        self.clock = FakeClock()
        self.sample = sample_of(bundle)
        self.told: list[float] = []

    def engine(self, per_call: float = 1e-4, per_row: float = 1e-6, **options) -> FakeEngine:
        return FakeEngine(
            clock=self.clock, seconds_per_call=per_call, seconds_per_row=per_row, **options
        )

    def run(self, engines: Sequence, sizes: Sequence[int] = (10, 100), seconds: float = 0.5):
        return measure(
            engines,
            sizes,
            sample=self.sample,
            timer=self.clock.now,
            seconds=seconds,
            progress=self.told.append,
        )


@pytest.fixture
def race(tiny_bundle) -> Race:
    return Race(tiny_bundle)


def median(times: Times, place: int, rows: int) -> float:
    return float(np.median(times.calls_s[place, rows]))


def test_every_call_takes_what_its_engine_takes(race):
    times = race.run([race.engine(1e-3, 1e-5), race.engine(2e-3, 1e-6)])

    assert median(times, 0, 10) == pytest.approx(1.1e-3)
    assert median(times, 0, 100) == pytest.approx(2e-3)
    assert median(times, 1, 100) == pytest.approx(2.1e-3)


def test_a_bad_spell_of_the_machine_hits_all_alike(race):
    """Two equal engines: measured one after the other, a spell would make one of them slower."""
    busy = (race.clock.now() + 0.15, race.clock.now() + 0.3)

    class Disturbed(FakeEngine):
        def score(self, batch):
            if busy[0] < race.clock.now() < busy[1]:
                race.clock.advance(5e-3)
            return super().score(batch)

    pair = [Disturbed(clock=race.clock, seconds_per_call=1e-3) for _ in range(2)]
    times = race.run(pair, sizes=(100,))

    slow = [sum(s > 2e-3 for s in times.calls_s[place, 100]) for place in (0, 1)]
    assert min(slow) > 0
    assert max(slow) <= 2 * min(slow)
    assert median(times, 0, 100) == pytest.approx(median(times, 1, 100))


def test_rounds_visit_everybody_in_changing_orders(race):
    engines = [race.engine(name=str(i)) for i in range(3)]
    order: list[str] = []
    for engine in engines:
        score = engine.score
        engine.score = lambda batch, name=engine.info.name, score=score: (  # type: ignore[method-assign]
            order.append(name),
            score(batch),
        )[1]

    times = race.run(engines, sizes=(10,), seconds=0.2)

    visits = [name for name, after in pairwise([*order, ""]) if name != after]
    orders = {tuple(visits[i : i + 3]) for i in range(3, len(visits) - 2, 3)}
    assert times.rounds > 5
    assert len({len(calls) for calls in times.calls_s.values()}) == 1
    assert len(orders) > 1


def test_what_a_call_pays_for_the_other_engine_before_it_is_not_counted(race):
    """The other engine's weights are in the cache then; in the service nobody shares it."""
    last: list[object] = []

    class Cooled(FakeEngine):
        def score(self, batch):
            if last != [self]:
                race.clock.advance(1e-2)
            last[:] = [self]
            return super().score(batch)

    pair = [Cooled(clock=race.clock, seconds_per_call=1e-3) for _ in range(2)]
    times = race.run(pair, sizes=(10,))

    assert [max(calls) for calls in times.calls_s.values()] == pytest.approx([1e-3, 1e-3])


def test_making_the_rows_is_not_counted(race):
    make = race.sample

    def slowly(rows):
        race.clock.advance(1e-3)
        return make(rows)

    race.sample = slowly
    times = race.run([race.engine(1e-4, 0.0)], sizes=(10,))

    assert max(times.calls_s[0, 10]) == pytest.approx(1e-4)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 1.0])
def test_it_ends_in_time(race, seconds):
    times = race.run([race.engine(1e-3), race.engine(3e-3)], seconds=seconds)

    assert times.took_s <= seconds
    assert times.took_s > 0.5 * seconds


def test_one_round_is_finished_however_short_the_time(race):
    times = race.run([race.engine(10.0)], seconds=0.1)

    assert times.rounds == 1
    assert {len(calls) for calls in times.calls_s.values()} == {LEAST_CALLS}


def test_a_size_is_measured_only_where_it_fits(race):
    times = race.run([race.engine(max_batch_rows=64), race.engine()])

    assert set(times.calls_s) == {(0, 10), (1, 10), (1, 100)}


def test_with_no_size_that_fits_nothing_is_measured(race):
    times = race.run([race.engine(max_batch_rows=4)])

    assert (times.calls_s, times.rounds) == ({}, 0)


def test_an_engine_that_fails_leaves_and_the_others_go_on(race):
    class Failing(FakeEngine):
        def score(self, batch):
            if len(self.calls) > 20:
                raise EngineFailed("the device is gone")
            return super().score(batch)

    failing = Failing(clock=race.clock, seconds_per_call=1e-4)
    times = race.run([failing, race.engine()])

    assert times.failed == {0: "the device is gone"}
    assert {place for place, _ in times.calls_s} == {1}
    assert times.rounds > 5


def test_it_ends_when_all_have_failed(race):
    class Broken(FakeEngine):
        def score(self, batch):
            raise EngineFailed("no")

    times = race.run([Broken(), Broken()])

    assert (times.failed, times.calls_s) == ({0: "no", 1: "no"}, {})


def test_scores_that_are_no_probabilities_are_a_failure(race):
    class Wrong(FakeEngine):
        def score(self, batch):
            return np.full(batch.rows, np.nan, np.float32)

    times = race.run([Wrong(clock=race.clock), race.engine()])

    assert times.failed == {0: "a score in a batch of 10 rows is no probability"}


def test_the_progress_rises_to_the_end(race):
    race.run([race.engine(1e-3)])

    assert race.told == sorted(race.told)
    assert race.told[-1] > 0.9
    assert max(race.told) <= 1.0


def test_candidates_are_scored_in_the_form_that_the_engine_wants(race):
    class Splitting(FakeEngine):
        def score_candidates(self, rows):
            self.calls.append(-rows.rows)
            return np.full(rows.rows, 0.5, np.float32)

    rows = race.sample(30)
    splitting, whole = Splitting(), FakeEngine()
    score_rows(splitting, rows)
    score_rows(whole, rows)

    assert isinstance(rows, CandidateRows)
    assert (splitting.calls, whole.calls) == ([-30], [30])
