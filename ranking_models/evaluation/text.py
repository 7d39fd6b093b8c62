"""An evaluation as tables of plain text."""

import textwrap
from collections.abc import Iterator, Sequence

from msgspec import structs

from ranking_models.evaluation.values import (
    METRICS,
    Evaluation,
    Figure,
    Figures,
    SegmentTable,
    metric_name,
)

WIDTH = 100
NOTHING = "-"
LABEL = 34
"""Most characters of a cell."""

OVERLAPPING = "A row counts in each of its values: the feature holds lists."

SEGMENT_METRICS = ("observed", "auc", "log_loss", "ece")

Cells = Sequence[str]


def render_text(evaluation: Evaluation) -> str:
    """The evaluation as lines of text, without colours."""
    lines = [
        *_wrapped(f"Evidence: {summary(evaluation)}"),
        *(line for note in evaluation.notes for line in _wrapped(f"Note: {note}")),
        *names(evaluation),
        "",
        *_aligned(metric_rows(evaluation)),
        "",
        *_wrapped(conditions(evaluation)),
    ]
    for at in range(len(evaluation.scored)):
        lines += ["", *_aligned(reliability_rows(evaluation, at))]
    for table in evaluation.segments:
        lines += ["", *_segment_lines(evaluation, table)]
    return "\n".join(lines) + "\n"


def summary(evaluation: Evaluation) -> str:
    """Which rows, and how many."""
    e = evaluation
    return (
        f"{e.evidence}; {e.rows:,} rows of {e.users:,} users, {e.clicks:,} clicks, "
        f"{e.lists:,} lists with a click (one per {e.list_kind}), "
        f"{e.long_lists:,} of them longer than {e.k}: HR@{e.k} is 1 on the others in any order."
    )


def conditions(evaluation: Evaluation) -> str:
    """How the intervals came about, and what the words mean."""
    e = evaluation
    text = (
        f"In brackets: {100 * e.confidence:.0f} % intervals by {e.resamples:,} resamples of users "
        f"(seed {e.seed}). A perfectly calibrated model would show an ECE of about "
        f"{e.scored[0].ece_by_chance:.4f} on as many rows."
    )
    if e.comparison is not None:
        text += (
            " The difference is A minus B on the same rows and resamples; scores differ by "
            f"{e.comparison.max_score_difference:.6f} at most, "
            f"{e.comparison.p99_score_difference:.6f} at the 99th percentile."
        )
    return text


def metric_rows(evaluation: Evaluation) -> list[Cells]:
    """The table of metrics: a header, then one line per metric."""
    comparison = evaluation.comparison
    compared = comparison is not None
    header = ["metric", "A", "B", "A - B"] if compared else ["metric", "value"]
    rows: list[Cells] = [header]
    for metric in METRICS:
        cells = [cell(scored.figures.get(metric)) for scored in evaluation.scored]
        if comparison is not None:
            cells.append(cell(comparison.figures.get(metric), signed=True))
        rows.append([metric_name(metric, evaluation.k), *cells])
    return rows


def reliability_rows(evaluation: Evaluation, scored: int) -> list[Cells]:
    """The reliability table of one scorer, with a header."""
    first = "scores" if len(evaluation.scored) == 1 else f"scores of {'AB'[scored]}"
    rows: list[Cells] = [[first, "rows", "mean score", "CTR"]]
    for found in evaluation.scored[scored].reliability:
        scores = f"{found.low:.4f} to {found.high:.4f}"
        rows.append([scores, f"{found.rows:,}", f"{found.predicted:.4f}", cell(found.observed)])
    return rows


def roc_rows(evaluation: Evaluation) -> list[Cells]:
    """Every twentieth point of the ROC curves, with a header."""
    rows: list[Cells] = [["scorer", "non-clicks", "clicks"]]
    for letter, scored in zip("AB", evaluation.scored, strict=False):
        points = [*scored.roc[::20], scored.roc[-1]]
        rows += [[letter, f"{others:.4f}", f"{clicks:.4f}"] for others, clicks in points]
    return rows


def histogram_rows(evaluation: Evaluation) -> list[Cells]:
    """Rows per range of the first scorer's scores, with a header."""
    counts = evaluation.scored[0].histogram
    rows: list[Cells] = [["scores", "non-clicks", "clicks"]]
    for at, (others, clicks) in enumerate(counts):
        low, high = at / len(counts), (at + 1) / len(counts)
        rows.append([f"{low:.3f} to {high:.3f}", f"{others:,}", f"{clicks:,}"])
    return rows


def segment_rows(evaluation: Evaluation, table: SegmentTable, *, brief: bool) -> list[Cells]:
    """One line per segment, or four with two scorers, under a header.

    A note stands in for figures. ``brief`` leaves out the intervals of CTR and ECE.
    """
    names = [metric_name(metric, evaluation.k) for metric in SEGMENT_METRICS]
    rows: list[Cells] = [[table.feature, "rows", "users", *names]]
    for segment in table.segments:
        head = [segment.value, f"{segment.rows:,}", f"{segment.users:,}"]
        if segment.note is not None:
            rows.append([*head, segment.note])
        elif len(segment.figures) == 1:
            rows.append([*head, *_segment_cells(segment.figures[0], brief=brief)])
        else:
            rows.append(head)
            for label, figures in zip("AB", segment.figures, strict=True):
                rows.append([f"  {label}", "", "", *_segment_cells(figures, brief=brief)])
            cells = _segment_cells(segment.difference, brief=brief, signed=True)
            rows.append(["  A - B", "", "", *cells])
    return rows


def cell(figure: Figure | None, *, signed: bool = False) -> str:
    """A figure and its interval; more digits for a difference, which is small."""
    if figure is None:
        return NOTHING
    form = "+.6f" if signed else ".4f"
    if figure.low is None or figure.high is None:
        return f"{figure.value:{form}}"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _segment_cells(figures: Figures, *, brief: bool, signed: bool = False) -> Iterator[str]:
    for metric in SEGMENT_METRICS:
        figure = figures.get(metric)
        if figure is not None and brief and metric in ("observed", "ece"):
            figure = structs.replace(figure, low=None, high=None)
        yield cell(figure, signed=signed)


def names(evaluation: Evaluation) -> list[str]:
    """Who was measured, one line each; two have the letters of the tables."""
    if len(evaluation.scored) == 1:
        return [f"Model: {evaluation.scored[0].name}"]
    return [f"{at}: {found.name}" for at, found in zip("AB", evaluation.scored, strict=True)]


def _segment_lines(evaluation: Evaluation, table: SegmentTable) -> list[str]:
    lines = _aligned(segment_rows(evaluation, table, brief=True))
    if table.overlapping:
        lines += _wrapped(OVERLAPPING)
    return lines


def _aligned(rows: list[Cells]) -> list[str]:
    """Columns as wide as their cells; a last cell may run on."""
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(_short(row[at])) for row in full) for at in range(len(rows[0]))]
    widths[0] = max(len(_short(row[0])) for row in rows)
    lines = []
    for row in rows:
        cells = [
            _short(text).ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _short(text: str) -> str:
    """One line without control characters, for a value of a log can hold anything."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= LABEL else plain[: LABEL - 1] + "…"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
