"""When to go on: no faster than asked, and after whoever waits for an answer."""

import asyncio
from collections.abc import Callable

from service.clock import Clock

BUSY_TURN_S = 0.005
"""A turn of the event loop that takes longer is work for others: requests are being answered."""
_LOOK_AGAIN_S = 0.005


class Pace:
    """Paces one call's work. For one event loop.

    Args:
        rate_per_s: The most steps per second; None for no limit.
        waiting_rows: How many rows of anybody wait for an engine.
        clock: Ours.
        ends_at: When the call is to be over.
    """

    def __init__(
        self,
        rate_per_s: float | None,
        waiting_rows: Callable[[], int],
        clock: Clock,
        ends_at: float,
    ) -> None:
        self._step_s = 0.0 if rate_per_s is None else 1 / rate_per_s
        self._waiting_rows, self._clock, self._ends_at = waiting_rows, clock, ends_at
        self._next_at = clock.now()
        self.waited_s = 0.0
        """Time left to live traffic."""

    async def turn(self, steps: int) -> bool:
        """Wait until it is our turn to do so many steps; False: the call's time is over first."""
        now = self._clock.now()
        if self._next_at >= self._ends_at or now >= self._ends_at:
            return False
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)
        if not await self._quiet():
            return False
        # From now on and not from when it could have been: a pause is not made up for at once.
        self._next_at = max(self._next_at, self._clock.now() - self._step_s) + steps * self._step_s
        return True

    async def _quiet(self) -> bool:
        began = self._clock.now()
        while not await self._is_quiet():
            if self._clock.now() >= self._ends_at:
                self.waited_s += self._clock.now() - began
                return False
            await asyncio.sleep(_LOOK_AGAIN_S)
        self.waited_s += self._clock.now() - began
        return True

    async def _is_quiet(self) -> bool:
        if self._waiting_rows():
            return False
        began = self._clock.now()
        await asyncio.sleep(0)
        return self._clock.now() - began < BUSY_TURN_S and not self._waiting_rows()
