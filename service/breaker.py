"""Leaves something alone that keeps failing, and looks now and then whether it is back.

Pure: time is handed in. A caller asks `admits` before it calls, and reports
`succeeded` or `failed` afterwards. A probe that never reports (its caller was
cancelled) costs nothing: the next one is due an interval later all the same.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Literal

BreakerState = Literal["closed", "open"]

WINDOW = 20
"""Calls over which a failure rate is taken; fewer tell nothing."""


class Breaker:
    """Closed: calls go through. Open, after enough failures in a row: one probe per interval.

    Failures in a row means one after the other. Calls that were under way
    together and fail together count once: a pause of the event loop fails
    every call in flight, and says nothing about what they were calling.

    With a `rate` it also opens when that share of the last 20 calls failed; one
    that failed in part counts by its part.
    """

    def __init__(
        self,
        *,
        failures: int,
        probe_s: float,
        rate: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limit = failures
        self._rate = rate
        self._recent: deque[float] = deque(maxlen=WINDOW)  # the failed share of each call
        self._probe_s = probe_s
        self._jitter = jitter
        self._in_a_row = 0
        self._last_failure_at = float("-inf")
        self._is_open = False
        self.probe_at = float("-inf")
        """When the next probe is due; meaningful while open."""
        self.opened = 0
        """How often it has opened since the start."""

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def failures_in_a_row(self) -> int:
        """0 when the last call went well."""
        return self._in_a_row

    def is_on_the_brink(self, share: float = 1.0) -> bool:
        """Whether one more call of which this share fails would open it; 1: one that fails."""
        if self._is_open:
            return False
        too_often = (
            self._rate is not None
            and len(self._recent) >= WINDOW - 1
            and sum([*self._recent][1 - WINDOW :]) + share >= self._rate * WINDOW
        )
        return too_often or (share == 1.0 and self._in_a_row + 1 >= self._limit)

    @property
    def state(self) -> BreakerState:
        return "open" if self._is_open else "closed"

    def admits(self, now: float) -> bool:
        """Whether a call may be made now; while open this hands out the probe that is due."""
        if not self._is_open:
            return True
        if now < self.probe_at:
            return False
        self._schedule_probe(now)
        return True

    def succeeded(self) -> None:
        """A call that was admitted went well."""
        self._in_a_row = 0
        self._recent.append(0.0)
        if self._is_open:
            self._is_open = False
            self._recent.clear()

    def forgive(self) -> None:
        """What failed of late was not the fault of what was called."""
        self._in_a_row = 0
        self._recent.clear()

    def failed_in_part(self, share: float, now: float) -> bool:
        """A call went well but for this share of it; True if this opened the breaker."""
        self._in_a_row = 0
        self._recent.append(share)
        return not self._is_open and self._too_often() and self.trip(now)

    def failed(self, *, started: float, now: float) -> bool:
        """A call that began at `started` failed; True if this opened the breaker."""
        if started < self._last_failure_at:
            return False
        self._last_failure_at = now
        self._in_a_row += 1
        self._recent.append(1.0)
        too_many = self._in_a_row >= self._limit or self._too_often()
        return not self._is_open and too_many and self.trip(now)

    def _too_often(self) -> bool:
        if self._rate is None or len(self._recent) < WINDOW:
            return False
        return sum(self._recent) >= self._rate * WINDOW

    def trip(self, now: float) -> bool:
        """Open at once, whatever came before."""
        self._is_open = True
        self.opened += 1
        self._schedule_probe(now)
        return True

    def _schedule_probe(self, now: float) -> None:
        # A quarter to either side, so that replicas which lost the same server
        # do not come back to it in step.
        self.probe_at = now + self._probe_s * (0.75 + 0.5 * self._jitter())
