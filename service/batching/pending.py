"""A caller that waits for its scores."""

import asyncio
import math

from ranking_models.schema import FeatureBatch
from service.batching.lanes import Part, ScoreJob
from service.batching.records import ScoredRows
from service.engines.scored import Scored
from service.messages import BatchReport
from service.telemetry import RequestTrace


class Pending:
    """The rows, the future, and the parts that are scored already.

    The future may be done without us: a cancelled task cancels it at once,
    and takes the job out of the queue only when it runs again.
    """

    def __init__(self, job: ScoreJob, rows: FeatureBatch, request: RequestTrace | None) -> None:
        self.request = request
        self.answer: asyncio.Future[ScoredRows] = asyncio.get_running_loop().create_future()
        self._job, self._rows = job, rows
        self._scored: dict[int, Scored] = {}  # by the first row of the part
        self._started_at = math.inf

    def rows_of(self, part: Part) -> FeatureBatch:
        if part.rows == self._job.rows:
            return self._rows
        return self._rows.take(slice(part.start, part.stop))

    def add(self, part: Part, scored: Scored, started_at: float) -> None:
        self._scored[part.start] = scored
        self._started_at = min(self._started_at, started_at)

    def joined(self, report: BatchReport, ended_at: float) -> ScoredRows:
        """The answer: every part is there, and the last one came from the batch of the report."""
        scored = Scored.joined([self._scored[start] for start in sorted(self._scored)])
        return ScoredRows(
            scores=scored.scores,
            engine=scored.engine,
            fallback=scored.fallback,
            queue_s=self._started_at - self._job.arrived_at,
            engine_s=ended_at - self._started_at,
            batch=report,
        )

    def succeed(self, scored: ScoredRows) -> None:
        if not self.answer.done():
            self.answer.set_result(scored)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
