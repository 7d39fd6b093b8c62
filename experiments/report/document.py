"""What a whole report holds, ready for JSON: every figure is finite or absent with a reason."""

from typing import Any, Literal

from msgspec import Struct

from experiments.aa import SelfCheck
from experiments.definition import Method, Objective, Policy, State, UnitKind
from experiments.interleaving import Preference
from experiments.report.values import Measure, VariantReport
from experiments.rollout import Action, Evidence
from experiments.rollout.values import Ground

Light = Literal["ok", "mismatch", "unknown"]
PhaseKind = Literal["present", "earlier", "before"]


class Split(Struct, frozen=True, kw_only=True):
    """Whether the units split as planned (sample ratio mismatch, SRM)."""

    verdict: Light
    p_value: float | None = None
    missing: str | None = None
    always_valid_p: float | None = None
    """Holds at every look; `p_value` is for one, with a limit of 0.001."""


class PhaseReport(Struct, frozen=True, kw_only=True):
    """One phase of the experiment: its units and whether they split as planned."""

    phase: int
    kind: PhaseKind
    """``before``: the A/A phase that CUPED uses."""
    shares_bp: dict[str, int]
    users: dict[str, int]
    impressions: dict[str, int]
    split: Split


class Crossovers(Struct, frozen=True, kw_only=True):
    """Units that were in more than one variant of the phase."""

    units: int
    share: Measure
    """Of all units."""
    limit: float
    verdict: Literal["ok", "exceeded", "unclear", "unknown"]


class RuleReport(Struct, frozen=True, kw_only=True):
    """What the rule of rollouts says of these figures now."""

    action: Action
    ground: Ground
    reason: str
    variant: str | None
    acts: Literal["automatic", "dry_run", "asked"]
    """``automatic``: it is done. ``dry_run``: it is only recorded. ``asked``: it is only said here,
    since the definition has no rollout that lets the rule act."""
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
    state: State
    unit: UnitKind
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
    objective: Objective
    policy: Policy
    method: Method
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
