"""What comes out of a batch: scores for its callers, and what they and telemetry are told."""

from collections.abc import Sequence

from msgspec import Struct

from ranking_models.schema import Float32
from service.batching.queue import Batch
from service.engines import EngineInfo
from service.errors import DeadlineExpired
from service.messages import BatchReport
from service.telemetry import BatchMember, BatchRecord, EngineCall, RequestTrace


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
    batch: BatchReport
    """The batch with its last rows."""


class ScoredTooLate(DeadlineExpired):
    """The deadline passed while the rows were scored: right, but not in time for their caller."""

    def __init__(self, scored: ScoredRows) -> None:
        self.scored = scored
        super().__init__("the deadline passed while the rows were scored")


def report_of(batch: Batch) -> BatchReport:
    """Why the batch left when it did, as callers are told."""
    return BatchReport(
        rows=batch.rows,
        jobs=len(batch.parts),
        reason=batch.reason,
        waiting_rows=batch.waiting_rows,
        oldest_wait_ms=batch.oldest_wait_s * 1000,
    )


def record_of(
    batch: Batch,
    requests: Sequence[RequestTrace | None],
    engine: EngineInfo,
    calls: Sequence[EngineCall],
    finished_at: float,
) -> BatchRecord:
    """What telemetry is told of an executed batch; `requests` are those of its jobs, in order."""
    return BatchRecord(
        model=engine.model,
        precision=engine.precision,
        reason=batch.reason,
        waiting_rows=batch.waiting_rows,
        taken_at=batch.left_at,
        finished_at=finished_at,
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
