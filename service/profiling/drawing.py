"""A profile as a picture: SVG, written as text, so that it needs no plotting package.

Above rows a second, below the time of a call with its 95th percentile, both
over the rows of a call. A colour is one graph on one engine; solid lines are
its smallest number of threads, dashed ones more of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from msgspec import Struct

from service.profiling.values import ContenderFigures, Profile, SizeFigures

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's, which the colour blind can tell apart."""
DASHES = ("none", "7 4", "2 3", "9 3 2 3")
WIDTH, PANEL, LEFT, TOP, GAP, LINE = 860, 280, 80, 56, 72, 20
RIGHT = 24

Scale = Callable[[float], float]
"""From a value to a coordinate."""
Value = Callable[[SizeFigures], float]


class _Look(Struct, frozen=True):
    """Of a contender's line."""

    colour: str
    dash: str


class _Panel(Struct, frozen=True, kw_only=True):
    """One of the two diagrams."""

    title: str
    top: float
    x: Scale
    y: Scale
    ticks: Sequence[float]


def draw_profile(profile: Profile) -> str:
    """The picture as an SVG document; every text that comes from data is escaped."""
    return "".join(f"{line}\n" for line in _document(profile))


def _document(profile: Profile) -> Iterator[str]:
    figures = profile.figures
    height = TOP + 2 * (PANEL + GAP) + LINE * len(figures)
    title = f"{profile.model}@{profile.version} on {profile.machine.cores} cores of "
    title += f"{profile.machine.cpu}, {profile.created:%Y-%m-%d}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>'
    looks = _looks(figures)
    rows = sorted({size.rows for one in figures for size in one.sizes})
    x = _logarithmic(rows, LEFT, WIDTH - RIGHT)
    yield from _rates(figures, looks, rows, x)
    yield from _latencies(figures, looks, rows, x)
    yield from _legend(figures, looks, TOP + 2 * (PANEL + GAP))
    yield "</svg>"


def _rates(
    figures: Sequence[ContenderFigures], looks: Sequence[_Look], rows: Sequence[int], x: Scale
) -> Iterator[str]:
    most = max(one.best.rows_per_s for one in figures)
    step = _step(most)
    ticks = [step * i for i in range(math.ceil(most / step) + 1)]
    y = _linear(ticks[-1], TOP + PANEL, TOP)
    panel = _Panel(title="rows/s of one engine", top=TOP, x=x, y=y, ticks=ticks)
    yield from _frame(panel, rows)
    for one, look in zip(figures, looks, strict=True):
        yield _line(panel, one.sizes, look, lambda size: size.rows_per_s)


def _latencies(
    figures: Sequence[ContenderFigures], looks: Sequence[_Look], rows: Sequence[int], x: Scale
) -> Iterator[str]:
    top = TOP + PANEL + GAP
    shown = [ms for one in figures for size in one.sizes for ms in (size.p50_ms, size.p95_ms)]
    ticks = _decades(shown)
    y = _logarithmic(ticks, top + PANEL, top)
    panel = _Panel(title="ms of a call: median, and p95 above it", top=top, x=x, y=y, ticks=ticks)
    yield from _frame(panel, rows)
    for one, look in zip(figures, looks, strict=True):
        yield _line(panel, one.sizes, look, lambda size: size.p50_ms)
        for size in one.sizes:
            at = f"{x(size.rows):.1f}"
            yield (
                f'<line x1="{at}" x2="{at}" y1="{y(size.p50_ms):.1f}" y2="{y(size.p95_ms):.1f}" '
                f'stroke="{look.colour}" stroke-opacity=".5" stroke-width="3"/>'
            )


def _frame(panel: _Panel, rows: Iterable[int]) -> Iterator[str]:
    """Title, grid and numbers."""
    bottom = panel.top + PANEL
    yield f'<text x="{LEFT}" y="{panel.top - 10}" fill="#333">{panel.title}</text>'
    for tick in panel.ticks:
        y = f"{panel.y(tick):.1f}"
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield (
            f'<text x="{LEFT - 8}" y="{y}" text-anchor="end" dominant-baseline="middle">'
            f"{_number(tick)}</text>"
        )
    for number in rows:
        x = f"{panel.x(number):.1f}"
        yield f'<line x1="{x}" x2="{x}" y1="{panel.top}" y2="{bottom}" stroke="#eee"/>'
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{number:,}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">rows of a call</text>'


def _line(panel: _Panel, sizes: Iterable[SizeFigures], look: _Look, value: Value) -> str:
    points = " ".join(f"{panel.x(s.rows):.1f},{panel.y(value(s)):.1f}" for s in sizes)
    return f'<polyline points="{points}" {_stroke(look)}/>'


def _legend(
    figures: Iterable[ContenderFigures], looks: Iterable[_Look], top: float
) -> Iterator[str]:
    for index, (one, look) in enumerate(zip(figures, looks, strict=True)):
        y = top + LINE * index
        yield f'<line x1="{LEFT}" x2="{LEFT + 36}" y1="{y - 4}" y2="{y - 4}" {_stroke(look)}/>'
        yield f'<text x="{LEFT + 46}" y="{y}">{escape(one.contender.name)}</text>'


def _looks(figures: Iterable[ContenderFigures]) -> list[_Look]:
    threads: dict[tuple[str, str, bool], list[int]] = {}
    looks = []
    for one in figures:
        who = one.contender
        seen = threads.setdefault((who.engine, who.precision, who.split), [])
        seen.append(who.threads or 0)
        colour = COLOURS[list(threads).index((who.engine, who.precision, who.split)) % len(COLOURS)]
        looks.append(_Look(colour, DASHES[(len(seen) - 1) % len(DASHES)]))
    return looks


def _stroke(look: _Look) -> str:
    return (
        f'fill="none" stroke="{look.colour}" stroke-width="2" stroke-dasharray="{look.dash}" '
        'stroke-linejoin="round"'
    )


def _linear(most: float, start: float, end: float) -> Scale:
    return lambda value: start + (end - start) * value / most


def _logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = math.log(min(values)), math.log(max(values))
    if low == high:
        return lambda _value: (start + end) / 2
    return lambda value: start + (end - start) * (math.log(value) - low) / (high - low)


def _step(most: float) -> float:
    """1, 2 or 5 times a power of ten, so that four to eight of them make `most`."""
    power: float = 10.0 ** math.floor(math.log10(most / 4))
    return next(f * power for f in (5, 2, 1) if f * power <= most / 4)


def _decades(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten, from below all values to above them."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(i for i, tick in enumerate(ticks) if tick <= min(values))
    last = min(i for i, tick in enumerate(ticks) if tick >= max(values))
    return ticks[first : last + 1]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
