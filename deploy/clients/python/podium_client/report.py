"""The report of an experiment: the verdict, and all that it rests on."""

from typing import Any

from msgspec import Struct

from podium_client.figures import Interval, Measure, VariantReport


class Split(Struct, frozen=True, kw_only=True):
    """Whether the units split as planned (sample ratio mismatch, SRM)."""

    verdict: str
    """One of ``ok``, ``mismatch``, ``unknown``."""
    p_value: float | None = None
    missing: str | None = None
    always_valid_p: float | None = None
    """Holds at every look; `p_value` is for one, with a limit of 0.001."""


class Bound(Struct, frozen=True, kw_only=True):
    """A figure with its always-valid range, and the limit that it is held against."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    """What the figure must not pass, in its own unit; None where it is only told."""
    missing: str | None = None
    """Why there is no range; None if there is one."""


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
    objective: str
    """One of ``ctr``, ``latency``."""
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


class RuleReport(Struct, frozen=True, kw_only=True):
    """What the rule of rollouts says of these figures now."""

    action: str
    """One of ``promote``, ``advance``, ``rollback``, ``hold``, ``continue``."""
    ground: str
    """One of ``not_running``, ``unreadable``, ``other_phase``, ``backlog``, ``errors``,
    ``fallbacks``, ``thompson``, ``interleaved``, ``no_exposures``, ``crossovers``, ``split``,
    ``split_unknown``, ``ctr_unknown``, ``latency_unknown``, ``ctr_worse``, ``latency_worse``,
    ``objective_worse``, ``end_to_end``, ``guardrail``, ``too_early``, ``no_harm``,
    ``objective``."""
    reason: str
    variant: str | None
    acts: str
    """One of ``automatic``, ``dry_run``, ``asked``. ``automatic``: it is done. ``dry_run``: it
    is only recorded. ``asked``: it is only said here, since the definition has no rollout
    that lets the rule act."""
    evidence: Evidence


class Need(Struct, frozen=True, kw_only=True):
    """What one treatment still needs to show a change of the size that is looked for."""

    variant: str
    detectable_once: float | None = None
    detectable_always: float | None = None
    """The relative increase that the data of now find 8 times in 10."""
    growth_once: float | None = None
    growth_always: float | None = None
    """How many times the data of now are needed; 1 or less: they are there."""
    users_left: int | None = None
    """More units, of all variants, until the always-valid interval finds it."""
    days_left: float | None = None
    """At the traffic of this phase so far."""
    missing: str | None = None
    """What there must be first; None if the figures above are there."""


class Plan(Struct, frozen=True, kw_only=True):
    """Until when: what is missing, and how long it takes at the present traffic."""

    smallest: float
    """The relative change that is looked for: the rollout's margin of the CTR, or its default."""
    seconds: float | None
    """How long the phase has lasted; None where nobody knows."""
    users_per_day: float | None
    needs: tuple[Need, ...]
    sentence: str


class Crossovers(Struct, frozen=True, kw_only=True):
    """Units that were in more than one variant of the phase."""

    units: int
    share: Measure
    """Of all units."""
    limit: float
    verdict: str
    """One of ``ok``, ``exceeded``, ``unclear``, ``unknown``."""


class PhaseReport(Struct, frozen=True, kw_only=True):
    """One phase of the experiment: its units and whether they split as planned."""

    phase: int
    kind: str
    """One of ``present``, ``earlier``, ``before``. ``before``: the A/A phase that CUPED uses."""
    shares_bp: dict[str, int]
    users: dict[str, int]
    impressions: dict[str, int]
    split: Split


class Preference(Struct, frozen=True, kw_only=True):
    """What users prefer. Positive is for the second ranker, the treatment."""

    delta: Interval
    """Clicks credited to the treatment less those to the control, over all: -1 to 1."""
    p_value: float
    """Two-sided, of delta = 0: below ``1 - confidence`` if and only if `delta` excludes 0."""
    wins: int
    losses: int
    ties: int
    """Clusters (slates, units, or cells of units) in which the treatment got more clicks, fewer,
    or as many; those without clicks are not among them."""
    sign_p_value: float
    """Two-sided binomial test of wins against losses: as if each cluster had one vote."""
    clicks: int


class Interleaved(Struct, frozen=True, kw_only=True):
    """Slates that both rankers made together."""

    slates: VariantReport
    """What the units that take part saw; all of them are in this one arm."""
    wins: dict[str, int]
    """Clicks credited to each variant's ranker."""
    preference: Preference | None
    missing: str | None
    why: str
    """Why there is no split to check and no CTR to compare."""


class FalsePositives(Struct, frozen=True, kw_only=True):
    """How often one test was wrong."""

    test: str
    """One of ``fixed``, ``fixed, peeking``, ``always-valid, peeking``, ``impressions, naive``.
    Read once at the end, or at every look and stopped at the first find; the naive one takes
    impressions for independent."""
    found: int
    """Deals in which it found a difference."""
    rate: Interval
    """The share of the deals, with its exact binomial interval."""


class SelfCheck(Struct, frozen=True, kw_only=True):
    """The false-positive rates of our tests on the data of an A/A phase."""

    deals: int
    looks: int
    """How often each deal was looked at by the tests that peek."""
    alpha: float
    """The rate that a test promises to stay within."""
    cells: int
    """Groups of units that were dealt."""
    tests: tuple[FalsePositives, ...]


class SelfChecked(Struct, frozen=True, kw_only=True):
    """How often our own tests find a difference in data of an A/A phase."""

    check: SelfCheck | None
    missing: str | None = None


class Decided(Struct, frozen=True, kw_only=True):
    """One entry of the audit log with the figures that made it."""

    at: str
    """RFC 3339, UTC."""
    action: str
    by: str
    reason: str
    dry_run: bool
    phase: int | None
    state: str | None
    traffic_bp: int | None
    """After it."""
    figures: tuple[str, ...]
    """What the rule had before it, a line for each variant; none for a person's decision."""


class Report(Struct, frozen=True, kw_only=True):
    """An experiment's figures at one moment, in one phase."""

    key: str
    phase: int
    state: str
    """One of ``draft``, ``running``, ``paused``, ``aa``, ``rolled_back``, ``promoted``,
    ``stopped``."""
    unit: str
    """One of ``user``, ``session``, ``user_or_session``."""
    as_of: str
    """RFC 3339, UTC."""
    confidence: float
    """Coverage of each interval by itself."""
    verdict: str
    """One sentence."""
    notes: tuple[str, ...]
    """What else a reader must know."""
    split: Split
    variants: tuple[VariantReport, ...]
    """The control first."""
    told: str
    """How the experiment stands, in plain words."""
    promoted: str | None
    """The variant that serves everybody now."""
    objective: str
    """One of ``ctr``, ``latency``."""
    policy: str
    """One of ``fixed``, ``thompson``."""
    method: str
    """One of ``split``, ``interleave``."""
    traffic_bp: int
    since: str | None
    """When this state and phase began; None where it is not known."""
    rule: RuleReport | None
    """None where the standing is not known."""
    plan: Plan
    crossovers: Crossovers
    phases: tuple[PhaseReport, ...]
    """The newest first."""
    plain_tests_refused: str | None
    """Why variants are not compared by their sums; None if they are."""
    interleaving: Interleaved | None
    self_check: SelfChecked | None
    """Of an A/A phase; None in other states."""
    decisions: tuple[Decided, ...]
    """The newest first."""
    decisions_missing: str | None
    statistics: dict[str, dict[str, Any]] | None = None
    """Phase to variant to sums by cell, where they were asked for; `experiments.report.sums`."""
