"""Notices that a server has fallen silent, before the calls that wait for it run out of time.

A server that hangs takes the whole cache timeout of every request that comes
until it is given up. But who has answered nobody for half of that time will
hardly answer the next one: from then on nobody else needs to wait.
"""

import asyncio
from collections.abc import Callable
from typing import Final

STEPS: Final = 8
"""Parts of the cache timeout; each counts once however long the event loop took to come round,
for the reasons that `patience` gives."""
SILENT: Final = 4
"""So many parts without any answer, while somebody waits, are silence."""


class Lookout:
    """Told of each call's begin and end. For one event loop; costs a timer while calls wait.

    Args:
        timeout_s: Of a call.
        fell_silent: Called once per silence.
    """

    def __init__(self, timeout_s: float, fell_silent: Callable[[], None]) -> None:
        self._step_s = timeout_s / STEPS
        self._fell_silent = fell_silent
        self._waiting = self._silent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begins(self) -> None:
        """A call goes out."""
        self._waiting += 1
        if self._timer is None:
            self._start()

    def ends(self, *, answered: bool) -> None:
        """It came back, was cut off, or its caller went away."""
        self._waiting -= 1
        if answered:
            self._silent = 0

    def _start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._step_s, self._step)

    def _step(self) -> None:
        self._timer = None
        if not self._waiting:
            self._silent = 0
            return
        self._silent += 1
        self._start()
        if self._silent == SILENT:
            self._fell_silent()
