"""Intervals, drawn: one lane for each figure, on one axis. Inline SVG without a script.

Positions across are percentages, so a chart is as wide as its page and its letters keep
their size.
"""

from collections.abc import Callable, Sequence
from math import floor, log10
from typing import Literal

from msgspec import Struct

from experiments.report.html.parts import text
from experiments.report.values import Measure

_LANE, _TOP, _AXIS = 46, 4, 24
_LEFT, _RIGHT = 2.0, 98.0
"""Where the axis begins and ends, in percent: dots at the ends are drawn whole."""
_NAME = 22


class Bar(Struct, frozen=True):
    """One interval of a lane."""

    measure: Measure
    kind: Literal["always", "once"]
    """Drawn wide and pale, or narrow and strong."""


class Lane(Struct, frozen=True):
    """What is drawn above one another, with its name."""

    name: str
    said: str
    """The figure in words."""
    bars: tuple[Bar, ...]


class Mark(Struct, frozen=True):
    """A line through all lanes."""

    at: float
    kind: Literal["zero", "limit"]


def chart(
    title: str,
    lanes: Sequence[Lane],
    *,
    show: Callable[[float], str],
    marks: Sequence[Mark] = (),
    logarithmic: bool = False,
) -> str:
    """All lanes on one axis; nothing where there is no figure at all.

    Args:
        title: What it shows, for those who do not see it.
        lanes: From top to bottom.
        show: A position of the axis in words.
        marks: Lines such as that of no change.
        logarithmic: For latencies; then all figures are above 0.
    """
    ends = [n for lane in lanes for bar in lane.bars for n in _ends(bar.measure)]
    if not ends:
        return ""
    scale = _Scale.of([*ends, *(mark.at for mark in marks)], logarithmic=logarithmic)
    height = _TOP + _LANE * len(lanes)
    told = "; ".join(f"{lane.name}: {lane.said}" for lane in lanes)
    return (
        f'<svg class="chart" role="img" aria-label="{text(f"{title}. {told}")}" width="100%" '
        f'height="{height + _AXIS}">'
        + "".join(_tick(scale, at, len(lanes), show) for at in scale.ticks())
        + "".join(_through(mark.kind, scale.across(mark.at), len(lanes)) for mark in marks)
        + "".join(_lane(scale, lane, _TOP + _LANE * at) for at, lane in enumerate(lanes))
        + "</svg>"
    )


class _Scale(Struct, frozen=True):
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float], *, logarithmic: bool) -> "_Scale":
        low, high = min(values), max(values)
        if logarithmic:
            low, high = log10(max(low, 1e-6)), log10(max(high, 1e-6))
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, logarithmic)

    def across(self, value: float) -> float:
        at = log10(max(value, 1e-6)) if self.logarithmic else value
        return _LEFT + (_RIGHT - _LEFT) * (at - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Three to five round numbers."""
        if self.logarithmic:
            low, high = 10**self.low, 10**self.high
            round_ones = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)]
            inside = [n for n in round_ones if low <= n <= high]
            if len(inside) >= 2:
                return inside[:: -(-len(inside) // 5)]
        else:
            low, high = self.low, self.high
        step = _round_step((high - low) / 3)
        first = floor(low / step) + 1
        return [n * step for n in range(first, first + 8) if n * step <= high]


def _round_step(rough: float) -> float:
    size = 10.0 ** floor(log10(rough))
    return next(m * size for m in (1, 2, 5, 10) if rough <= m * size)


def _ends(measure: Measure) -> tuple[float, ...]:
    return tuple(n for n in (measure.value, measure.low, measure.high) if n is not None)


def _tick(scale: _Scale, at: float, lanes: int, show: Callable[[float], str]) -> str:
    x = scale.across(at)
    anchor = "start" if x < 10 else "end" if x > 90 else "middle"
    return (
        _through("grid", x, lanes)
        + f'<text class="tick" x="{x:.2f}%" y="{_TOP + _LANE * lanes + 16}" '
        f'text-anchor="{anchor}">{text(show(at))}</text>'
    )


def _through(kind: str, x: float, lanes: int) -> str:
    """A line through the bars of all lanes, and not through their words."""
    tops = (_TOP + _LANE * at for at in range(lanes))
    return "".join(
        f'<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y + 19}" y2="{y + _LANE - 3}"/>'
        for y in tops
    )


def _lane(scale: _Scale, lane: Lane, top: int) -> str:
    short = lane.name if len(lane.name) <= _NAME else f"{lane.name[: _NAME - 1]}…"
    return (
        f'<text class="name" x="0" y="{top + 14}">{text(short)}'
        f'<tspan class="said" dx="8">{text(lane.said)}</tspan></text>'
        + "".join(_bar(scale, bar, top + 30) for bar in lane.bars)
    )


def _bar(scale: _Scale, bar: Bar, y: int) -> str:
    known = bar.measure.interval
    drawn = ""
    if known is not None:
        low, high = scale.across(known.low), scale.across(known.high)
        drawn = f'<line class="{bar.kind}" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
    if bar.measure.value is None or (bar.kind == "always" and known is None):
        return drawn
    hollow = "" if known is not None else " hollow"
    x = scale.across(bar.measure.value)
    return f'{drawn}<circle class="dot{hollow}" cx="{x:.2f}%" cy="{y}" r="4.5"/>'
