"""Opens a breaker when so many calls to a server are lost that asking costs more than it gives.

A breaker that counts failures in a row does not open for a server of which
every tenth reply is late or nonsense, and each of those costs a request the
cache timeout or all requests a connection. Pure: time is passed in.
"""

from typing import Final

from service.breaker import Breaker

WITHIN_S: Final = 1.0
SHARE: Final = 0.1
"""Of the calls: a server that loses fewer is worth asking."""


class Losses:
    """Counts calls, a second at a time.

    Calls that were under way together and are lost together are one loss: a
    pause of the event loop, or the end of a connection that many share, says
    nothing about the next call.

    Args:
        breaker: Hears of every call; while it is open, nothing is counted.
        limit: So many losses within a second, if they are a tenth of the calls, are too many.
    """

    def __init__(self, breaker: Breaker, limit: int) -> None:
        self._breaker, self._limit = breaker, limit
        self._since = self._last_at = float("-inf")
        self._answered = self._lost = self._times = 0

    def answered(self) -> None:
        """A call went well."""
        # While open, only who looks closes the breaker.
        if not self._breaker.is_open:
            self._breaker.succeeded()
            self._answered += 1

    def lost(self, *, started: float, now: float) -> bool:
        """A call that began at `started` cost its connection; True if this opened the breaker."""
        if self._breaker.failed(started=started, now=now):
            return True
        return (
            not self._breaker.is_open and self._too_many(started, now) and self._breaker.trip(now)
        )

    def _too_many(self, started: float, now: float) -> bool:
        if now - self._since > WITHIN_S:
            self._since = now
            self._answered = self._lost = self._times = 0
        self._lost += 1
        if started >= self._last_at:
            self._times += 1
            self._last_at = now
        calls = self._lost + self._answered
        return self._times >= self._limit and self._lost >= SHARE * calls
