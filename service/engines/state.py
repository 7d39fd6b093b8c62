"""What the engines of a chain have done: for /v1/models and metrics."""

from collections.abc import Iterable

from msgspec import Struct

from service.engines import EngineInfo


class EngineState(Struct, frozen=True, kw_only=True):
    """What an engine of a chain has done since it was loaded."""

    engine: EngineInfo
    calls: int = 0
    rows: int = 0
    """Rows that it scored well."""
    failed_calls: int = 0
    invalid_rows: int = 0
    """Rows whose score was no probability."""
    failures_in_a_row: int = 0
    """0 when the last call gave scores."""
    last_error: str | None = None


def total(instances: Iterable[tuple[EngineState, ...]]) -> tuple[EngineState, ...]:
    """The states of several instances of one chain, added up place by place.

    ``failures_in_a_row`` is the worst instance's.
    """
    return tuple(
        EngineState(
            engine=same[0].engine,
            calls=sum(state.calls for state in same),
            rows=sum(state.rows for state in same),
            failed_calls=sum(state.failed_calls for state in same),
            invalid_rows=sum(state.invalid_rows for state in same),
            failures_in_a_row=max(state.failures_in_a_row for state in same),
            last_error=next((state.last_error for state in same if state.last_error), None),
        )
        for same in zip(*instances, strict=True)
    )
