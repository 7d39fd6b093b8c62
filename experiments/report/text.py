"""A report as a table for the terminal: plain text, at most 100 columns."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from experiments.report import beside
from experiments.report.document import Report
from experiments.report.values import Adjusted, Latency, Measure, Quantiles, VariantReport
from experiments.report.words import p_text, percent
from experiments.stats import Interval

WIDTH = 100
_LABEL = 25
_COLUMNS = 3

Row = tuple[str, list[str]]
"""A label and one cell per variant."""


def render_text(report: Report) -> str:
    """The report as lines of text; more than three variants continue in further tables."""
    lines = [
        f"Experiment {report.key}, phase {report.phase}, {report.state}, as of {report.as_of}",
        "",
        *_wrapped(report.verdict, indent=""),
        "",
    ]
    for said in beside.above(report):
        lines += _wrapped(said)
    lines.append("")
    # Interleaved slates are in no variant's arm, so the variants' columns would be empty.
    mixed = report.interleaving
    columns = report.variants if mixed is None else (mixed.slates,)
    for start in range(0, len(columns), _COLUMNS):
        lines += [*_table(report, columns[start : start + _COLUMNS]), ""]
    for said in beside.below(report):
        lines += _wrapped(said)
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _table(report: Report, variants: Sequence[VariantReport]) -> list[str]:
    width = (WIDTH - _LABEL) // len(variants)
    names = [
        f"{v.name} (control)" if v.name == report.variants[0].name else v.name for v in variants
    ]
    rows = [("", names), *_rows(variants)]
    return [_line(label, cells, width) for label, cells in rows]


def _line(label: str, cells: list[str], width: int) -> str:
    fitted = [_cut(cell, width - 2).ljust(width) for cell in cells]
    return (_cut(label, _LABEL - 1).ljust(_LABEL) + "".join(fitted)).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _rows(variants: Sequence[VariantReport]) -> Iterator[Row]:
    yield "planned share", [f"{percent(v.share_bp / 10_000)} %" for v in variants]
    yield "users", [f"{v.users:,}" for v in variants]
    yield "exposures", [f"{v.exposures:,}" for v in variants]
    yield "impressions", [f"{v.impressions:,}" for v in variants]
    yield "clicks", [f"{v.clicks:,}" for v in variants]
    yield "CTR", [_rate(v.ctr) for v in variants]
    yield from _ctr_change_rows(variants)
    yield from _corrected_rows(variants)
    yield from _mean_rows(variants)
    yield from _latency_rows("latency", variants, lambda latency: latency.all)
    yield from _latency_rows("computed", variants, lambda latency: latency.computed)
    yield from _latency_rows("cached", variants, lambda latency: latency.cached)
    yield from _share_rows(variants)
    yield from _costs(variants)


def _ctr_change_rows(variants: Sequence[VariantReport]) -> Iterator[Row]:
    changes = [v.difference.ctr if v.difference else None for v in variants]
    if not any(changes):
        return
    always = [v.difference.ctr_always if v.difference else None for v in variants]
    if any(always):
        yield "  at every look", [_percentages(c.relative) if c else "" for c in always]
    yield "  against control", [_percentages(c.relative) if c else "" for c in changes]
    yield "  in percentage points", [_points(c.absolute) if c else "" for c in changes]
    yield "  significance", [p_text(c.p_value) if c else "" for c in changes]
    yield "  detectable increase", [f"{percent(c.detectable)} %" if c else "" for c in changes]


def _corrected_rows(variants: Sequence[VariantReport]) -> Iterator[Row]:
    """Of several treatments, and what other phases add."""
    differences = [v.difference for v in variants]
    if any(d and d.corrected for d in differences):
        yield (
            "  Holm, at every look",
            [p_text(d.corrected.always_holm) if d and d.corrected else "" for d in differences],
        )
    for label, part in (("  pooled over phases", "pooled"), ("  adjusted (CUPED)", "cuped")):
        found: list[Adjusted | None] = [getattr(d, part) if d else None for d in differences]
        if any(found):
            yield label, [_percentages(a.change.always.interval) if a else "" for a in found]


def _mean_rows(variants: Sequence[VariantReport]) -> Iterator[Row]:
    means = [v.geometric_ms.computed for v in variants]
    if all(mean.interval is None for mean in means):
        return
    yield "computed, geometric mean", [_milliseconds(mean) for mean in means]
    changes = [v.difference.latency_computed.always if v.difference else None for v in variants]
    if any(change and change.interval for change in changes):
        yield "  at every look", [_percentages(c.interval) if c else "" for c in changes]


def _latency_rows(
    what: str, variants: Sequence[VariantReport], part: Callable[[Latency], Quantiles]
) -> Iterator[Row]:
    """Three quantiles, each with its change; nothing for slates that there are none of."""
    own = [part(v.latency_ms) for v in variants]
    if all(quantiles.p50.value is None for quantiles in own):
        return
    changes = [part(v.difference.latency_relative) if v.difference else None for v in variants]
    for name in ("p50", "p95", "p99"):
        yield f"{what} {name}", [_milliseconds(getattr(quantiles, name)) for quantiles in own]
        relative = [getattr(change, name).interval if change else None for change in changes]
        if any(relative):
            yield "  against control", [_percentages(change) for change in relative]


def _share_rows(variants: Sequence[VariantReport]) -> Iterator[Row]:
    yield "cache hit rate", [_share(v.cache.hit_rate) for v in variants]
    for result in sorted({result for v in variants for result in v.cache.results}):
        yield (
            f"  slates: {result}",
            [_share(_of(v.cache.results.get(result, 0), v.exposures)) for v in variants],
        )
    yield "failed requests", [_rate(v.error_rate) for v in variants]
    yield "degraded slates", [_rate(v.degraded_rate) for v in variants]
    yield "  by a fallback engine", [_rate(v.fallback_rate) for v in variants]
    for engine in sorted({engine for v in variants for engine in v.engines}):
        yield f"engine {engine}", [_share(v.engines.get(engine, 0.0)) for v in variants]


def _rate(rate: Measure) -> str:
    known = rate.interval
    if known is None:
        return f"{_share(rate.value)} ({rate.missing})"
    return f"{percent(known.value)} % [{percent(known.low)}, {percent(known.high)}]"


def _milliseconds(latency: Measure) -> str:
    known = latency.interval
    if known is None:
        value = "-" if latency.value is None else f"{latency.value:.3g} ms"
        return f"{value} ({latency.missing})"
    return f"{known.value:.3g} ms [{known.low:.3g}, {known.high:.3g}]"


def _percentages(change: Interval | None) -> str:
    if change is None:
        return ""
    low, high = percent(change.low, signed=True), percent(change.high, signed=True)
    return f"{percent(change.value, signed=True)} % [{low}, {high}]"


def _points(change: Interval) -> str:
    return _percentages(change).replace(" %", "")


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else f"{percent(fraction)} %"


def _of(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _costs(variants: Sequence[VariantReport]) -> Iterator[Row]:
    costs = [v.cost for v in variants]
    if any(costs):
        yield (
            "cost, million rankings",
            [f"{c.per_million_rankings:.3g}" if c else "" for c in costs],
        )
