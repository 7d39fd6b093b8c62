"""The plots of a report, as SVG text to stand inside a page.

Lines and text are drawn in `INK`, which becomes ``currentColor``: the page
decides whether it is dark. Data has colours that read on both.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ranking_models.evaluation.values import Evaluation, Segment, SegmentTable

INK = "#010203"
"""No other mark has this colour."""

COLOURS = ("#2f81c7", "#d9822b")
"""Of the first and the second scorer: blue and orange, told apart by colour-blind eyes too."""

STYLE: dict[Any, Any] = {  # the stubs list every key of every version
    "svg.fonttype": "none",
    "text.parse_math": False,  # a feature's value may hold dollar signs
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}

LABEL = 22
"""Most characters of a segment's name beside its bar."""


def reliability_plot(evaluation: Evaluation) -> str:
    """Share of clicks by mean score, with intervals; the diagonal is perfect."""

    def draw(axes: Axes) -> None:
        edge = max(
            max(found.predicted, found.observed.high or found.observed.value)
            for scored in evaluation.scored
            for found in scored.reliability
        )
        axes.plot([0, edge], [0, edge], color=INK, linewidth=0.8, linestyle=":")
        for name, scored, colour in zip("AB", evaluation.scored, COLOURS, strict=False):
            bins = scored.reliability
            x, y = [b.predicted for b in bins], [b.observed.value for b in bins]
            ends = [(b.observed.low, b.observed.high) for b in bins]
            axes.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1, label=name)
            for at, (low, high) in zip(x, ends, strict=True):
                if low is not None and high is not None:
                    axes.plot([at, at], [low, high], color=colour, linewidth=0.8)
        axes.set_xlabel("mean score")
        axes.set_ylabel("CTR")
        _legend(axes, evaluation)

    return _svg(draw, "reliability")


def roc_plot(evaluation: Evaluation) -> str:
    """The ROC curves; the diagonal is chance."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for name, scored, colour in zip("AB", evaluation.scored, COLOURS, strict=False):
            x, y = zip(*scored.roc, strict=True)
            axes.plot(x, y, color=colour, linewidth=1.2, label=name)
        axes.set_xlabel("share of non-clicks at or above a score")
        axes.set_ylabel("share of clicks")
        _legend(axes, evaluation)

    return _svg(draw, "roc")


def histogram_plot(evaluation: Evaluation) -> str:
    """How many rows have which score: the first scorer's, clicks filled, the rest as a line."""

    def draw(axes: Axes) -> None:
        counts = np.array(evaluation.scored[0].histogram)
        edges = np.linspace(0, 1, len(counts) + 1)
        axes.stairs(counts[:, 1], edges, fill=True, color=COLOURS[0], alpha=0.7, label="clicks")
        axes.stairs(counts[:, 0], edges, color=COLOURS[1], linewidth=1.2, label="non-clicks")
        axes.set_xlabel("score" if len(evaluation.scored) == 1 else "score of A")
        axes.set_ylabel("rows")
        axes.legend(fontsize=8)

    return _svg(draw, "histogram")


def segment_plot(table: SegmentTable) -> str | None:
    """AUC per segment with its interval; None where no segment has figures."""
    shown = [segment for segment in table.segments if segment.figures]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for at, name in enumerate("AB"[: len(shown[0].figures)]):
            _bars(axes, shown, at, name, of=len(shown[0].figures))
        axes.set_yticks(range(len(shown)), [_short(segment.value) for segment in shown])
        axes.invert_yaxis()
        axes.set_xlabel("AUC")
        low = min(_low_end(segment) for segment in shown)
        axes.set_xlim(left=max(0.0, min(0.5, low - 0.02)))
        if len(shown[0].figures) > 1:
            axes.legend(fontsize=8)

    return _svg(draw, f"segments-{table.feature}", height=1.0 + 0.3 * len(shown))


def _bars(axes: Axes, shown: Sequence[Segment], at: int, name: str, *, of: int) -> None:
    thickness = 0.7 / of
    for position, segment in enumerate(shown):
        figure = segment.figures[at]["auc"]
        y = position + (at - (of - 1) / 2) * thickness
        label = name if position == 0 else None
        axes.barh(y, figure.value, thickness, color=COLOURS[at], alpha=0.7, label=label)
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [y, y], color=INK, linewidth=1)


def _low_end(segment: Segment) -> float:
    aucs = [figures["auc"] for figures in segment.figures]
    return min(auc.value if auc.low is None else auc.low for auc in aucs)


def _legend(axes: Axes, evaluation: Evaluation) -> None:
    if len(evaluation.scored) > 1:
        axes.legend(fontsize=8)


def _short(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= LABEL else plain[: LABEL - 1] + "…"


def _svg(draw: Callable[[Axes], None], name: str, *, height: float = 3.0) -> str:
    # The salt keeps the ids of one plot apart from those of the next, and the same every time.
    with (
        matplotlib.rc_context({**STYLE, "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # a letter that the measuring font lacks
        canvas = Canvas(figsize=(4.2, height), layout="constrained")
        draw(canvas.add_subplot())
        content = io.StringIO()
        canvas.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
