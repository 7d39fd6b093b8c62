"""Figures of a variant, ready for JSON: each is finite or absent with a reason."""

from typing import Literal

from msgspec import Struct

from experiments.comparison import ComparisonSummary
from experiments.stats import Interval
from experiments.stats.cost import Cost


class Measure(Struct, frozen=True, kw_only=True):
    """A figure with its interval, or what is missing to have one."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    missing: str | None = None
    """Why there is no interval; None if there is one."""

    @property
    def interval(self) -> Interval | None:
        """The figure with its interval, if it has one."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Interval(self.value, self.low, self.high)


class Quantiles(Struct, frozen=True, kw_only=True):
    """Quantiles of one distribution of latencies, or how they changed."""

    p50: Measure
    p95: Measure
    p99: Measure


class Latency(Struct, frozen=True, kw_only=True):
    """Milliseconds from arrival to reply; quantiles are within 1 %."""

    all: Quantiles
    cached: Quantiles
    """Slates that the cache answered alone."""
    computed: Quantiles
    """Slates that an engine had to score at least in part."""


class Cache(Struct, frozen=True, kw_only=True):
    """What the cache knew."""

    hit_rate: float | None
    """Known candidates over candidates that the cache answered for; None if it never answered."""
    results: dict[str, int]
    """Slates by cache result."""


class CtrChange(Struct, frozen=True, kw_only=True):
    """How a treatment's CTR differs from the control's."""

    absolute: Interval
    """Treatment minus control, as a fraction of impressions."""
    relative: Interval
    """Treatment over control, minus 1."""
    p_value: float
    """Two-sided; below 0.05 if and only if the relative interval excludes 0."""
    detectable: float
    """The relative increase that samples of this size find 8 times in 10."""


class Reading(Struct, frozen=True, kw_only=True):
    """A relative change against the control (0.05 is five percent more), read in two ways."""

    once: Measure
    """Fixed-horizon: right for one look, at a size fixed in advance."""
    always: Measure
    """Always-valid: right at every look, however often and long one looks."""
    p_once: float | None = None
    p_always: float | None = None
    """Two-sided, of no change; None where the interval says what is missing."""


class MarginCheck(Struct, frozen=True, kw_only=True):
    """Whether a treatment is worse than the control by more than its definition allows."""

    margin: float
    """Relative, as the rollout (or its default) has it."""
    verdict: Literal["non_inferior", "inferior", "unclear"]
    worst: float | None = None
    """Relative change than which the truth is not worse, one-sided and always-valid."""
    p_value: float | None = None
    """Always-valid, of "worse by the margin or more"."""
    missing: str | None = None


class Corrected(Struct, frozen=True, kw_only=True):
    """P-values of the CTR, corrected for the number of treatments."""

    once_holm: float
    once_benjamini_hochberg: float
    always_holm: float
    always_benjamini_hochberg: float
    """Holm bounds the chance of any false alarm, Benjamini-Hochberg the share of false alarms."""


class Adjusted(Struct, frozen=True, kw_only=True):
    """The change of the CTR by more than the sums of the present phase."""

    change: Reading
    phases: tuple[int, ...]
    """Those that it uses."""
    variance_kept: float | None = None
    """Of CUPED: the variance over the one without adjustment; 0.5 is worth twice the users."""


class Difference(Struct, frozen=True, kw_only=True):
    """What a treatment changes against the control."""

    ctr: CtrChange | None
    missing: str | None
    """Why CTRs cannot be compared yet; None if they can."""
    latency_relative: Latency
    """Treatment's quantile over the control's, minus 1 (-0.1 is ten percent faster).
    A colder cache counts in `all` and not in `computed`."""
    ctr_always: CtrChange | None = None
    """The same as `ctr`, always-valid."""
    ctr_always_missing: str | None = None
    corrected: Corrected | None = None
    """None with one treatment: then there is nothing to correct."""
    ctr_margin: MarginCheck
    latency_margin: MarginCheck
    """Of computed slates."""
    latency_computed: Reading
    latency_all: Reading
    """Ratio of geometric mean latencies, clustered by unit; treatment over control, minus 1."""
    cuped: Adjusted | None = None
    """None where no A/A phase came before."""
    pooled: Adjusted | None = None
    """Over all phases of this split, compared within each; None where there is one only."""
    error_rate: Measure
    degraded_rate: Measure
    fallback_rate: Measure
    """Treatment minus control, absolute."""


class Geometric(Struct, frozen=True, kw_only=True):
    """Geometric mean latencies in milliseconds, clustered by unit."""

    all: Measure
    computed: Measure


class VariantReport(Struct, frozen=True, kw_only=True):
    """One variant: how many saw it, what they did, what it took."""

    name: str
    share_bp: int
    deployment: str | None
    users: int
    exposures: int
    impressions: int
    clicks: int
    candidates: int
    """Candidates of all its slates."""
    ctr: Measure
    """With the interval for one look."""
    ctr_always: Measure
    """The same, always-valid: right at every look, for this variant by itself."""
    latency_ms: Latency
    cache: Cache
    degraded_share: float | None
    degraded: dict[str, int]
    """Slates by why they were degraded; intention to treat keeps them in the variant."""
    engines: dict[str, float]
    """Share of the slates that each engine scored."""
    difference: Difference | None
    """None for the control."""
    geometric_ms: Geometric
    latency_by_engine: dict[str, Quantiles]
    """Computed slates by the engine that scored them: as served, not as intended."""
    lapses: int
    """Assigned requests that got no slate."""
    lapse_codes: dict[str, int]
    error_rate: Measure
    """Of assigned requests, those that failed; mistakes of the caller are not among them."""
    degraded_rate: Measure
    fallback_rate: Measure
    """Of slates; the second are part of the first."""
    late: int
    clicks_capped: int
    """Events that count nowhere else: too late, and clicks beyond the cap of their unit."""
    predictions: int
    """Rows that engines scored."""
    compute_ms: float | None
    queue_ms: float | None
    """Engine time, and time waited for an engine, per slate."""
    cost: Cost | None
    cost_missing: str | None
    shadow: tuple[ComparisonSummary, ...]
    """How it agrees with the variants that served while it scored along."""
    weighted_ctr: Measure | None = None
    """Of a bandit: weighted by inverse propensity over its phases."""
