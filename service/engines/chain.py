"""Engines in order: what one cannot score, the next one does, in the same call.

A call that fails goes to the next engine whole. Rows with a score that is no
probability go alone: their neighbours keep the scores that they have. A row
that no engine could score fails its own job and nobody else's.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranking_models.schema import FeatureBatch, Float32
from service.clock import Clock
from service.engines import Engine, EngineInfo, valid_scores
from service.engines.scored import NOBODY, EveryEngineFailed, Places, ScoredBatch
from service.engines.state import EngineState
from service.errors import EngineFailed
from service.telemetry import EngineCall

INVALID_SCORES = "invalid_scores"
"""Error type of a call that gave no probability at all."""


class EngineChain:
    """The engines of one instance, in order.

    One thread scores at a time; `states` may be read from any thread.
    """

    def __init__(self, engines: Sequence[Engine], clock: Clock) -> None:
        if not engines:
            raise ValueError("a chain needs at least one engine")
        self._links = tuple(_Link(engine) for engine in engines)
        self._infos = tuple(engine.info for engine in engines)
        self._clock = clock

    @property
    def engines(self) -> tuple[Engine, ...]:
        return tuple(link.engine for link in self._links)

    @property
    def max_batch_rows(self) -> int:
        """Most rows of a call: what every engine of the chain can take."""
        return min(info.max_batch_rows for info in self._infos)

    def states(self) -> tuple[EngineState, ...]:
        return tuple(link.state for link in self._links)

    def score(self, batch: FeatureBatch) -> ScoredBatch:
        """Score a batch of 1 to ``max_batch_rows`` rows.

        Raises:
            EveryEngineFailed: no engine scored any row; the text has each one's reason.
        """
        run = _Run(batch, self._clock)
        for place, link in enumerate(self._links):
            if run.ask(link, place):
                break
        return run.result(self._infos)


class _Run:
    """One batch on its way down the chain."""

    def __init__(self, batch: FeatureBatch, clock: Clock) -> None:
        self._batch, self._clock = batch, clock
        self._scores: Float32 | None = None
        self._place = NOBODY
        self._places: Places | None = None  # stays None while no rows had to be told apart
        self._calls: list[EngineCall] = []
        self._failures: list[str] = []

    def ask(self, link: "_Link", place: int) -> bool:
        """Have an engine score the rows that have no score yet. Is every row scored now?"""
        open_rows = None if self._places is None else np.flatnonzero(self._places == NOBODY)
        asked = self._batch if open_rows is None else self._batch.take(open_rows)
        started_at = self._clock.now()
        try:
            scores, valid = link.score(asked)
        except EngineFailed as failure:
            self._note(link, asked.rows, started_at, type(failure.__cause__ or failure).__name__)
            self._failures.append(str(failure))
            return False
        good = int(np.count_nonzero(valid))
        self._note(link, asked.rows, started_at, None if good else INVALID_SCORES)
        if good < asked.rows:
            self._failures.append(_spoiled(link.engine.info, asked.rows, good))
        elif open_rows is None:
            self._scores, self._place = scores, place
            return True
        self._merge(np.arange(asked.rows) if open_rows is None else open_rows, scores, valid, place)
        return good == asked.rows

    def result(self, engines: tuple[EngineInfo, ...]) -> ScoredBatch:
        if self._scores is None or self._place == NOBODY:
            raise EveryEngineFailed(self._failures, self._calls)
        return ScoredBatch(
            scores=self._scores,
            engines=engines,
            place=self._place,
            places=self._places,
            failures=tuple(self._failures),
            calls=tuple(self._calls),
        )

    def _merge(
        self,
        rows: npt.NDArray[np.intp],
        scores: Float32,
        valid: npt.NDArray[np.bool_],
        place: int,
    ) -> None:
        if self._scores is None or self._places is None:
            self._scores = np.full(self._batch.rows, np.nan, np.float32)
            self._places = np.full(self._batch.rows, NOBODY, np.int16)
        good = rows[valid]
        self._scores[good] = scores[valid]
        self._places[good] = place
        self._place = int(self._places.max())

    def _note(self, link: "_Link", rows: int, started_at: float, error_type: str | None) -> None:
        self._calls.append(
            EngineCall(
                engine=link.engine.info.name,
                rows=rows,
                started_at=started_at,
                finished_at=self._clock.now(),
                error_type=error_type,
            )
        )


class _Link:
    """An engine and what it has done."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._calls = self._rows = self._failed_calls = self._invalid_rows = 0
        self._failures_in_a_row = 0
        self._last_error: str | None = None

    @property
    def state(self) -> EngineState:
        return EngineState(
            engine=self.engine.info,
            calls=self._calls,
            rows=self._rows,
            failed_calls=self._failed_calls,
            invalid_rows=self._invalid_rows,
            failures_in_a_row=self._failures_in_a_row,
            last_error=self._last_error,
        )

    def score(self, batch: FeatureBatch) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """The scores, and which of them are probabilities.

        Raises:
            EngineFailed: the call failed; the text names the engine.
        """
        self._calls += 1
        name = self.engine.info.name
        try:
            scores = self.engine.score(batch)
        except Exception as error:
            # Whatever an engine raises: the next one may still answer these users.
            reason = str(error) if isinstance(error, EngineFailed) else repr(error)
            raise self._failed(f"{name}: {reason}") from error
        if scores.shape != (batch.rows,):
            raise self._failed(f"{name}: {batch.rows} rows gave scores of shape {scores.shape}")
        valid = valid_scores(scores)
        good = int(np.count_nonzero(valid))
        self._rows += good
        self._invalid_rows += batch.rows - good
        if good < batch.rows:
            self._last_error = _spoiled(self.engine.info, batch.rows, good)
        self._failures_in_a_row = 0 if good else self._failures_in_a_row + 1
        return scores, valid

    def _failed(self, text: str) -> EngineFailed:
        self._failed_calls += 1
        self._failures_in_a_row += 1
        self._last_error = text
        return EngineFailed(text)


def _spoiled(engine: EngineInfo, rows: int, good: int) -> str:
    return f"{engine.name}: {rows - good} of {rows} scores are not in [0, 1]"
