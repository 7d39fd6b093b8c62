"""An evaluation of cache modes as a table for people."""

from collections.abc import Iterator, Sequence

from ranking_models.cache_evaluation.values import CacheEvaluation
from ranking_models.manifest import Interval, ModeCost

ACCEPTED_LOSS = 0.01
"""Of NDCG, relative to exact scores, that `advice` accepts at the worse end of the interval."""

_COLUMNS = (
    ("ndcg", "NDCG@{k}"),
    ("list_auc", "AUC of lists"),
    ("overlap", "same top {k}"),
    ("auc", "AUC of rows"),
)


def render_text(evaluation: CacheEvaluation) -> str:
    """What it was measured on, the modes, a line each, and which of them to choose."""
    rows = mode_rows(evaluation.modes, k=evaluation.k)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    title = f"{evaluation.model} {evaluation.precision}: what the cache's modes cost"
    advised = advice(evaluation.modes, k=evaluation.k)
    return "\n".join([title, *measured_on(evaluation), _CHANGES, "", *table, "", advised]) + "\n"


def mode_rows(modes: Sequence[ModeCost], *, k: int) -> list[tuple[str, ...]]:
    """A heading, and a row for each mode: exact's figures, and how the others' differ."""
    names = [name.format(k=k) for _, name in _COLUMNS]
    return [("mode", "segments", "M", "rows saved", *names), *map(_line, modes)]


def advice(modes: Sequence[ModeCost], *, k: int) -> str:
    """The mode that saves most rows of those that surely keep the order."""
    exact = modes[0].figures.get("ndcg")
    kept = [
        mode
        for mode in modes[1:]
        if exact is not None
        and "ndcg" in mode.change
        and mode.change["ndcg"].low >= -ACCEPTED_LOSS * exact.value
    ]
    least = f"at most {ACCEPTED_LOSS:.0%} of NDCG@{k} lost at the worse end of the interval"
    if not kept:
        return f"{least}: none of these modes; stay with exact"
    best = max(kept, key=lambda mode: mode.rows_saved)
    top = "" if best.top is None else f", rescore_top = {best.top}"
    several = len({mode.segments for mode in modes[1:]}) > 1
    by = f" with {best.segments} segments" if several else ""
    return f'{least}: cache = "{best.mode}"{top}{by}, {best.rows_saved:.0%} of the rows saved'


def measured_on(evaluation: CacheEvaluation) -> Iterator[str]:
    """The rows and the lists, in words."""
    known = f"{evaluation.known_users:,} of {evaluation.users:,} users and sessions"
    yield f"{evaluation.rows:,} rows, {evaluation.evidence}; {known} are in the bundle's table"
    yield (
        f"NDCG@{evaluation.k}, AUC of lists and same top {evaluation.k}: {evaluation.lists:,} "
        f"lists of one click among {evaluation.candidates} candidates drawn from the catalogue"
    )


_CHANGES = (
    "exact: its figures; others: the change against them, paired, with 95 % intervals over users. "
    "M: scored exactly"
)


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
    if change is None or key == "overlap":
        return f"{figure.value:.4f}"
    return _change(change)


def _change(change: Interval) -> str:
    return f"{change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f})"
