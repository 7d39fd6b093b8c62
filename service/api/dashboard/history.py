"""The slots of all workers as points, put together once for everybody who watches."""

import asyncio
from collections.abc import Awaitable, Callable

from service.api.dashboard.points import WINDOW_SLOTS, Point, point
from service.api.dashboard.samples import KEPT_SLOTS, Counts, add_up, told

_ASKED_AGAIN = 3
"""Slots that are asked for again: a worker may have been too busy to have them in time."""
_AT_ONCE = 10
"""Points that are made before others have their turn."""

Ask = Callable[[int], Awaitable[list[bytes]]]
"""All workers' slots after a number."""


class History:
    """The newest points. For one event loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._slots: dict[int, dict[str, Counts]] = {}
        self._points: dict[int, Point] = {}
        self._newest: int | None = None

    async def read(self, newest: int) -> dict[int, Point]:
        """Read up to a slot that has ended; the points that are new or others than before."""
        oldest = newest - KEPT_SLOTS + 1
        asked = oldest if self._newest is None else self._newest + 1 - _ASKED_AGAIN
        since = newest
        for answer in await self._ask(max(asked, oldest) - 1):
            worker = told(answer)
            since = min(since, worker.since)
            for slot in worker.slots:
                if oldest <= slot.number <= newest:
                    self._slots.setdefault(slot.number, {})[worker.worker] = slot.counts
        changed = await self._made(range(max(asked, oldest, since), newest + 1))
        self._newest = newest
        for known in (self._slots, self._points):
            for number in [number for number in known if number < oldest]:
                del known[number]
        return changed

    def after(self, number: int | None) -> dict[int, Point]:
        """The points after a slot; None: all of them."""
        return {at: p for at, p in self._points.items() if number is None or at > number}

    def clear(self) -> None:
        """Nobody watches any more; the workers keep their slots."""
        self._slots, self._points, self._newest = {}, {}, None

    async def _made(self, numbers: range) -> dict[int, Point]:
        changed: dict[int, Point] = {}
        for number in numbers:
            made = point(number, self._counts(number, 1), self._counts(number, WINDOW_SLOTS))
            if self._points.get(number) != made:
                self._points[number] = changed[number] = made
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return changed

    def _counts(self, number: int, slots: int) -> Counts:
        """Of a slot and those before it, over all workers."""
        return add_up(
            counts
            for at in range(number - slots + 1, number + 1)
            for counts in self._slots.get(at, {}).values()
        )
