"""An evaluation as one page that needs nothing else: no script, no font, no network."""

from collections.abc import Iterator, Sequence
from html import escape

from ranking_models.evaluation import plots
from ranking_models.evaluation.text import (
    OVERLAPPING,
    Cells,
    conditions,
    histogram_rows,
    metric_rows,
    names,
    reliability_rows,
    roc_rows,
    segment_rows,
    summary,
)
from ranking_models.evaluation.values import Evaluation, SegmentTable

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
figure { margin: 0; max-width: 34rem; } figure svg { display: block; height: auto; width: 100%; }
figcaption { font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: .5rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; min-width: 6rem; max-width: 16rem; white-space: normal;
  overflow-wrap: break-word; }
td.note { text-align: left; font-style: italic; }
.notes { background: var(--quiet); border-left: 4px solid #d9822b; padding: .5rem 1rem; }
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(evaluation: Evaluation) -> str:
    """The page; every text that comes from data is escaped."""
    return "".join(line + "\n" for line in _page(evaluation))


def _page(evaluation: Evaluation) -> Iterator[str]:
    title = escape("Evaluation of " + " and ".join(s.name for s in evaluation.scored))
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>"
    yield f"<h1>{title}</h1>"
    for line in names(evaluation):
        yield f"<p>{escape(line)}</p>"
    yield f"<p>{escape(summary(evaluation))}</p>"
    if evaluation.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
        yield f'<ul class="notes">{notes}</ul>'
    yield "<h2>Figures</h2>"
    yield _table(metric_rows(evaluation), "Metrics with their intervals")
    yield f"<p>{escape(conditions(evaluation))}</p>"
    yield from _plots(evaluation)
    for at, (letter, scored) in enumerate(zip("AB", evaluation.scored, strict=False)):
        which = f" of {letter}: {scored.name}" if len(evaluation.scored) > 1 else ""
        yield f"<h2>Calibration{escape(which)}</h2>"
        yield _table(reliability_rows(evaluation, at), "Share of clicks by score")
    for table in evaluation.segments:
        yield from _segments(evaluation, table)
    yield "</main>\n</body>\n</html>"


def _plots(evaluation: Evaluation) -> Iterator[str]:
    aucs = ", ".join(f"AUC {s.figures['auc'].value:.4f}" for s in evaluation.scored)
    eces = ", ".join(f"ECE {s.figures['ece'].value:.4f}" for s in evaluation.scored)
    yield '<h2>Plots</h2>\n<div class="plots">'
    yield _figure(
        plots.reliability_plot(evaluation),
        f"Share of clicks against mean score in bins with as many rows each; {eces}. "
        "On the dotted line both agree. The numbers are in the calibration table.",
    )
    yield _figure(
        plots.roc_plot(evaluation),
        f"ROC curve: share of clicks against share of non-clicks at or above each score; {aucs}. "
        "The dotted line is chance.",
        roc_rows(evaluation),
    )
    yield _figure(
        plots.histogram_plot(evaluation),
        "Rows by score, clicks filled and non-clicks as a line. "
        "A model that tells them apart has the two apart.",
        histogram_rows(evaluation),
    )
    yield "</div>"


def _segments(evaluation: Evaluation, table: SegmentTable) -> Iterator[str]:
    yield f"<h2>By {escape(table.feature)}</h2>"
    if table.overlapping:
        yield f"<p>{OVERLAPPING}</p>"
    plot = plots.segment_plot(table)
    if plot is not None:
        words = (
            f"AUC and its interval by {table.feature}; 0.5 is chance. "
            "The numbers are in the table below."
        )
        yield _figure(plot, words)
    rows = segment_rows(evaluation, table, brief=False)
    yield _table(rows, f"Figures by {table.feature}")


def _figure(svg: str, words: str, rows: Sequence[Cells] = ()) -> str:
    text = escape(words)
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
    numbers = ""
    if rows:
        numbers = f"<details><summary>Numbers</summary>{_table(rows, words)}</details>"
    return f"<figure>{labelled}<figcaption>{text}</figcaption>{numbers}</figure>"


def _table(rows: Sequence[Cells], caption: str) -> str:
    """A table that scrolls by itself where it is too wide; short lines end in a note."""
    header, *lines = rows
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{_cells(line, len(header))}</tr>" for line in lines)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(line: Cells, columns: int) -> str:
    first, *rest = line
    cells = [f'<th scope="row">{escape(first.strip())}</th>']
    cells += [f"<td>{escape(cell)}</td>" for cell in rest]
    if len(line) < columns:
        text = escape(rest[2]) if len(rest) > 2 else ""
        span = f'<td class="note" colspan="{columns - 3}">{text}</td>'
        cells = [*cells[:3], span]
    return "".join(cells)
