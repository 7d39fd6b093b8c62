"""What a plain ranking counts: the figures of `Exchange` and `Ranking`, in one object.

Neither traced nor part of an experiment, it adds to the same few series as the
one before it, so those are looked up once.
"""

from typing import Final

from service.telemetry import names
from service.telemetry.instruments import Instruments
from service.telemetry.tallies import Spread

METHOD: Final = "POST"
_ANSWERED: Final = "200"
_OUTCOME: Final[names.Outcome] = "ok"
_CACHE: Final = "bypass"


class PlainCounts:
    """The series of plain rankings of one scheme and surface. For the event loop's thread.

    Args:
        to: All metrics.
        scheme: Of the URL.
        route: Of the request.
        surface: As a label.
    """

    __slots__ = ("_active", "_durations", "_inflight", "_surface", "_to", "_where")

    def __init__(self, to: Instruments, scheme: str, route: str, surface: str) -> None:
        self._to, self._surface = to, surface
        self._active, self._inflight = to.http_active[METHOD, scheme], to.inflight
        self._where = METHOD, scheme, route, _ANSWERED
        self._durations: tuple[Spread, Spread] | None = None  # shown from the first answer on

    def began(self) -> None:
        """A request is admitted."""
        self._active.value += 1.0
        self._inflight.value += 1.0

    def left(self) -> None:
        """It is plain no more: it goes on with an `Exchange` and a `Ranking`, which count it."""
        self._active.value -= 1.0
        self._inflight.value -= 1.0

    def ended(self, engine: str, ranking_s: float, http_s: float) -> None:
        """Its slate, by an engine, is on its way: so long after the request was taken, and so
        long after it was read."""
        self._active.value -= 1.0
        self._inflight.value -= 1.0
        to, durations = self._to, self._durations
        if durations is None:
            durations = to.request_seconds[names.NONE, _CACHE], to.http_seconds[self._where]
            self._durations = durations
        to.cache[_CACHE,].value += 1.0
        to.requests[self._surface, names.NONE, engine, _OUTCOME].value += 1.0
        durations[0].observe(ranking_s)
        durations[1].observe(http_s)
