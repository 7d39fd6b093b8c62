"""One computation for all who ask; each leaves when it likes."""

import asyncio

import pytest

from service.cache.flights import Flights


class Computation:
    """A computation that ends when a test says so."""

    def __init__(self):
        self.began = self.called_off = 0

    def launch(self, tell):
        self.began += 1
        self.tell = tell
        return self._off

    def _off(self):
        self.called_off += 1


@pytest.fixture
def computation():
    return Computation()


def takes(told, name="x"):
    def then(end, first):
        told.append((name, end, first))
        return True

    return then


def test_who_asks_while_it_is_computed_joins_and_all_are_told_once(computation):
    flights, told = Flights(), []
    for name in "abc":
        flights.join("k", computation.launch, takes(told, name))
    assert "k" in flights

    computation.tell("end")

    assert computation.began == 1
    assert told == [("a", "end", True), ("b", "end", False), ("c", "end", False)]
    assert "k" not in flights
    assert len(flights) == 0


def test_after_the_end_the_next_one_begins_anew(computation):
    flights, told = Flights(), []
    flights.join("k", computation.launch, takes(told))
    computation.tell("one")

    flights.join("k", computation.launch, takes(told))

    assert computation.began == 2


def test_other_keys_are_other_computations(computation):
    flights, told = Flights(), []

    flights.join("k", computation.launch, takes(told))
    flights.join("l", computation.launch, takes(told))

    assert computation.began == 2


def test_who_left_is_not_told_and_the_others_are(computation):
    flights, told = Flights(), []
    seat = flights.join("k", computation.launch, takes(told, "a"))
    flights.join("k", computation.launch, takes(told, "b"))

    seat.leave()
    seat.leave()
    computation.tell("end")

    assert told == [("b", "end", True)]
    assert computation.called_off == 0


def test_the_last_who_leaves_calls_it_off(computation):
    flights, told = Flights(), []
    seats = [flights.join("k", computation.launch, takes(told)) for _ in range(2)]
    for seat in seats:
        seat.leave()

    assert computation.called_off == 1
    assert "k" not in flights


def test_a_seat_of_an_earlier_computation_leaves_nothing_of_the_next_one(computation):
    flights, told = Flights(), []
    seat = flights.join("k", computation.launch, takes(told))
    computation.tell("one")
    flights.join("k", computation.launch, takes(told))

    seat.leave()

    assert "k" in flights
    assert computation.called_off == 0


def test_the_first_is_the_first_who_took_it(computation):
    flights, told = Flights(), []
    flights.join("k", computation.launch, lambda end, first: False)
    flights.join("k", computation.launch, takes(told))

    computation.tell("end")

    assert told == [("x", "end", True)]


def test_a_refusal_comes_through_and_leaves_nothing_under_way():
    flights = Flights()

    def refuse(tell):
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        flights.join("k", refuse, takes([]))

    assert "k" not in flights


async def test_one_who_cannot_be_told_keeps_nobody_else_waiting(computation):
    flights, told, said = Flights(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

    def broken(end, first):
        raise ValueError("broken")

    flights.join("k", computation.launch, broken)
    flights.join("k", computation.launch, takes(told))
    computation.tell("end")

    assert told == [("x", "end", True)]
    assert str(said[0]["exception"]) == "broken"


def test_what_was_called_off_and_went_on_ends_no_later_computation(computation):
    """redis-py can lose the cancellation of who asks other processes first."""
    flights, told = Flights(), []
    flights.join("k", computation.launch, takes(told, "gone")).leave()
    of_the_first = computation.tell
    flights.join("k", computation.launch, takes(told, "here"))

    of_the_first("late")
    assert told == []
    computation.tell("end")

    assert told == [("here", "end", True)]
    assert len(flights) == 0
