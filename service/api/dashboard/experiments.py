"""An experiment as the live page shows it: how it stands, what it has shown, what was decided."""

from typing import Literal

from msgspec import Struct

from experiments.definition import Experiment, Method, State, Variant
from experiments.report import Report
from experiments.report.document import Decided, Split
from experiments.report.values import Measure, VariantReport
from experiments.standing import Standing
from experiments.stats import Interval
from experiments.stats.cost import Cost
from service.rollouts.live import LiveExperiments

MOST_DECISIONS = 20
"""The audit log has all of them."""


class VariantFigures(Struct, frozen=True, kw_only=True):
    """What a variant has shown in this phase, from the report."""

    name: str
    users: int
    impressions: int
    clicks: int
    ctr: Measure
    """With the always-valid interval."""
    change: Interval | None
    """Of the CTR against the control, relative and always-valid; None for the control."""
    change_missing: str | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    hit_rate: float | None
    degraded_share: float | None
    cost: Cost | None
    """Where a price is set."""


class Figures(Struct, frozen=True, kw_only=True):
    """A report, without what the page has no room for."""

    as_of: str
    phase: int
    confidence: float
    verdict: str
    told: str
    plan: str
    notes: tuple[str, ...]
    split: Split
    variants: tuple[VariantFigures, ...]
    decisions: tuple[Decided, ...]
    """The newest first."""
    decisions_missing: str | None


class Arm(Struct, frozen=True, kw_only=True):
    """A variant as it is defined."""

    name: str
    share_bp: int
    serves: str
    """Its deployment, or what else it does."""


class ExperimentView(Struct, frozen=True, kw_only=True):
    """Everything the page tells of one experiment."""

    key: str
    method: Method
    state: State
    phase: int
    generation: int | None
    """None where the standing is not known."""
    since: float | None
    """Unix seconds."""
    traffic_bp: int
    stage: int | None
    stages_bp: tuple[int, ...]
    """None of them without a rollout."""
    rule: Literal["automatic", "dry_run", "off"]
    promoted: str | None
    unready: str | None
    arms: tuple[Arm, ...]
    figures: Figures | None = None
    missing: str | None = None
    """Why there are no figures, or older ones only."""


def standing_views(live: LiveExperiments) -> dict[str, ExperimentView]:
    """How every experiment stands now, without figures."""
    found = live.current().experiments
    return {e.key: _view(e, live.standing(e.key), live.unready.get(e.key)) for e in found}


def _view(found: Experiment, standing: Standing | None, unready: str | None) -> ExperimentView:
    rollout = found.rollout
    rule: Literal["automatic", "dry_run", "off"] = "off"
    if rollout is not None and rollout.dry_run:
        rule = "dry_run"
    elif rollout is not None and rollout.automatic:
        rule = "automatic"
    return ExperimentView(
        key=found.key,
        method=found.method,
        state=found.state,
        phase=found.phase,
        generation=None if standing is None else standing.generation,
        since=None if standing is None else standing.since,
        traffic_bp=found.traffic_bp,
        stage=None if standing is None else standing.stage,
        stages_bp=() if rollout is None else rollout.stages_bp,
        rule=rule,
        promoted=found.promoted,
        unready=unready,
        arms=tuple(_arm(variant) for variant in found.variants),
    )


def _arm(variant: Variant) -> Arm:
    serves = variant.deployment or "the surface's own deployment"
    return Arm(name=variant.name, share_bp=variant.share_bp, serves=serves)


def figures(report: Report) -> Figures:
    """What the page shows of a report."""
    return Figures(
        as_of=report.as_of,
        phase=report.phase,
        confidence=report.confidence,
        verdict=report.verdict,
        told=report.told,
        plan=report.plan.sentence,
        notes=report.notes,
        split=report.split,
        variants=tuple(_variant(variant) for variant in report.variants),
        decisions=report.decisions[:MOST_DECISIONS],
        decisions_missing=report.decisions_missing,
    )


def _variant(found: VariantReport) -> VariantFigures:
    difference, quantiles = found.difference, found.latency_ms.all
    always = None if difference is None else difference.ctr_always
    return VariantFigures(
        name=found.name,
        users=found.users,
        impressions=found.impressions,
        clicks=found.clicks,
        ctr=found.ctr_always,
        change=None if always is None else always.relative,
        change_missing=None if difference is None else difference.ctr_always_missing,
        p50_ms=quantiles.p50.value,
        p95_ms=quantiles.p95.value,
        p99_ms=quantiles.p99.value,
        hit_rate=found.cache.hit_rate,
        degraded_share=found.degraded_share,
        cost=found.cost,
    )
