"""One copy of the engines, and where it runs."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
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
        self._thread = (
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="podium-engine")
            if execution == "thread"
            else None
        )

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
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._score, rows)
        future.add_done_callback(lambda done: then(done.result()), context=context)

    def close(self) -> None:
        """End the thread; no batch may be under way."""
        if self._thread is not None:
            self._thread.shutdown()

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
