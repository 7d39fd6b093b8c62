"""One computation per key, however many ask for it at once.

The first who asks has it computed, the others join. It belongs to all of them:
who leaves takes nothing from the others, and only when the last one has left
it is called off.
"""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

End = TypeVar("End")

Then = Callable[[End, bool], bool]
"""Told once how it ended, and whether this is the first of those who took it; says whether it was
taken: somebody may be gone and not have left yet."""
Launch = Callable[[Callable[[End], None]], Callable[[], None]]
"""Begins a computation: given whom to tell, on a later turn of the loop, how it ended; gives back
what calls it off."""


class Flights(Generic[End]):
    """What is being computed now. For one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, _Flight[End]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is being computed now."""
        return key in self._under_way

    def __len__(self) -> int:
        return len(self._under_way)

    def join(self, key: Hashable, launch: Launch[End], then: Then[End]) -> "Seat[End]":
        """Wait for the computation that is under way, or begin one.

        Args:
            key: Of what is wanted.
            launch: Begins a computation; not called if one is under way. What it raises comes
                through, and nothing has begun.
            then: Told how it ended, unless its seat was left.
        """
        flight = self._under_way.get(key)
        if flight is None:
            flight = _Flight()
            flight.call_off = launch(partial(self._landed, key, flight))
            self._under_way[key] = flight
        seat = Seat(partial(self._leave, key), then)
        flight.seats[seat] = None
        return seat

    def _landed(self, key: Hashable, flight: "_Flight[End]", end: End) -> None:
        # Some computations go on though they were called off: a client library may lose a
        # cancellation. The next one of this key is not theirs to end.
        if self._under_way.get(key) is not flight:
            return
        del self._under_way[key]
        first = True
        for seat in list(flight.seats):
            try:
                if seat.then(end, first):
                    first = False
            except Exception as error:  # its own fault, and no reason to leave its neighbours out
                context = {"message": "an answer could not be given", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def _leave(self, key: Hashable, seat: "Seat[End]") -> None:
        flight = self._under_way.get(key)
        if flight is None or flight.seats.pop(seat, seat) is seat:
            return  # it has ended, or this seat was in an earlier one
        if not flight.seats:
            del self._under_way[key]
            flight.call_off()


class _Flight(Generic[End]):
    """A computation that is under way."""

    __slots__ = ("call_off", "seats")

    def __init__(self) -> None:
        self.call_off: Callable[[], None] = _nothing
        self.seats: dict[Seat[End], None] = {}  # in the order in which they were taken


class Seat(Generic[End]):
    """A place of somebody who waits."""

    __slots__ = ("_leave", "then")

    def __init__(self, leave: "Callable[[Seat[End]], None]", then: Then[End]) -> None:
        self._leave, self.then = leave, then

    def leave(self) -> None:
        """Wait no longer; `then` is not called any more. Nothing happens if it was."""
        self._leave(self)


def _nothing() -> None: ...
