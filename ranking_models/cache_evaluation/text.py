"""An evaluation of cache modes as a table for people."""

from collections.abc import Iterator, Sequence

from ranking_models.cache_evaluation.values import CacheEvaluation
from ranking_models.manifest import Interval, ModeCost

_COLUMNS = (
    ("ndcg", "NDCG"),
    ("overlap", "same top"),
    ("catalogue_overlap", "in catalogue"),
    ("gauc", "gAUC"),
    ("auc", "AUC"),
)


def render_text(evaluation: CacheEvaluation) -> str:
    """The modes, a line each, and below it what they were measured on."""
    rows = mode_rows(evaluation.modes, k=evaluation.k)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*_words(evaluation), "", *table]) + "\n"


def mode_rows(modes: Sequence[ModeCost], *, k: int) -> list[tuple[str, ...]]:
    """A heading, and a row for each mode."""
    return [_heading(k), *map(_line, modes)]


def _words(evaluation: CacheEvaluation) -> Iterator[str]:
    known = f"{evaluation.known_users:,} of {evaluation.users:,} users"
    yield f"{evaluation.model} {evaluation.precision}: what the cache's modes cost"
    yield f"{evaluation.rows:,} rows, {evaluation.evidence}; {known} are in the bundle's table"
    yield (
        f"NDCG@{evaluation.k} and the same top {evaluation.k}: {evaluation.lists:,} lists of one "
        f"click among {evaluation.candidates} candidates drawn from the catalogue"
    )
    yield "changes against exact, paired, with 95 % intervals over users"


def _heading(k: int) -> tuple[str, ...]:
    names = [f"{name}@{k}" if key == "ndcg" else name for key, name in _COLUMNS]
    return ("mode", "segments", "top", "rows saved", *names)


def _line(cost: ModeCost) -> tuple[str, ...]:
    return (
        cost.mode,
        "-" if cost.segments is None else str(cost.segments),
        "-" if cost.top is None else str(cost.top),
        f"{cost.rows_saved:.0%}",
        *(_cell(cost, key) for key, _ in _COLUMNS),
    )


def _cell(cost: ModeCost, key: str) -> str:
    if key not in cost.figures:
        return "-"
    figure, change = cost.figures[key], cost.change.get(key)
    if change is None or key.endswith("overlap"):
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} ({_change(change)})"


def _change(change: Interval) -> str:
    return f"{change.value:+.4f}, {change.low:+.4f} to {change.high:+.4f}"
