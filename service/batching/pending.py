"""A caller that waits for its scores."""

from collections.abc import Callable

from msgspec import Struct

from ranking_models.schema import Float32
from service.batching.batch import Batch
from service.batching.jobs import Part, ScoreJob
from service.batching.records import ScoredRows
from service.engines import EngineInfo
from service.engines.rows import JobRows
from service.engines.scored import Scored
from service.telemetry import RequestTrace

Then = Callable[[ScoredRows | Exception], None]
"""Told once, on the event loop's thread, how a job ended; not if it was cancelled."""


class Executed(Struct, frozen=True):
    """A batch that has been scored."""

    batch: Batch
    started_at: float
    ended_at: float
    duplicate_rows: int


class Pending(Struct, eq=False):
    """A job that has not ended: its rows, and the parts of it that are scored."""

    job: ScoreJob
    rows: JobRows
    request: RequestTrace | None
    then: Then
    give_up: Callable[[ScoreJob], None]
    """Forgets the job, if it is still there."""
    answer: ScoredRows | None = None
    """When every row is scored."""
    parts: dict[int, Scored] | None = None
    """Those that are scored of a job that was cut, by their first rows."""
    started_at: float = 0.0
    """When the first of those went to an engine."""

    def cancel(self) -> None:
        """Take the rows out again, if they are still there; nobody else notices."""
        self.give_up(self.job)

    def rows_of(self, part: Part) -> JobRows:
        if part.is_whole:
            return self.rows
        return self.rows.take(slice(part.start, part.stop))

    def add(self, part: Part, scored: Scored, executed: Executed) -> None:
        """Keep the scores of a part."""
        if part.is_whole:
            at = executed.started_at
            self.complete(scored.scores, scored.engine, scored.fallback, executed, at)
            return
        if self.parts is None:
            self.parts, self.started_at = {}, executed.started_at
        parts = self.parts
        parts[part.start] = scored
        self.started_at = min(self.started_at, executed.started_at)
        if sum([len(scored.scores) for scored in parts.values()]) == self.job.rows:
            whole = Scored.joined([parts[start] for start in sorted(parts)])
            self.complete(whole.scores, whole.engine, whole.fallback, executed, self.started_at)

    def complete(
        self,
        scores: Float32,
        engine: EngineInfo,
        fallback: bool,
        last: Executed,
        started_at: float,
        *,
        of_batch: Float32 | None = None,
        first_row: int = 0,
    ) -> None:
        """Keep the scores of all rows: the last came with one batch, the first went to an engine
        at some time."""
        job = self.job
        self.answer = ScoredRows(
            scores=scores,
            engine=engine,
            fallback=fallback,
            queue_s=started_at - job.arrived_at,
            engine_s=last.ended_at - started_at,
            job=job,
            last_batch=last.batch,
            duplicate_rows=last.duplicate_rows,
            of_batch=of_batch,
            first_row=first_row,
        )
