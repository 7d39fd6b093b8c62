"""One copy of the engines, and where it runs."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Literal

from msgspec import Struct

from ranking_models.schema import FeatureBatch
from service.clock import Clock
from service.engines.chain import EngineChain
from service.engines.scored import EveryEngineFailed, ScoredBatch
from service.errors import EngineFailed
from service.telemetry import EngineCall


class Outcome(Struct, frozen=True):
    """What the engines made of a batch, and when."""

    scored: ScoredBatch | EngineFailed
    calls: tuple[EngineCall, ...]
    started_at: float
    ended_at: float


class Instance:
    """A chain of engines, and the thread that calls it if it has one of its own."""

    def __init__(
        self, chain: EngineChain, execution: Literal["inline", "thread"], clock: Clock
    ) -> None:
        self.chain = chain
        self._clock = clock
        self._thread = _EngineThread() if execution == "thread" else None

    def score(
        self, rows: list[FeatureBatch], then: Callable[[Outcome], None], context: Context
    ) -> None:
        """Score the rows of several jobs in one call, then go on with what came of it.

        Inline that is before this returns; else on the event loop's thread,
        in the given context, once the instance's thread is done.
        """
        if self._thread is None:
            then(self._score(rows))
            return
        loop = asyncio.get_running_loop()

        def score() -> None:
            outcome = self._score(rows)
            # A loop that did not wait for this has closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(then, outcome, context=context)

        self._thread.run(score)

    def close(self) -> None:
        """End the thread; no batch may be under way."""
        if self._thread is not None:
            self._thread.end()

    def _score(self, rows: list[FeatureBatch]) -> Outcome:
        started_at = self._clock.now()
        scored: ScoredBatch | EngineFailed
        calls: tuple[EngineCall, ...] = ()
        try:
            scored = self.chain.score(FeatureBatch.concatenate(rows))
            calls = scored.calls
        except EveryEngineFailed as failure:
            scored, calls = failure, failure.calls
        except Exception as error:  # whatever it is, the callers must hear of it
            scored = EngineFailed(repr(error))
        return Outcome(scored, calls, started_at, self._clock.now())


class _EngineThread:
    """Runs one thing after the other.

    An executor would do, but the interpreter joins an executor's thread when
    it exits: an engine that hangs would keep the process from ending.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="podium-engine", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def end(self) -> None:
        """Return when everything has run and the thread is gone."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
