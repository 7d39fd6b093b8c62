"""One batch on its way down a chain of engines.

All that the way depends on is kept here and not on a thread's stack: when a
call hangs, another thread goes on with the same run where it stands, and the
thread that comes back from the call at last finds that it has been left behind.
"""

from collections.abc import Sequence

import numpy as np

from ranking_models.schema import Float32
from service.clock import Clock
from service.engines import are_valid, valid_scores
from service.engines.blame import Blame
from service.engines.check import Check
from service.engines.link import Call, EngineLink, spoiled
from service.engines.parts import Indexes, Parts
from service.engines.progress import Progress
from service.engines.rows import Rows
from service.engines.scored import EveryEngineFailed, Places, ScoredBatch
from service.errors import EngineFailed, OutOfDeviceMemory
from service.telemetry import BatchTrace, EngineCall, FallbackReason, in_batch

INVALID_SCORES = "invalid_scores"
"""Error type of a call that gave no probability at all."""
HUNG = "hung"
"""Error type of a call that did not come back in time."""


class Run:
    """Scores a batch: first engine by engine, then, where all failed, half by half.

    Args:
        links: The chain, in order.
        jobs: The rows, job by job.
        deadlines: Per job, when nobody waits for it any more; None: all are waited for.
        clock: Of the deadlines.
        max_execution_s: A call that took longer opens its engine's breaker.
    """

    def __init__(
        self,
        links: Sequence[EngineLink],
        jobs: Parts,
        deadlines: Sequence[float] | None,
        clock: Clock,
        max_execution_s: float,
    ) -> None:
        self._links, self._jobs, self._deadlines = links, jobs, deadlines
        self._clock, self._max_execution_s = clock, max_execution_s
        self._call: Call | None = None
        self._check: Check | None = None  # while golden rows are asked for
        self.trace: BatchTrace | None = None
        """Of the batch, for what an engine asks another server for."""
        self._asked: Indexes | None = None  # the rows of that call; None: all
        self._next_place = 0
        self._scored: ScoredBatch | None = None  # by one engine, all of it, in one call
        self._progress: Progress | None = None  # while rows have to be told apart
        self._blame: Blame | None = None  # once something went wrong
        self._calls: list[EngineCall] = []

    @property
    def call(self) -> Call | None:
        """The call under way, for whoever watches that it comes back."""
        check = self._check
        return self._call if check is None else check.call

    def proceed(self) -> bool:
        """Go on until there is nothing left to ask.

        Returns:
            False when the call under way was given up: this run is another thread's by now.
        """
        while self._scored is None and (step := self._next_step()) is not None:
            going = self._ask_golden(step) if isinstance(step, EngineLink) else self._ask(*step)
            if not going:
                return False
        return self._blame is None or self._settle(self._blame)

    def give_up(self, call: Call, now: float) -> bool:
        """Declare that a call hangs, from another thread.

        Returns:
            False if it came back just now. Else the run needs a thread to `proceed`.
        """
        check = self._check
        if check is not None:
            return self._give_up_golden(check, call, now)
        if not call.link.give_up(call, now):
            return False
        self._call = None
        call.link.failed(call.link.state.problem)
        self._note(call, self._rows_asked(), now, HUNG)
        self._blamed().hung(call)
        return True

    def result(self) -> ScoredBatch:
        """What came of it.

        Raises:
            EveryEngineFailed: no engine scored any row; the text has each one's reason.
        """
        if self._scored is not None:
            return self._scored
        progress, blame = self._progress, self._blamed()
        if progress is None or progress.nothing:
            raise EveryEngineFailed(blame.texts, self._calls, blame.fallback)
        return self._batch(progress.scores, int(progress.places.max()), progress.places)

    def _batch(self, scores: Float32, place: int, places: Places | None = None) -> ScoredBatch:
        blame = self._blame
        return ScoredBatch(
            scores=scores,
            engines=tuple([link.info for link in self._links]),
            place=place,
            places=places,
            failures=() if blame is None else blame.texts,
            calls=tuple(self._calls),
            fallback=None if blame is None else blame.fallback,
        )

    # --- whom to ask for which rows ---------------------------------------------------

    def _next_step(self) -> tuple[int, Indexes | None] | EngineLink | None:
        """The place of the engine to ask next, and the rows (None: all); or an engine to be asked
        for golden rows; None at the end."""
        rows = self._open_rows() if self._calls else None
        if rows is not None and not len(rows):
            return None
        while self._next_place < len(self._links):
            place = self._next_place
            self._next_place += 1
            if self._links[place].serves:
                return place, rows
            self._blamed().passed_by(self._links[place])
        return self._blamed().next_half(np.arange(self._jobs.rows) if rows is None else rows)

    def _open_rows(self) -> Indexes | None:
        """The rows without a score that somebody waits for; None: all of them."""
        now = self._clock.now()
        if self._progress is None and (self._deadlines is None or min(self._deadlines) > now):
            return None
        return self._told_apart().open_rows(now)

    # --- golden rows ------------------------------------------------------------------

    def _settle(self, blame: Blame) -> bool:
        """Say whose fault it was; False if golden rows were given up while they were asked for."""
        while (link := blame.accused()) is not None:
            if not self._ask_golden(link):
                return False
        blame.settle(self._clock.now())
        return True

    def _ask_golden(self, link: EngineLink) -> bool:
        """Is an engine well that only failed? False if the call was given up under way."""
        assert link.golden is not None, "nobody vouches for an engine without golden rows"
        self._check = check = Check(link, link.golden, self._clock)
        if not check.proceed():
            return False
        self._check = None
        self._blamed().vouched(link, link.status == "ready")
        return True

    def _give_up_golden(self, check: Check, call: Call, now: float) -> bool:
        if not check.give_up(call, now):
            return False
        self._check = None
        self._blamed().vouched(call.link, right=False)
        return True

    # --- asking -----------------------------------------------------------------------

    def _ask(self, place: int, rows: Indexes | None) -> bool:
        """One call of one engine; False if it was given up while it was under way."""
        link = self._links[place]
        call = link.begin(self._clock.now())
        if call is None:
            self._blamed().passed_by(link)  # taken out a moment ago
            return True
        self._asked = rows
        self._call = call
        scores = failure = None
        try:
            with in_batch(self.trace):
                scores = link.score(call, self._rows(call, rows))
        except EngineFailed as error:
            failure = error
        if not link.end(call):
            return False
        self._call = None
        now = self._clock.now()
        if scores is not None:
            self._take(place, call, scores, now)
        elif failure is not None:
            self._take_failure(place, call, failure, now)
        if now - call.started_at > self._max_execution_s:
            link.overran(now - call.started_at, now)
        return True

    def _rows(self, call: Call, rows: Indexes | None) -> Rows:
        candidates = call.takes_candidates
        try:
            if rows is None:
                return self._jobs.all(candidates=candidates)
            return self._jobs.some(rows, candidates=candidates)
        except Exception as error:  # rows of different models, say: the halves tell which
            raise EngineFailed(f"the rows cannot be put together: {error!r}") from error

    def _take(self, place: int, call: Call, scores: Float32, now: float) -> None:
        """Keep the scores that are probabilities."""
        link, rows = call.link, self._asked
        if rows is None and self._blame is None and are_valid(scores):  # the usual case
            link.scored(len(scores), 0)
            self._note(call, len(scores), now)
            self._scored = self._batch(scores, place)
            return
        valid = valid_scores(scores)
        invalid = len(scores) - int(np.count_nonzero(valid))
        if invalid == len(scores):
            text = spoiled(link.info, len(scores), invalid)
            link.failed(text, invalid=invalid)
            self._note(call, len(scores), now, INVALID_SCORES)
            self._blamed().failed(call, text, "invalid_scores")
            return
        link.scored(len(scores), invalid)
        self._note(call, len(scores), now)
        if self._blame is not None:
            self._blame.scored(link)
        if invalid:
            text = spoiled(link.info, len(scores), invalid)
            self._blamed().spoiled(link, text, invalid / len(scores))
        elif rows is None:
            self._scored = self._batch(scores, place)
            return
        self._told_apart().keep(rows, scores, valid, place)

    def _take_failure(self, place: int, call: Call, failure: EngineFailed, now: float) -> None:
        cause, text = failure.__cause__ or failure, str(failure)
        call.link.failed(text)
        self._note(call, self._rows_asked(), now, type(cause).__name__)
        refused = isinstance(cause, OutOfDeviceMemory)
        reason: FallbackReason = "memory" if refused else "failed"
        self._blamed().failed_as_a_whole(place, call, self._asked, text, reason)

    def _rows_asked(self) -> int:
        return self._jobs.rows if self._asked is None else len(self._asked)

    def _note(self, call: Call, rows: int, now: float, error_type: str | None = None) -> None:
        self._calls.append(
            EngineCall(
                engine=call.info.name,
                rows=rows,
                started_at=call.started_at,
                finished_at=now,
                error_type=error_type,
            )
        )

    def _blamed(self) -> Blame:
        if self._blame is None:
            self._blame = Blame(self._links, self._jobs)
        return self._blame

    def _told_apart(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(self._jobs, self._deadlines)
        return self._progress
