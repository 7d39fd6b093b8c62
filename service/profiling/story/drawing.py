"""The story as a picture: SVG by itself, light or dark as its reader's page is.

Two panels, step under step: requests a second of the closed loop as bars, and
the latency of the open loop from p50 to p99 on a logarithmic axis: at the largest
rate that is sustained, or at the smallest that was measured where none is.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape

from msgspec import Struct

from service.profiling.story.values import OpenLoop, StepFigures, StepLeftOut, Story

WIDTH, LEFT, MIDDLE, RIGHT = 960, 24, 560, 40
TOP, ROW, BAR, FOOT = 96, 62, 18, 64
ROOM, LABEL = 120, 64
"""Right of a bar for its number; of a span for its end in words."""
STYLE = """\
svg { --ink: #1b1f24; --soft: #59636e; --rule: #d8dee4; --page: #ffffff;
      --bar: #0072b2; --last: #b34700; font-family: system-ui, sans-serif; font-size: 13px }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --soft: #9aa4af; --rule: #333b44; --page: #14181d;
        --bar: #56b4e9; --last: #f0a35e }
}
.page { fill: var(--page) } text { fill: var(--ink) } .soft { fill: var(--soft); font-size: 12px }
.rule { stroke: var(--rule) } .limit { stroke: var(--soft); stroke-dasharray: 4 4 }
.bar { fill: var(--bar) } .last { fill: var(--last) }
.span { stroke: var(--bar); stroke-width: 4; stroke-linecap: round }
.span.of-last { stroke: var(--last) }
"""


class _Axis(Struct, frozen=True):
    """Milliseconds, logarithmic, from the decade below all values to the one above."""

    low: int
    high: int

    def at(self, ms: float) -> float:
        """A coordinate."""
        share = (math.log10(ms) - self.low) / (self.high - self.low)
        return MIDDLE + (WIDTH - RIGHT - MIDDLE) * share

    @property
    def ticks(self) -> list[float]:
        """Powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw_story(story: Story) -> str:
    """The picture as an SVG document; every text that comes from data is escaped."""
    return "".join(f"{line}\n" for line in _document(story))


def _document(story: Story) -> Iterator[str]:
    told: list[StepFigures | StepLeftOut] = [*story.steps, *story.left_out]
    rows = sorted(told, key=lambda row: row.number)
    bottom = TOP + ROW * len(rows)
    height = bottom + FOOT
    title = f"{story.model}: the same traffic, step by step"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="page" width="{WIDTH}" height="{height}"/>'
    yield f'<text x="{LEFT}" y="30" font-size="17" font-weight="600">{escape(title)}</text>'
    yield f'<text class="soft" x="{LEFT}" y="50">{escape(_subtitle(story))}</text>'
    yield f'<text class="soft" x="{LEFT}" y="{TOP - 18}">requests/s, closed loop</text>'
    axis = _axis(story.steps)
    yield from _grid(axis, bottom, story)
    for place, row in enumerate(rows):
        top = TOP + ROW * place
        if isinstance(row, StepLeftOut):
            yield from _missing(row, top)
        else:
            yield from _step(row, story, axis, top)
    yield f'<text class="soft" x="{LEFT}" y="{height - 14}">{escape(_machine(story))}</text>'
    yield "</svg>"


def _step(step: StepFigures, story: Story, axis: _Axis, top: float) -> Iterator[str]:
    most = max(one.per_s for one in story.steps)
    room = MIDDLE - LEFT - ROOM
    width = max(2.0, room * step.per_s / most) if most else 2.0
    is_last = step is story.steps[-1]
    name = f"{step.number}  {step.name}"
    hits = "" if step.page_hits is None else f", {step.page_hits:.0%} of the pages from the cache"
    hits = f'<tspan class="soft">{hits}</tspan>'
    yield f'<text x="{LEFT}" y="{top + 14}">{escape(name)}{hits}</text>'
    yield (
        f'<rect class="{"last" if is_last else "bar"}" x="{LEFT}" y="{top + 22}" '
        f'width="{width:.1f}" height="{BAR}" rx="2"/>'
    )
    yield (
        f'<text x="{LEFT + width + 8:.1f}" y="{top + 36}">{step.per_s:,.0f}'
        f'<tspan class="soft">  {step.times:.1f}x</tspan></text>'
    )
    yield from _span(step, axis, top + 31, is_last=is_last)


def _span(step: StepFigures, axis: _Axis, y: float, *, is_last: bool) -> Iterator[str]:
    shown = _shown(step)
    low, high = shown.latency.p50_ms, shown.latency.p99_ms
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    start, end = axis.at(low), axis.at(high)
    yield (
        f'<line class="span{" of-last" if is_last else ""}" x1="{start:.1f}" x2="{end:.1f}" '
        f'y1="{y}" y2="{y}"/>'
    )
    rate = f"{shown.rate_per_s:,.0f}/s{'' if shown.is_sustained else ', not sustained'}"
    # In the middle of the panel where the span is short and at its edge.
    middle = min(max((start + end) / 2, MIDDLE + LABEL), WIDTH - RIGHT - LABEL)
    yield f'<text class="soft" x="{middle:.1f}" y="{y + 20}" text-anchor="middle">{rate}</text>'
    yield (
        f'<circle class="{"last" if is_last else "bar"}" cx="{start:.1f}" cy="{y}" r="5"/>'
        f'<text class="soft" x="{start:.1f}" y="{y - 10}" text-anchor="end">{_ms(low)}</text>'
        f'<text class="soft" x="{min(end, WIDTH - LABEL):.1f}" y="{y - 10}">{_ms(high)} ms</text>'
    )


def _shown(step: StepFigures) -> OpenLoop:
    return step.sustained or step.open[0]


def _missing(left: StepLeftOut, top: float) -> Iterator[str]:
    reason = left.reason if len(left.reason) <= 72 else f"{left.reason[:71]}…"
    yield f'<text class="soft" x="{LEFT}" y="{top + 14}">{left.number}  {escape(left.name)}</text>'
    yield (
        f'<text class="soft" x="{LEFT}" y="{top + 36}">not measured: {escape(reason)}'
        f"<title>{escape(left.reason)}</title></text>"
    )


def _grid(axis: _Axis, bottom: float, story: Story) -> Iterator[str]:
    limit = story.sustained_p99_ms
    said = f"open loop in ms: p50 (dot) to p99, sustained up to {limit:g} (dashed)"
    yield f'<text class="soft" x="{MIDDLE}" y="{TOP - 18}">{said}</text>'
    for tick in axis.ticks:
        x = f"{axis.at(tick):.1f}"
        yield f'<line class="rule" x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{bottom}"/>'
        yield f'<text class="soft" x="{x}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
    if axis.ticks[0] <= limit <= axis.ticks[-1]:
        x = f"{axis.at(limit):.1f}"
        yield f'<line class="limit" x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{bottom}"/>'


def _axis(steps: Sequence[StepFigures]) -> _Axis:
    shown = [
        ms
        for step in steps
        for latency in (_shown(step).latency,)
        for ms in (latency.p50_ms, latency.p99_ms)
        if math.isfinite(ms) and ms > 0
    ] or [1.0]
    low = math.floor(math.log10(min(shown)))
    return _Axis(low, max(low + 1, math.ceil(math.log10(max(shown)))))


def _subtitle(story: Story) -> str:
    traffic = story.traffic
    return (
        f"{traffic.page_share:.0%} item pages (Zipf {traffic.zipf:g} over {traffic.items:,} items)"
        f", {1 - traffic.page_share:.0%} rank requests of {traffic.candidates} candidates"
    )


def _machine(story: Story) -> str:
    return (
        f"{story.machine.cores} cores of {story.machine.cpu}, shared with the load generator; "
        f"{story.workers} processes each; {story.created:%Y-%m-%d}"
    )


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
