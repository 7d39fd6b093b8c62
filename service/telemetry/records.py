"""What the batcher reports about one batch. Times are seconds of the service's Clock."""

from collections.abc import Sequence

from msgspec import Struct

from service.telemetry.context import RequestTrace
from service.telemetry.names import FallbackReason
from service.telemetry.outgoing import BatchTrace


class BatchMember(Struct, frozen=True, kw_only=True):
    """A job that was in the batch."""

    rows: int
    arrived_at: float
    deadline_at: float
    request: RequestTrace | None
    """The trace it belongs to, from ``Telemetry.sampled_request()``; None when unsampled."""


class EngineCall(Struct, frozen=True, kw_only=True):
    """One attempt of one engine to score the batch."""

    engine: str
    rows: int
    started_at: float
    finished_at: float
    error_type: str | None = None
    """The class of the failure, for a call that had to be repeated on the next engine."""


class BatchRecord(Struct, frozen=True, kw_only=True):
    """A batch from the moment it was cut to its scores."""

    model: str
    version: str
    precision: str
    reason: str
    """Why it left the queue; one of the few words of the batching policy."""
    waiting_rows: int
    """Rows in the queue when it was cut, its own included."""
    oldest_wait_s: float
    """How long the job that had waited longest had done so."""
    executing: int
    """Batches that were under way when it left."""
    duplicate_rows: int
    """Rows that were not scored, as equal ones were."""
    arrival_rows_per_s: float | None
    """How fast rows came in, as the batcher had learnt by then, if it had."""
    fixed_s: float | None
    """What a batch cost whatever its size, likewise."""
    row_s: float | None
    """What each row added to that, likewise."""
    taken_at: float
    finished_at: float
    members: Sequence[BatchMember]
    calls: Sequence[EngineCall]
    """In order. A failed one is followed by the next engine's, if there is one."""
    trace: BatchTrace | None = None
    """Drawn when it left the queue, if spans are sent at all."""
    fallback: FallbackReason | None = None
    """Why the first engine did not score everything; None if it did."""

    @property
    def rows(self) -> int:
        return sum(member.rows for member in self.members)

    @property
    def error_type(self) -> str | None:
        """Why the whole batch failed, or None."""
        if any(call.error_type is None for call in self.calls):
            return None  # a later call may have failed at the few rows that this one spoiled
        return self.calls[-1].error_type if self.calls else "no_engine"
