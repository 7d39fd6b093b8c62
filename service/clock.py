"""Time as a value that can be handed in, so that tests move it by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds on a clock that never jumps: for delays, deadlines and durations."""
        ...

    def wall(self) -> float:
        """Unix seconds: for what is written down or leaves the process."""
        ...


class SystemClock:
    """The machine's own clocks."""

    now = staticmethod(time.monotonic)  # without a call around it: it is read all the time

    def wall(self) -> float:
        return time.time()
