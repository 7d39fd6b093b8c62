"""What the gate reads, and what it answers: every figure is finite, or absent with a reason."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from experiments.definition import Objective
from experiments.variant_statistics import VariantStatistics

Action = Literal["promote", "advance", "rollback", "hold", "continue"]
"""``hold``: something must be mended before a decision is possible, or a person must decide.
``continue``: all is well, and more time or units are needed."""


Ground = Literal[
    "not_running",
    "unreadable",
    "other_phase",
    "backlog",
    "errors",
    "fallbacks",
    "thompson",
    "interleaved",
    "no_exposures",
    "crossovers",
    "split",
    "split_unknown",
    "ctr_unknown",
    "latency_unknown",
    "ctr_worse",
    "latency_worse",
    "objective_worse",
    "end_to_end",
    "guardrail",
    "too_early",
    "no_harm",
    "objective",
]
"""What a judgement rests on, for machines: two with one action and one ground say the same."""


class PhaseFigures(Struct, frozen=True, kw_only=True):
    """The sums of one phase as they were read."""

    phase: int
    statistics: Mapping[str, VariantStatistics]
    """Variant name to sums; a variant without events may be absent."""
    backlog: int = 0
    """Events, of all experiments, that are accepted but not added up yet."""
    unreadable: str | None = None
    """Why there are no sums at all; None if they were read."""


class Bound(Struct, frozen=True, kw_only=True):
    """A figure with its always-valid range, and the limit that it is held against."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    """What the figure must not pass, in its own unit; None where it is only told."""
    missing: str | None = None
    """Why there is no range; None if there is one."""

    @property
    def above(self) -> bool:
        """Whether it is shown to be above its limit."""
        return self.low is not None and self.limit is not None and self.low > self.limit

    @property
    def below(self) -> bool:
        """Whether it is shown to be below its limit."""
        return self.high is not None and self.limit is not None and self.high < self.limit


class ArmEvidence(Struct, frozen=True, kw_only=True):
    """One variant: what was counted, and for a treatment how it compares with the control."""

    variant: str
    share_bp: int
    users: int
    exposures: int
    lapses: int
    """Requests of its units that got no slate."""
    impressions: int
    clicks: int
    hit_rate: float | None
    """Candidates that the cache knew; None before the first was asked for."""
    error_rate: Bound
    """Lapses over requests."""
    fallback_rate: Bound
    """Degraded slates over slates."""
    ctr: Bound | None = None
    """Relative change of the CTR (0.05 is five percent more); None for the control."""
    latency: Bound | None = None
    """Relative change of the geometric mean latency of computed slates; negative is faster."""
    latency_end_to_end: Bound | None = None
    """The same of all slates, those from the cache included."""
    p_value: float | None = None
    """Always-valid, of the metric to be improved against its limit, before Holm's correction."""
    p_adjusted: float | None = None
    """After it: compared with ``1 - confidence``."""
    cache_excuses: bool = False
    """Whether a slower `latency_end_to_end` may come from a cache that had less to warm up with:
    it knew less than the control's, while fewer requests filled it."""
    passes: bool = False
    """Whether it could be promoted: the objective is reached and nothing speaks against it."""


class Evidence(Struct, frozen=True, kw_only=True):
    """Every input, bound and limit of a judgement: who doubts a decision can redo it."""

    key: str
    phase: int
    generation: int
    objective: Objective
    target: float
    """The relative change of the objective's metric that must be passed to be promoted."""
    confidence: float
    at: float
    """When it was judged, Unix seconds."""
    stage: int | None
    """Place in the list of stages, 0 is the first."""
    stages: int
    traffic_bp: int
    seconds: float
    """How long this stage has lasted."""
    minimum_stage_s: float
    minimum_users: int
    """Per variant, in this stage."""
    backlog: int
    split_p: float | None
    """Of the observed split under the planned shares; None while there are too few units."""
    split_missing: str | None
    split_limit: float
    """A smaller `split_p` is a sample ratio mismatch."""
    crossover_rate: Bound
    arms: tuple[ArmEvidence, ...]
    """The control first."""
    config_digest: str
    """Of the definition that was judged."""


class Judgement(Struct, frozen=True, kw_only=True):
    """What is to be done, why in one plain sentence, and on what grounds."""

    action: Action
    ground: Ground
    reason: str
    evidence: Evidence
    variant: str | None = None
    """Whom to promote; None for every other action."""
