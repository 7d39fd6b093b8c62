"""What a report holds, ready for JSON: every figure is finite or absent with a reason."""

from typing import Literal

from msgspec import Struct

from experiments.definition import State, UnitKind
from experiments.stats import Interval


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


class Difference(Struct, frozen=True, kw_only=True):
    """What a treatment changes against the control."""

    ctr: CtrChange | None
    missing: str | None
    """Why CTRs cannot be compared yet; None if they can."""
    latency_relative: Latency
    """Treatment's quantile over the control's, minus 1 (-0.1 is ten percent faster).
    A colder cache counts in `all` and not in `computed`."""


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
    latency_ms: Latency
    cache: Cache
    degraded_share: float | None
    degraded: dict[str, int]
    """Slates by why they were degraded; intention to treat keeps them in the variant."""
    engines: dict[str, float]
    """Share of the slates that each engine scored."""
    difference: Difference | None
    """None for the control."""


class Split(Struct, frozen=True, kw_only=True):
    """Whether the units split as planned (sample ratio mismatch, SRM)."""

    verdict: Literal["ok", "mismatch", "unknown"]
    p_value: float | None = None
    missing: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """An experiment's figures at one moment, in one phase."""

    key: str
    phase: int
    state: State
    unit: UnitKind
    as_of: str
    """RFC 3339, UTC."""
    confidence: float
    """Coverage of each interval by itself, if it is read once."""
    verdict: str
    """One sentence."""
    notes: tuple[str, ...]
    """What else a reader must know."""
    split: Split
    variants: tuple[VariantReport, ...]
    """The control first."""
