"""A batch as it left the queue, with all that explains why it left then."""

from msgspec import Struct

from service.batching.jobs import Part, ScoreJob
from service.batching.outlook import BatchTime
from service.batching.policy import Reason


class Batch(Struct, frozen=True, kw_only=True, eq=False):
    """Rows to score in one engine call, and why they left when they did."""

    parts: tuple[Part, ...]
    rows: int
    reason: Reason
    waiting_rows: int
    """Rows in the queue when the batch left, its own included."""
    oldest_wait_s: float
    """How long the one that had waited longest had done so."""
    left_at: float
    free_since: float
    """Since when an instance had been free: whoever waited longer waited for an engine first."""
    executing: int
    """Batches that were under way when it left."""
    arrival_rows_per_s: float | None
    """How fast rows came in, as learnt by then; None before it is known."""
    batch_time: BatchTime | None
    """How long batches took, as learnt by then; None before it is known."""
    cost_from: float
    """Since when the time until it is scored counts as its cost; see `BatchQueue.finished`."""

    @property
    def jobs(self) -> tuple[ScoreJob, ...]:
        return tuple(part.job for part in self.parts)

    def company_wait_s(self, job: ScoreJob) -> float:
        """How long a job waited although an instance was free; the rest it waited for one."""
        return self.left_at - max(job.arrived_at, min(self.free_since, self.left_at))
