"""Latency quantiles from counts in logarithmic buckets.

Means hide the tail and raw latencies grow without bound. A sketch of counts
has constant size, adds up across processes, and any quantile of it is within
1 % of the true one.

Source:
    Masson, Rim, Lee (2019), "DDSketch: a fast and fully-mergeable quantile
    sketch with relative-error guarantees", VLDB; arXiv:1908.10693.
    David, Nagaraja (2003), "Order Statistics", 3rd ed., section 7.1 (intervals
    from order statistics). Woodruff (1952), "Confidence intervals for medians and other
    position measures", JASA 47 (the same with a design effect). Zou, Donner
    (2008), Statistics in Medicine 27.
"""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from math import ceil, exp, hypot, isfinite, log

from scipy import special

from experiments.stats import Interval, NotEnoughData

RELATIVE_ERROR = 0.01
SHORTEST_MS, LONGEST_MS = 0.001, 600_000.0
"""What lies outside counts as the nearer end: one microsecond, ten minutes."""

_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH = log(_GROWTH)

Counts = Mapping[int, int]
"""Bucket to how many values fell into it."""


def bucket_of(latency_ms: float) -> int:
    """The bucket of a latency, 0 to 1011.

    Bucket ``b`` holds ``SHORTEST_MS * (growth^(b-1), growth^b]``.

    Raises:
        ValueError: it is not a finite number of at least 0.
    """
    if not isfinite(latency_ms) or latency_ms < 0:
        raise ValueError(f"a latency must be a finite number >= 0, got {latency_ms}")
    inside = min(max(latency_ms, SHORTEST_MS), LONGEST_MS)
    return ceil(log(inside / SHORTEST_MS) / _LOG_GROWTH)


def _upper_edge_ms(bucket: int) -> float:
    """The largest latency of a bucket."""
    return SHORTEST_MS * exp(bucket * _LOG_GROWTH)


def size(counts: Counts) -> int:
    """How many values are in a sketch."""
    return sum(counts.values())


def merged(*sketches: Counts) -> dict[int, int]:
    """The sketch of all their values together."""
    total: dict[int, int] = {}
    for counts in sketches:
        for bucket, count in counts.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def quantile(counts: Counts, q: float) -> float:
    """The q-quantile in milliseconds: the smallest value with a share of ``q`` at or below it.

    Raises:
        NotEnoughData: the sketch is empty.
    """
    n = size(counts)
    if n == 0:
        raise NotEnoughData("no latencies yet")
    return _middle_ms(_bucket_at(counts, max(1, ceil(q * n))))


def quantile_interval(
    counts: Counts, q: float, *, confidence: float = 0.95, design_effect: float = 1.0
) -> Interval:
    """A quantile in milliseconds with an interval from order statistics.

    No shape of the distribution is assumed. The ends are outer edges of their
    buckets, so the sketch's own error is inside.

    Args:
        counts: The sketch.
        q: In ``(0, 1)``.
        confidence: Two-sided coverage.
        design_effect: So many requests of the same units say as much as one alone would
            (`geometric.design_effect`); 1 counts requests as independent, which is too
            narrow where units send many.

    Raises:
        NotEnoughData: the interval would reach the shortest or longest value,
            whose position says nothing.
    """
    n = size(counts)
    effective = int(n / design_effect)
    ranks = _ranks(effective, q, confidence) if effective else None
    if ranks is None:
        raise NotEnoughData(f"{effective} of {least_size(q, confidence)} requests")
    low, high = (min(n, max(1, round(rank / effective * n))) for rank in ranks)
    return Interval(
        quantile(counts, q),
        _upper_edge_ms(_bucket_at(counts, low) - 1),
        _upper_edge_ms(_bucket_at(counts, high)),
    )


def log_variance(counts: Counts) -> float:
    """Variance of the natural logarithms of the latencies in a sketch that is not empty.

    From the middles of the buckets, which are 2 % apart.
    """
    n = size(counts)
    mean = sum(bucket * count for bucket, count in counts.items()) / n
    spread = sum(count * (bucket - mean) ** 2 for bucket, count in counts.items()) / n
    return spread * _LOG_GROWTH**2


def quantile_change(control: Interval, treatment: Interval) -> Interval:
    """Treatment's quantile over the control's, minus 1, with an interval.

    The two intervals are put together on the logarithm (Zou, Donner).
    """
    value = log(treatment.value / control.value)
    below = hypot(log(treatment.value / treatment.low), log(control.high / control.value))
    above = hypot(log(treatment.high / treatment.value), log(control.value / control.low))
    return Interval(exp(value) - 1, exp(value - below) - 1, exp(value + above) - 1)


def _ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """The order statistics that enclose the quantile; None if one is at an end of the sample."""
    tail = (1 - confidence) / 2
    low, high = _binomial_quantile(tail, n, q), _binomial_quantile(1 - tail, n, q) + 1
    return (low, high) if 1 < low <= high < n else None


def _binomial_quantile(share: float, n: int, q: float) -> int:
    """The smallest count of successes in ``n`` that has at least ``share`` at or below it."""
    return ceil(special.bdtrik(share, n, q))


@cache
def least_size(q: float, confidence: float = 0.95) -> int:
    """The smallest sample that has an interval for this quantile."""
    sizes = range(2, 1_000_000)
    return sizes[bisect_left(sizes, True, key=lambda n: _ranks(n, q, confidence) is not None)]


def _bucket_at(counts: Counts, rank: int) -> int:
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return bucket
    raise ValueError(f"rank {rank} is beyond the {seen} values of the sketch")


def _middle_ms(bucket: int) -> float:
    # 2 g^b / (g + 1) is equally far, relatively, from both edges of the bucket.
    return _upper_edge_ms(bucket) * 2 / (_GROWTH + 1)
