"""What waits for an engine: jobs, and the parts of them that leave."""

from msgspec import Struct

from service.messages import Priority


class ScoreJob(Struct, frozen=True, kw_only=True, eq=False):
    """One request's misses, waiting for an engine. Two jobs are never equal."""

    rows: int
    arrived_at: float
    deadline: float
    priority: Priority = "normal"
    deployment: str = ""
    """Deployments that share an engine share it fairly."""


class Part(Struct, frozen=True):
    """The rows ``start`` to ``stop`` of a job: all of them, unless it had to be cut."""

    job: ScoreJob
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the job."""
        return self.stop - self.start == self.job.rows
