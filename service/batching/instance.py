"""One copy of the engines, and where it runs."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Literal

from msgspec import Struct

from service.batching.engine_thread import EngineThread, proceed
from service.clock import Clock
from service.engines.chain import EngineChain
from service.engines.check import Check
from service.engines.rows import JobRows
from service.engines.run import Run
from service.engines.scored import EveryEngineFailed, ScoredBatch
from service.errors import EngineFailed
from service.telemetry import BatchTrace, EngineCall, FallbackReason

SHORTEST_LOOK_S = 0.001
"""No timer is set closer: see `SHORTEST_TIMER_S` of the batcher."""


class Outcome(Struct, frozen=True):
    """What the engines made of a batch, and when."""

    scored: ScoredBatch | EngineFailed
    calls: tuple[EngineCall, ...]
    fallback: FallbackReason | None
    started_at: float
    ended_at: float


class Instance:
    """A chain of engines, and the thread that calls it if it has one of its own.

    With a thread, calls are watched: one that takes too long is given up, and
    its batch goes on down the chain on another thread.
    """

    def __init__(
        self, chain: EngineChain, execution: Literal["inline", "thread"], clock: Clock
    ) -> None:
        self.chain = chain
        self._clock = clock
        self._thread = EngineThread() if execution == "thread" else None
        self._timer: asyncio.TimerHandle | None = None

    def score(
        self,
        jobs: Sequence[JobRows],
        then: Callable[[Outcome], None],
        context: Context,
        *,
        deadlines: Sequence[float] | None = None,
        trace: BatchTrace | None = None,
    ) -> None:
        """Score the rows of several jobs in one call, then go on with what came of it.

        Inline that is before this returns; else on the event loop's thread,
        in the given context, once the instance's thread is done.

        Args:
            jobs: The rows of each.
            then: Told the outcome.
            context: Of that.
            deadlines: Of each job, on the instance's clock; when an engine fails after it, no
                other is asked for the job's rows.
            trace: Of the batch, if anybody is told of it.
        """
        started_at = self._clock.now()
        run = self.chain.start(jobs, deadlines)
        run.trace = trace
        if self._thread is None:
            proceed(run)
            then(self._outcome(run, started_at))
            return
        loop = asyncio.get_running_loop()

        def done() -> None:
            outcome = self._outcome(run, started_at)
            # A loop that did not wait for this has closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(then, outcome, context=context)

        self._thread.run(run, done)
        self._watch()

    def check(self, check: Check) -> None:
        """Ask an engine of this instance for golden scores, between two batches.

        Inline that is before this returns.
        """
        if self._thread is None:
            proceed(check)
            return
        self._thread.run(check, lambda: None)
        self._watch()

    def close(self) -> None:
        """End the thread; no batch may be under way. A call that hangs is not waited for."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.end()

    def _outcome(self, run: Run, started_at: float) -> Outcome:
        ended_at = self._clock.now()
        try:
            scored = run.result()
        except EveryEngineFailed as failure:
            return Outcome(failure, failure.calls, failure.fallback, started_at, ended_at)
        return Outcome(scored, scored.calls, scored.fallback, started_at, ended_at)

    def _watch(self) -> None:
        # One timer that outlives many batches: setting one for each would cost more than a glance.
        if self._timer is None:
            self._look_after(self.chain.settings.max_execution_s)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        # Of no single request's trace: it serves all that come after as well.
        self._timer = loop.call_later(max(seconds, SHORTEST_LOOK_S), self._look, context=Context())

    def _look(self) -> None:
        """Give up a call that takes too long."""
        self._timer, thread = None, self._thread
        if thread is None or thread.idle:
            return
        limit_s, now, call = self.chain.settings.max_execution_s, self._clock.now(), thread.call
        left_s = limit_s if call is None else call.started_at + limit_s - now
        if call is not None and left_s <= 0:
            thread.give_up(call, now)
            left_s = limit_s
        self._look_after(left_s)
