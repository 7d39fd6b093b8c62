"""Golden rows for one engine: is it well, or well again?"""

from service.clock import Clock
from service.engines.golden import Golden
from service.engines.link import Call, EngineLink
from service.errors import EngineFailed, GoldenMismatch


class Check:
    """Asks an engine for the golden scores, once, and lets its link hear how that went.

    An engine that is in use must be asked by the thread that calls it. One that
    is left alone may be asked by any: nobody else calls it.
    """

    def __init__(self, link: EngineLink, golden: Golden, clock: Clock) -> None:
        self._link, self._golden, self._clock = link, golden, clock
        self._begun = False
        self.call: Call | None = None
        """The call under way, for whoever watches that it comes back."""

    def proceed(self) -> bool:
        """Ask. False when the call under way was given up meanwhile."""
        if self._begun:
            return True  # given up: there is nothing to go on with
        self._begun = True
        link = self._link
        self.call = call = link.begin_probe(self._clock.now())
        if call is None:
            return True
        problem: EngineFailed | None = None
        try:
            scores = link.score(call, self._golden.rows)
            self._golden.check(link.info.name, scores)
        except EngineFailed as failure:
            problem = failure
        if not link.end(call):
            return False
        self.call = None
        now = self._clock.now()
        if problem is None:
            link.passed(call, now)
        else:
            link.not_passed(call, str(problem), now, wrong=isinstance(problem, GoldenMismatch))
        return True

    def give_up(self, call: Call, now: float) -> bool:
        """Declare that the call hangs, from another thread; False if it came back just now."""
        if not call.link.give_up(call, now):
            return False
        self.call = None
        return True
