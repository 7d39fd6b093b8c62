"""From counts to what a chart shows: one point per slot, over all workers."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import isinf

from msgspec import Struct

from service.api.dashboard.samples import SLOT_S, Counts
from service.telemetry import names

WINDOW_SLOTS = 5
"""Quantiles are over ten seconds: over two, the slowest of a few requests would be the P99."""

Buckets = Mapping[float, float]
"""Upper bound to the number of values up to it, as Prometheus counts them."""


class Quantiles(Struct, frozen=True, kw_only=True):
    """Milliseconds, read from the buckets of the metric: between two bounds, a straight line."""

    p50: float
    p95: float
    p99: float


class Traffic(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rankings of one variant in the last ten seconds."""

    per_s: float = 0.0
    ms: Quantiles | None = None
    """None where there was none."""


class Point(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A slot. Counts are of the slot, and what is not there was 0."""

    at: float
    """Unix seconds: its end."""
    everything: Traffic
    variants: dict[str, Traffic] = {}
    """``experiment:variant``, or ``none`` for rankings outside experiments."""
    outcomes: dict[str, float] = {}
    cache: dict[str, float] = {}
    levels: dict[str, float] = {}
    shed: dict[str, float] = {}
    degraded: dict[str, float] = {}
    expired: float = 0.0
    batches: dict[str, float] = {}
    """Largest number of rows to batches that had so many, and more than the bound before."""
    rows: float = 0.0
    queue_ms: Quantiles | None = None
    """Of the last ten seconds."""


def point(number: int, counts: Counts, window: Counts) -> Point:
    """The point of a slot.

    Args:
        number: The slot.
        counts: Of this slot.
        window: Of the last ten seconds.
    """
    latency = f"{names.M_REQUEST_SECONDS}_bucket"
    variants = {values[0] for values in window.get(latency, {})}
    rows = f"{names.M_BATCH_ROWS}_bucket"
    return Point(
        at=(number + 1) * SLOT_S,
        everything=_traffic(None, window),
        variants={name: _traffic(name, window) for name in sorted(variants)},
        outcomes=_by(counts, f"{names.M_REQUESTS}_total", 1),
        cache=_by(counts, f"{names.M_CACHE}_total"),
        levels=_by(counts, f"{names.M_CACHE_FOUND}_total"),
        shed=_by(counts, f"{names.M_SHED}_total"),
        degraded=_by(counts, f"{names.M_DEGRADED}_total"),
        expired=_total(counts, f"{names.M_DEADLINE_EXCEEDED}_total"),
        batches=_apart(_buckets(counts.get(rows, {}).items())),
        rows=_total(counts, f"{names.M_BATCH_ROWS}_sum"),
        queue_ms=quantiles(_buckets(window.get(f"{names.M_QUEUE_SECONDS}_bucket", {}).items())),
    )


def quantiles(buckets: Buckets) -> Quantiles | None:
    """None of nothing."""
    if not buckets or not max(buckets.values()):
        return None
    bounds = sorted(buckets)
    counts = [buckets[bound] for bound in bounds]
    return Quantiles(
        p50=1000 * _quantile(0.50, bounds, counts),
        p95=1000 * _quantile(0.95, bounds, counts),
        p99=1000 * _quantile(0.99, bounds, counts),
    )


def _quantile(q: float, bounds: list[float], counts: list[float]) -> float:
    """As Prometheus's ``histogram_quantile``; beyond the last bound, that bound."""
    rank = q * counts[-1]
    at = bisect_left(counts, rank)
    if isinf(bounds[at]):
        return bounds[at - 1]
    low, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    return low + (bounds[at] - low) * (rank - below) / (counts[at] - below)


def _traffic(variant: str | None, window: Counts) -> Traffic:
    """Of a variant; None: of all."""
    found = window.get(f"{names.M_REQUEST_SECONDS}_bucket", {}).items()
    buckets = _buckets((at[1:], count) for at, count in found if variant in (None, at[0]))
    ended = max(buckets.values(), default=0.0)
    return Traffic(per_s=ended / (WINDOW_SLOTS * SLOT_S), ms=quantiles(buckets))


def _buckets(series: Iterable[tuple[tuple[str, ...], float]]) -> Buckets:
    """By upper bound, whatever else tells the series apart."""
    rose: dict[float, float] = {}
    for (bound,), count in series:
        rose[float(bound)] = rose.get(float(bound), 0.0) + count
    return rose


def _apart(buckets: Buckets) -> dict[str, float]:
    """What fell into each bucket, without what fell into those below it."""
    found: dict[str, float] = {}
    below = 0.0
    for bound in sorted(buckets):
        if count := buckets[bound] - below:
            found["more" if isinf(bound) else f"{bound:.0f}"] = count
        below = buckets[bound]
    return found


def _by(counts: Counts, name: str, label: int = 0) -> dict[str, float]:
    """A counter by one of its labels."""
    found: dict[str, float] = {}
    for values, count in counts.get(name, {}).items():
        found[values[label]] = found.get(values[label], 0.0) + count
    return found


def _total(counts: Counts, name: str) -> float:
    return sum(counts.get(name, {}).values())
