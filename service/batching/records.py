"""What comes out of a batch: scores for its callers, and what they and telemetry are told."""

from collections.abc import Sequence

from msgspec import Struct

from ranking_models.schema import Float32
from service.batching.batch import Batch
from service.batching.jobs import ScoreJob
from service.engines import EngineInfo
from service.errors import DeadlineExpired
from service.messages import BatchReport
from service.telemetry import (
    BatchMember,
    BatchRecord,
    BatchTrace,
    EngineCall,
    FallbackReason,
    RequestTrace,
)


class ScoredRows(Struct, frozen=True, kw_only=True):
    """The scores of one request, and how they came about."""

    scores: Float32
    engine: EngineInfo
    """The engine furthest down the chain that any of the rows needed."""
    fallback: bool
    """Not the first engine of the chain; such scores are not for the cache."""
    queue_s: float
    """From arrival until its first rows went to an engine."""
    engine_s: float
    """From then until its last rows were scored."""
    job: ScoreJob
    last_batch: Batch
    """The batch with its last rows."""
    duplicate_rows: int
    """Rows of that batch that were not scored, as equal ones were."""
    of_batch: Float32 | None = None
    """The scores of all its jobs, one after the other, where one engine scored each for itself."""
    first_row: int = 0
    """Where those of this job begin there."""

    @property
    def batch(self) -> BatchReport:
        """Why that batch left when it did, as this caller is told; made when asked for."""
        return report_of(self.last_batch, self.job, self.duplicate_rows)


class ScoredTooLate(DeadlineExpired):
    """The deadline passed while the rows were scored: right, but not in time for their caller."""

    def __init__(self, scored: ScoredRows) -> None:
        self.scored = scored
        super().__init__("the deadline passed while the rows were scored")


def report_of(batch: Batch, job: ScoreJob, duplicate_rows: int) -> BatchReport:
    """Why a batch left when it did, and what the wait of one of its jobs was for."""
    took, company_wait_s = batch.batch_time, batch.company_wait_s(job)
    return BatchReport(
        rows=batch.rows,
        jobs=len(batch.parts),
        reason=batch.reason,
        waiting_rows=batch.waiting_rows,
        oldest_wait_ms=batch.oldest_wait_s * 1000,
        executing=batch.executing,
        duplicate_rows=duplicate_rows,
        engine_wait_ms=(batch.left_at - job.arrived_at - company_wait_s) * 1000,
        company_wait_ms=company_wait_s * 1000,
        arrival_rows_per_s=batch.arrival_rows_per_s,
        batch_fixed_ms=None if took is None else took.fixed_s * 1000,
        batch_row_us=None if took is None else took.row_s * 1e6,
        serial_share=None if took is None else took.serial_share,
    )


def record_of(
    batch: Batch,
    requests: Sequence[RequestTrace | None],
    engine: EngineInfo,
    calls: Sequence[EngineCall],
    *,
    trace: BatchTrace | None,
    fallback: FallbackReason | None,
    finished_at: float,
    duplicate_rows: int,
) -> BatchRecord:
    """What telemetry is told of an executed batch; `requests` are those of its jobs, in order."""
    took = batch.batch_time
    return BatchRecord(
        model=engine.model,
        version=engine.version,
        precision=engine.precision,
        reason=batch.reason,
        waiting_rows=batch.waiting_rows,
        oldest_wait_s=batch.oldest_wait_s,
        executing=batch.executing,
        duplicate_rows=duplicate_rows,
        arrival_rows_per_s=batch.arrival_rows_per_s,
        fixed_s=None if took is None else took.fixed_s,
        row_s=None if took is None else took.row_s,
        taken_at=batch.left_at,
        finished_at=finished_at,
        trace=trace,
        fallback=fallback,
        members=[
            BatchMember(
                rows=part.rows,
                arrived_at=part.job.arrived_at,
                deadline_at=part.job.deadline,
                request=request,
            )
            for part, request in zip(batch.parts, requests, strict=True)
        ],
        calls=calls,
    )
