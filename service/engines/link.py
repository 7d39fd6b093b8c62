"""One place of a chain: an engine, what it has done, and whether it gets calls.

A link may be made before its engine is loaded, and its engine may be put in or
taken out from any thread while others score: each takes effect at the next call.
"""

import logging
import threading
from typing import cast

import numpy as np
from msgspec import Struct

from ranking_models.schema import Float32
from service.breaker import Breaker
from service.clock import Clock, SystemClock
from service.engines import Engine, EngineInfo
from service.engines.golden import Golden
from service.engines.rows import CandidateEngine, CandidateRows, Rows
from service.engines.state import EngineState
from service.errors import EngineFailed
from service.messages import EngineStatus
from service.settings import EngineSettings

IN_USE: tuple[EngineStatus, ...] = ("ready", "failing")
"""What gets calls; everything else is passed by."""
PROBED_AT_ONCE_AFTER = 10
"""An engine that was not left alone for so many probe intervals is first probed at once."""
LEFT_ALONE: tuple[EngineStatus, ...] = ("open", "hung", "refused")

_log = logging.getLogger(__name__)


class Call(Struct, frozen=True, eq=False):
    """One call of an engine that is under way. Two calls are never equal."""

    link: "EngineLink"
    engine: Engine
    info: EngineInfo
    started_at: float
    takes_candidates: bool
    """Whether the engine wants candidates as they are, not gathered."""

    def ask(self, rows: Rows) -> Float32:
        """The engine's own answer to rows in the form that it takes."""
        if isinstance(rows, CandidateRows):
            return cast(CandidateEngine, self.engine).score_candidates(rows)
        return self.engine.score(rows)


class EngineLink:
    """An engine with its circuit breaker.

    Whoever calls the engine says so with `begin` and `end`; a call that does not
    come back can be given up from another thread meanwhile. One thread at a time
    may call; all else is safe from any thread.

    Args:
        engine: Loaded and proved; or the description of one that is still to come.
        golden: What shows that it is well again; without it, the deployment's
            golden rows do, whatever probabilities they get.
        settings: When it is left alone.
        clock: Where times for people come from.
    """

    def __init__(
        self,
        engine: Engine | EngineInfo,
        *,
        golden: Golden | None = None,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.golden = golden
        self.info: EngineInfo
        """Of the engine that is there, or is to come."""
        self._settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._calls = self._rows = self._failed_calls = self._invalid_rows = self._opened = 0
        self._last_error: str | None = None
        self._calling: list[Call] = []
        self._hanging: list[Call] = []
        self._probing: Call | None = None
        self._opened_at = float("-inf")
        self._absence: EngineStatus = "loading"  # while there is no engine
        self._status: EngineStatus = "loading"
        self._since = self._clock.wall()
        self._breaker = self._closed_breaker()
        self._engine: Engine | None = None
        self._serving: Engine | None = None
        self._takes_candidates = False
        self.checked_at = self._clock.now()
        """When golden rows last showed that the engine is right; loading proves it too."""
        self.found_wrong = 0
        """How often golden rows got wrong scores after they had been right: what it has scored in
        between may be wrong as well."""
        self._was_right = True
        if isinstance(engine, EngineInfo):
            self.info = engine
        else:
            self.install(engine)

    @classmethod
    def pending(
        cls,
        info: EngineInfo,
        *,
        golden: Golden | None = None,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
    ) -> "EngineLink":
        """A link whose engine is still being loaded: calls pass it by."""
        return cls(info, golden=golden, settings=settings, clock=clock)

    # --- putting engines in and taking them out -------------------------------------

    def install(self, engine: Engine) -> Engine | None:
        """Take over at the next call, with a breaker that has forgotten everything.

        Returns:
            The engine that was there; it may be closed when it `is_calling` no more.
        """
        with self._lock:
            former, self._engine = self._engine, engine
            self.info = engine.info
            self._takes_candidates = isinstance(engine, CandidateEngine)
            self._opened += self._breaker.opened
            self._breaker = self._closed_breaker()
            self._probing = None
            self._last_error = None
            self.checked_at = self._clock.now()
            self._was_right = True
            self._refresh()
        return former

    def refuse(self, reason: str) -> None:
        """There is no engine and none is coming, such as for want of memory."""
        with self._lock:
            self._engine, self._absence, self._last_error = None, "refused", reason
            self._refresh()

    def retire(self) -> Engine | None:
        """Take the engine out: no later call reaches it; until the next one the link is loading.

        Returns:
            The engine; it may be closed when it `is_calling` no more.
        """
        with self._lock:
            former, self._engine, self._absence = self._engine, None, "loading"
            self._refresh()
        return former

    def is_calling(self, engine: Engine) -> bool:
        """Whether a call of this engine is under way, one that was given up included."""
        with self._lock:
            return any(call.engine is engine for call in self._calling)

    # --- what it is ------------------------------------------------------------------

    @property
    def engine(self) -> Engine | None:
        return self._engine

    @property
    def status(self) -> EngineStatus:
        return self._status

    @property
    def serves(self) -> bool:
        """Whether the next call would reach an engine."""
        return self._serving is not None

    def is_on_the_brink(self, share: float = 1.0) -> bool:
        """Whether one more call of which this share fails would take it out of use."""
        return self._breaker.is_on_the_brink(share)

    @property
    def state(self) -> EngineState:
        return EngineState(
            engine=self.info,
            status=self._status,
            since=self._since,
            opened=self._opened + self._breaker.opened,
            calls=self._calls,
            rows=self._rows,
            failed_calls=self._failed_calls,
            invalid_rows=self._invalid_rows,
            failures_in_a_row=self._breaker.failures_in_a_row,
            last_error=self._last_error,
        )

    # --- calls -----------------------------------------------------------------------

    def begin(self, now: float) -> Call | None:
        """Before a call; None while the link is to be passed by."""
        with self._lock:
            engine = self._serving
            if engine is None:
                return None
            call = Call(self, engine, self.info, now, self._takes_candidates)
            self._calling.append(call)
        return call

    def begin_probe(self, now: float) -> Call | None:
        """Before golden rows are asked of it, in use or not; None if nothing could be learnt."""
        with self._lock:
            engine = self._engine
            if engine is None or any(call.engine is engine for call in self._calling):
                return None
            call = Call(self, engine, self.info, now, self._takes_candidates)
            self._calling.append(call)
            if self._serving is None:
                self._probing = call
                self._refresh()
        return call

    def end(self, call: Call) -> bool:
        """After a call, however it went. False: it was given up, and its scores come too late."""
        with self._lock:
            self._calling.remove(call)
            if call is self._probing:
                self._probing = None
            if call not in self._hanging:
                return True
            self._hanging.remove(call)
            self._refresh()
            return False

    def give_up(self, call: Call, now: float) -> bool:
        """Count on a call no more, if it is still under way; its engine gets no other meanwhile."""
        with self._lock:
            if call not in self._calling or call in self._hanging:
                return False
            self._hanging.append(call)
            if call.engine is self._engine:
                self._leave_alone(f"{self.info.name}: {_overrun(now - call.started_at)}", now)
        return True

    def score(self, call: Call, rows: Rows) -> Float32:
        """Ask the engine of a call that has begun.

        Rows that do not fit its `max_batch_rows` are asked for one cut after another.

        Raises:
            EngineFailed: it failed, or gave no score per row; the text names the engine.
        """
        info, count = call.info, rows.rows
        try:
            if count <= info.max_batch_rows:
                scores = call.ask(rows)
            else:
                scores = _scores_of_cuts(call, rows, info.max_batch_rows)
        except (KeyboardInterrupt, SystemExit):
            raise  # the end of the process, and no fault of the engine
        except BaseException as error:
            # Whatever an engine raises, panics of native code included: the next one may still
            # answer these users.
            reason = str(error) if isinstance(error, EngineFailed) else repr(error)
            raise EngineFailed(f"{info.name}: {reason}") from error
        if getattr(scores, "shape", None) != (count,) or scores.dtype != np.float32:
            raise EngineFailed(f"{info.name}: {count} rows gave {_described(scores)}")
        return scores

    # --- how calls went --------------------------------------------------------------

    def scored(self, rows: int, invalid: int) -> None:
        """A call gave probabilities, but for some rows maybe: whose fault says `blame_in_part`."""
        self._calls += 1
        self._rows += rows - invalid
        if not invalid:
            self._breaker.succeeded()
            if self._status != "ready":
                with self._lock:
                    self._refresh()
            return
        with self._lock:
            self._invalid_rows += invalid
            self._last_error = spoiled(self.info, rows, invalid)

    def failed(self, reason: str, *, invalid: int = 0) -> None:
        """A call gave no probability at all; who is to blame is said later, by `blame`.

        Args:
            reason: For people.
            invalid: How many scores it gave that are none; 0 if it gave no scores.
        """
        with self._lock:
            self._calls += 1
            self._failed_calls += not invalid
            self._invalid_rows += invalid
            self._last_error = reason

    def blame(self, *, started: float, now: float) -> None:
        """Count a failed call against the engine: no request is known to be the cause."""
        with self._lock:
            self._note_opening(self._breaker.failed(started=started, now=now), now)
            self._refresh()

    def blame_in_part(self, share: float, now: float) -> None:
        """Count a call against the engine that gave this share of its rows no probability."""
        with self._lock:
            self._note_opening(self._breaker.failed_in_part(share, now), now)
            self._refresh()

    def forgive(self) -> None:
        """Golden rows showed that the requests are to blame for what failed of late."""
        with self._lock:
            self._breaker.forgive()
            self._refresh()

    def overran(self, seconds: float, now: float) -> None:
        """A call came back, but so late that the next one must not wait for the same."""
        with self._lock:
            self._leave_alone(f"{self.info.name}: {_overrun(seconds)}", now)

    # --- golden rows -----------------------------------------------------------------

    def probe_is_due(self, now: float) -> bool:
        """Whether a left alone engine should be asked now; says so once per interval."""
        with self._lock:
            return self._status == "open" and self._breaker.admits(now)

    def passed(self, call: Call, now: float) -> None:
        """Golden rows got their scores: back into use, unless another engine is there by now."""
        with self._lock:
            if call.engine is self._engine:
                self.checked_at = now
                self._was_right = True
                self._breaker.succeeded()
                self._refresh()

    def not_passed(self, call: Call, reason: str, now: float, *, wrong: bool) -> None:
        """Golden rows got wrong scores, or none: it is left alone until it passes."""
        with self._lock:
            if call.engine is self._engine:
                if wrong and self._was_right:
                    self._was_right = False
                    self.found_wrong += 1
                self._leave_alone(reason, now)

    # --- inside ----------------------------------------------------------------------

    def _note_opening(self, opened: bool, now: float) -> None:
        if not opened:
            return
        # What failed may be the requests and not the engine, and golden rows tell. But one that
        # passes and fails again gets a pause: golden rows are not all that it has to score.
        quiet_s = PROBED_AT_ONCE_AFTER * self._settings.breaker_probe_s
        if now - self._opened_at > quiet_s:
            self._breaker.probe_at = now
        self._opened_at = now

    def _leave_alone(self, reason: str, now: float) -> None:
        self._last_error = reason
        if not self._breaker.is_open:
            self._breaker.trip(now)
        self._refresh()

    def _refresh(self) -> None:
        """Find the status anew. The lock is held."""
        status = self._current_status()
        self._serving = self._engine if status in IN_USE else None
        if status == self._status:
            return
        if status in LEFT_ALONE and self._status != "probing":
            _log.warning("engine %s is %s: %s", self.info.name, status, self._last_error)
        elif status == "ready" and self._status in (*LEFT_ALONE, "probing"):
            _log.info("engine %s is ready again", self.info.name)
        self._status, self._since = status, self._clock.wall()

    def _current_status(self) -> EngineStatus:
        if self._engine is None:
            return self._absence
        if any(call.engine is self._engine for call in self._hanging):
            return "hung"
        if self._probing is not None:
            return "probing"
        if self._breaker.is_open:
            return "open"
        return "failing" if self._breaker.failures_in_a_row else "ready"

    def _closed_breaker(self) -> Breaker:
        return Breaker(
            failures=self._settings.breaker_failures,
            rate=self._settings.breaker_rate,
            probe_s=self._settings.breaker_probe_s,
        )


def spoiled(engine: EngineInfo, rows: int, invalid: int) -> str:
    return f"{engine.name}: {invalid} of {rows} scores are not in [0, 1]"


def _described(answer: object) -> str:
    """An answer that is not what was asked for."""
    if not isinstance(answer, np.ndarray):
        return f"{type(answer).__name__} as scores"
    type_ = "" if answer.dtype == np.float32 else f"{answer.dtype} "
    return f"{type_}scores of shape {answer.shape}"


def _overrun(seconds: float) -> str:
    return f"a call took {seconds:.3g} s, which is too long"


def _scores_of_cuts(call: Call, rows: Rows, most: int) -> Float32:
    cuts = [slice(first, first + most) for first in range(0, rows.rows, most)]
    return np.concatenate([call.ask(rows.take(cut)) for cut in cuts])
