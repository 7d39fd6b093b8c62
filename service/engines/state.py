"""What the engines of a chain have done and how they are: for /v1/models and metrics."""

from collections.abc import Iterable

from msgspec import Struct

from service.engines import EngineInfo
from service.messages import EngineStatus

WORST_LAST: tuple[EngineStatus, ...] = (
    "ready", "failing", "loading", "probing", "open", "hung", "refused",
)  # fmt: skip


class EngineState(Struct, frozen=True, kw_only=True):
    """What an engine of a chain has done, and whether it gets calls."""

    engine: EngineInfo
    status: EngineStatus = "ready"
    since: float = 0.0
    """Unix seconds: since when it has that status."""
    opened: int = 0
    """How often it has been left alone."""
    calls: int = 0
    """Of users; golden rows count nowhere."""
    rows: int = 0
    """Rows that it scored well."""
    failed_calls: int = 0
    invalid_rows: int = 0
    """Rows whose score was no probability."""
    failures_in_a_row: int = 0
    """0 when the last call gave scores."""
    last_error: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether it gets calls, and the last one gave scores."""
        return self.status == "ready"

    @property
    def problem(self) -> str:
        """Why it is not well, in a sentence."""
        if self.status == "loading":
            return f"{self.engine.name} is being loaded"
        return self.last_error or f"{self.engine.name} is {self.status}"


def total(instances: Iterable[tuple[EngineState, ...]]) -> tuple[EngineState, ...]:
    """The states of several instances of one chain, added up place by place.

    How an engine is, is how its worst instance is.
    """
    return tuple(_added_up(same) for same in zip(*instances, strict=True))


def _added_up(same: tuple[EngineState, ...]) -> EngineState:
    worst = max(same, key=lambda state: WORST_LAST.index(state.status))
    return EngineState(
        engine=worst.engine,
        status=worst.status,
        since=worst.since,
        opened=sum(state.opened for state in same),
        calls=sum(state.calls for state in same),
        rows=sum(state.rows for state in same),
        failed_calls=sum(state.failed_calls for state in same),
        invalid_rows=sum(state.invalid_rows for state in same),
        failures_in_a_row=max(state.failures_in_a_row for state in same),
        last_error=worst.last_error
        or next((state.last_error for state in same if state.last_error), None),
    )
