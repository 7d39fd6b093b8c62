"""The best batch size is found in little time, whatever disturbs the measurement."""

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from service.engines.calibration import (
    BESIDE_S,
    NEARLY,
    SIZES,
    best_batch_rows,
    best_call_rows,
    calls,
    sample_of,
    timer_for,
)
from service.engines.rows import CandidateRows, as_features
from service.testing import FakeClock, FakeEngine
from tests.support.batches import random_batch
from tests.support.bundles import write_tiny_bundle


class Machine:
    """An engine whose calls take a time that is told, on a clock that stands still otherwise."""

    def __init__(self, seconds, *, max_batch_rows=4096):
        self.clock = FakeClock()
        self._seconds = seconds
        self._engine = FakeEngine(max_batch_rows=max_batch_rows)
        self.calls = []

    @property
    def info(self):
        return self._engine.info

    def score(self, batch):
        self.calls.append(batch.rows)
        self.clock.advance(self._seconds(batch.rows, self.calls.count(batch.rows)))
        return self._engine.score(batch)

    def close(self):
        """Nothing is held."""

    def best(self, **limits):
        return best_batch_rows(self, random_batch, timer=self.clock.now, **limits)


def leaves_the_cache(rows, best=400, call_s=200e-6):
    """Rows get cheaper up to the best size and dearer beyond it."""
    return call_s + 2e-6 * rows * (1.0 if rows <= best else 2.0)


@pytest.mark.parametrize("best", [200, 400, 800])
def test_it_finds_where_rows_are_cheapest(best):
    machine = Machine(lambda rows, call: leaves_the_cache(rows, best, call_s=400e-6))

    assert machine.best() == best


def test_of_sizes_that_are_nearly_as_good_it_takes_the_smallest():
    machine = Machine(lambda rows, call: 1e-4 + 1e-5 * rows)  # best at 1600, by little

    chosen = machine.best()

    rates = {rows: rows / (BESIDE_S + 1e-4 + 1e-5 * rows) for rows in SIZES}
    assert chosen == min(r for r, rate in rates.items() if rate >= NEARLY * max(rates.values()))
    assert chosen < 1600


def test_what_a_batch_costs_beside_the_call_counts():
    """A call without any fixed cost would be best with the fewest rows."""
    machine = Machine(lambda rows, call: 2e-6 * rows)

    assert machine.best() == 600  # of its 1.3 ms, 6 % are beside the call; of 400 rows' 9 %


def test_calls_that_were_disturbed_do_not_count():
    """Every size but one is disturbed in all of its calls except one, each in another."""

    def seconds(rows, call):
        undisturbed = call == 2 + SIZES.index(rows) % 7 or rows == 50
        return leaves_the_cache(rows) * (1 if undisturbed else 3)

    assert Machine(seconds).best() == 400


def test_it_takes_no_more_time_than_it_is_given():
    machine = Machine(lambda rows, call: 1e-6 * rows)
    started = machine.clock.now()

    machine.best(budget_s=0.02)

    assert machine.clock.now() - started <= 0.02
    assert 1600 in machine.calls


def test_of_a_slow_model_only_the_small_sizes_are_measured():
    machine = Machine(lambda rows, call: 0.5e-3 * rows)

    assert machine.best(budget_s=0.1) in (50, 100)
    assert max(machine.calls) <= 100


def test_a_model_slower_than_the_whole_budget_is_measured_once():
    machine = Machine(lambda rows, call: 1.0 * rows)

    assert machine.best(budget_s=0.1) == 50
    assert machine.calls == [50]


def test_no_call_is_larger_than_the_engine_takes():
    machine = Machine(lambda rows, call: 1e-3, max_batch_rows=250)

    assert machine.best() == 200


def test_an_engine_that_takes_less_than_any_size_is_measured_at_its_limit():
    assert Machine(lambda rows, call: 1e-3, max_batch_rows=8).best() == 8


def test_a_timer_too_coarse_to_see_a_call_does_no_harm():
    assert Machine(lambda rows, call: 0.0).best() in SIZES


def test_one_thread_is_timed_by_its_own_work_several_by_the_wall():
    assert timer_for(1) is not timer_for(2)


@pytest.mark.parametrize("users", [0, 20])
def test_a_sample_has_new_rows_at_every_call(tmp_path, users):
    bundle = Bundle.open(write_tiny_bundle(tmp_path, users=users))
    sample = sample_of(bundle)

    first, second = sample(250), sample(250)

    assert isinstance(first, CandidateRows)
    assert first.rows == 250
    assert first.users.rows == 3
    assert first.items.min() >= 0
    assert not np.array_equal(first.items, second.items)
    assert as_features(first).rows == 250


# --- calls within a batch ---


@pytest.mark.parametrize("rows", [1, 199, 200, 201, 250, 1600])
def test_a_batch_is_cut_into_calls_of_about_the_same_size(rows):
    cut = [*calls(rows, 200)]

    assert [row for call in cut for row in range(rows)[call]] == [*range(rows)]
    sizes = {call.stop - call.start for call in cut}
    assert max(sizes) <= 200
    assert max(sizes) - min(sizes) <= len(cut)


@pytest.mark.parametrize(("best", "found"), [(100, 100), (400, 400), (10_000, 1600)])
def test_it_finds_the_calls_in_which_a_batch_is_cheapest(best, found):
    clock, batches = FakeClock(), []

    def score(batch, call_rows):
        batches.append(batch.rows)
        for call in calls(batch.rows, call_rows):
            clock.advance(leaves_the_cache(call.stop - call.start, best))

    assert best_call_rows(score, random_batch, most=4096, timer=clock.now) == found
    assert {*batches} == {1600}


def test_a_slow_model_is_not_measured_for_long():
    clock = FakeClock()

    def score(batch, call_rows):
        clock.advance(0.05)

    best_call_rows(score, random_batch, most=4096, timer=clock.now)

    assert clock.now() - FakeClock().now() <= 0.5


def test_an_engine_of_small_batches_is_called_once_for_each():
    assert best_call_rows(lambda *_: None, random_batch, most=64, timer=FakeClock().now) == 64
