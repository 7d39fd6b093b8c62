"""How one variant would have ranked what another one served, and what many of these add up to.

A comparison is an event of the stream like an exposure. It is added up in the sums of
the variant that did *not* serve, under the name of the one that did, in integers and in
constant size. Units are the random part: requests of one user resemble each other, so
means have intervals from groups of units and not from single requests.

Source:
    Cochran (1977), "Sampling Techniques", 3rd ed., section 6.5 (a ratio of sums over
    clusters, here comparisons of a group of units).
"""

from collections.abc import Mapping
from math import isfinite, sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy import special

from experiments.stats import Interval
from experiments.stats.quantile import bucket_of, quantile, size

GROUPS = 64
"""Groups of units whose comparisons are added up apart, for the variance."""
FEWEST_GROUPS = 10
"""Groups with comparisons that an interval needs."""

_PPM = 1_000_000
_PPB = 1_000_000_000
"""Scores of a good int8 engine differ by 1e-3, of an fp16 engine by 1e-5."""
_SKETCH = 100_000.0
"""Drift times this is in the range of the sketch of latencies: 1e-8 to 6."""
_PREFIX = "comparison:"

Groups = npt.NDArray[np.int64]


class Comparison(Struct, frozen=True, kw_only=True, array_like=True, tag="comparison.1"):
    """A slate that one variant served, and the scores that another one had for its candidates."""

    experiment: str
    phase: int
    variant: str
    """Scored the copy; nobody was shown it."""
    reference: str
    """Served."""
    at: float
    """Unix seconds."""
    overlap: float
    """Share of the k best items that both have among their k best."""
    kendall_tau: float | None
    """Tau-b of the two orders of all candidates, -1 to 1; None where there is no order:
    one candidate, or all scores of a side equal."""
    drift_max: float
    drift_mean: float
    """Largest and mean absolute difference of two scores of one item."""
    latency_ms: float
    """Time of its engines for the copy. Waiting is not in it: a copy waits for everybody."""
    reference_latency_ms: float | None
    """The same of the slate that was served; None where the cache had it."""
    unit: str
    """Digest of the unit that the experiment randomises; of the slate where there is none."""

    def __post_init__(self) -> None:
        numbers = (self.overlap, self.kendall_tau, self.drift_max, self.drift_mean)
        times = (self.latency_ms, self.reference_latency_ms)
        if not all(isfinite(n) for n in (*numbers, *times) if n is not None):
            raise ValueError("a comparison holds a number that is not finite")


class ComparisonSums(Struct, frozen=True, kw_only=True):
    """All comparisons of a variant with one reference. Arrays are ``[GROUPS]``."""

    compared: Groups
    overlap_ppm: Groups
    ordered: Groups
    """Comparisons that have a Kendall tau."""
    tau_ppm: Groups
    drift_ppb: Groups
    """Of the mean absolute drifts."""
    drift_max: dict[int, int]
    """Sketch of the largest drifts, times 100,000."""
    latency: dict[int, int]
    reference_latency: dict[int, int]
    """Sketches of the engine times."""


class Mean(Struct, frozen=True, kw_only=True):
    """A mean over comparisons."""

    value: float
    interval: Interval | None
    """None with too few units, and where nothing differs yet: then nothing is known of how much
    it might."""


class ComparisonSummary(Struct, frozen=True, kw_only=True):
    """How a variant agrees with the one that served."""

    reference: str
    compared: int
    overlap: Mean
    kendall_tau: Mean | None
    """None while no request had an order to compare."""
    drift_mean: Mean
    drift_p99: float
    drift_max: float
    """99 of 100 requests, and all, stay below it with each of their scores; to 1 %."""
    latency_p50_ms: float
    reference_latency_p50_ms: float | None
    """None while the cache had them all."""


def comparison_increments(event: Comparison) -> dict[str, int]:
    """What a comparison adds to the fields of its variant (HINCRBY)."""
    at, group = f"{_PREFIX}{event.reference}:", int(event.unit[:4], 16) % GROUPS
    added = {
        f"{at}n{group}": 1,
        f"{at}o{group}": round(event.overlap * _PPM),
        f"{at}d{group}": round(event.drift_mean * _PPB),
        f"{at}x{bucket_of(event.drift_max * _SKETCH)}": 1,
        f"{at}l{bucket_of(event.latency_ms)}": 1,
    }
    if event.kendall_tau is not None:
        added |= {f"{at}u{group}": 1, f"{at}t{group}": round(event.kendall_tau * _PPM)}
    if event.reference_latency_ms is not None:
        added[f"{at}r{bucket_of(event.reference_latency_ms)}"] = 1
    return added


def comparison_sums(comparisons: Mapping[str, int]) -> dict[str, ComparisonSums]:
    """Reference to sums.

    Args:
        comparisons: `experiments.variant_statistics.VariantStatistics.comparisons`: the fields
            without their prefix. Names of another version are left out.
    """
    by_reference: dict[str, dict[str, dict[int, int]]] = {}
    for name, value in comparisons.items():
        reference, _, place = name.rpartition(":")
        if place[:1] and place[1:].isdecimal():
            kinds = by_reference.setdefault(reference, {})
            kinds.setdefault(place[0], {})[int(place[1:])] = value
    return {reference: _sums(kinds) for reference, kinds in by_reference.items()}


def summary(reference: str, sums: ComparisonSums, *, confidence: float = 0.95) -> ComparisonSummary:
    """Means with intervals, and quantiles.

    Raises:
        ValueError: there is no comparison.
    """
    compared = int(sums.compared.sum())
    if not compared:
        raise ValueError(f"nothing was compared with {reference!r}")

    def mean(total: Groups, count: Groups, unit: int) -> Mean:
        return _mean(total / unit, count, confidence)

    return ComparisonSummary(
        reference=reference,
        compared=compared,
        overlap=mean(sums.overlap_ppm, sums.compared, _PPM),
        kendall_tau=mean(sums.tau_ppm, sums.ordered, _PPM) if sums.ordered.any() else None,
        drift_mean=mean(sums.drift_ppb, sums.compared, _PPB),
        drift_p99=quantile(sums.drift_max, 0.99) / _SKETCH,
        drift_max=quantile(sums.drift_max, 1.0) / _SKETCH,
        latency_p50_ms=quantile(sums.latency, 0.5),
        reference_latency_p50_ms=(
            quantile(sums.reference_latency, 0.5) if size(sums.reference_latency) else None
        ),
    )


def _mean(total: npt.NDArray[np.float64], count: Groups, confidence: float) -> Mean:
    """Sum over count, with a linearised variance between groups of units."""
    filled = count > 0
    total, n = total[filled], count[filled].astype(np.float64)
    value = float(total.sum() / n.sum())
    groups, weight = len(n), n / n.sum()
    if groups < FEWEST_GROUPS or 1 / float(np.sum(weight**2)) < FEWEST_GROUPS / 2:
        return Mean(value=value, interval=None)
    # A group's residual over 1 - weight is what it would be had the others alone made the mean.
    residual = (total - value * n) / (1 - weight) / n.sum()
    error = sqrt(float(np.sum(residual**2)) * (groups - 1) / groups)
    if error < 1e-12:
        return Mean(value=value, interval=None)
    reach = float(special.stdtrit(groups - 1, (1 + confidence) / 2)) * error
    return Mean(value=value, interval=Interval(value, value - reach, value + reach))


def _sums(kinds: Mapping[str, Mapping[int, int]]) -> ComparisonSums:
    def groups(kind: str) -> Groups:
        sums = np.zeros(GROUPS, np.int64)
        for group, value in kinds.get(kind, {}).items():
            sums[group] = value
        return sums

    return ComparisonSums(
        compared=groups("n"),
        overlap_ppm=groups("o"),
        ordered=groups("u"),
        tau_ppm=groups("t"),
        drift_ppb=groups("d"),
        drift_max=dict(kinds.get("x", {})),
        latency=dict(kinds.get("l", {})),
        reference_latency=dict(kinds.get("r", {})),
    )
