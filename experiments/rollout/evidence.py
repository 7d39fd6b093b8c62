"""From the sums of a phase to everything that its judgement may rest on."""

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from experiments.definition import WHOLE_BP, Experiment, Variant
from experiments.rollout.bounds import (
    ctr_change,
    improvement_p,
    latency_change,
    rate,
)
from experiments.rollout.values import ArmEvidence, Bound, Evidence, PhaseFigures
from experiments.rollout_plan import Rollout
from experiments.standing import Standing, in_force
from experiments.stats import NotEnoughData
from experiments.stats.corrections import holm
from experiments.stats.crossover import wilson_interval
from experiments.stats.srm import ALARM_P, check_split
from experiments.variant_statistics import VariantStatistics

COLDER = 0.05
"""How much less a cache must know of the candidates to be called colder."""

_NOTHING = VariantStatistics.from_fields({})
_DEFAULT = Rollout()


def gather(
    definition: Experiment, standing: Standing, figures: PhaseFigures, now: float
) -> Evidence:
    """Every input, bound and limit, with the experiment as it is in force.

    A definition without a rollout is held to the rollout's defaults.
    """
    experiment, rule = in_force(definition, standing), definition.rollout or _DEFAULT
    sums = [figures.statistics.get(v.name, _NOTHING) for v in experiment.variants]
    split_p, split_missing = _split(experiment, sums)
    return Evidence(
        key=definition.key,
        phase=standing.phase,
        generation=standing.generation,
        objective=definition.objective,
        target=-rule.latency_gain if definition.objective == "latency" else 0.0,
        confidence=rule.confidence,
        at=now,
        stage=standing.stage,
        stages=len(definition.rollout.stages_bp) if definition.rollout else 0,
        traffic_bp=experiment.traffic_bp,
        # A clock that was set back makes a stage younger, never older.
        seconds=max(0.0, now - standing.since),
        minimum_stage_s=rule.minimum_stage_s,
        minimum_users=rule.minimum_users,
        backlog=figures.backlog,
        split_p=split_p,
        split_missing=split_missing,
        split_limit=ALARM_P,
        crossover_rate=_crossovers(sums, rule),
        arms=_arms(experiment, rule, sums),
        config_digest=sha256(msgspec.json.encode(definition)).hexdigest()[:16],
    )


def _split(
    experiment: Experiment, sums: Sequence[VariantStatistics]
) -> tuple[float | None, str | None]:
    try:
        units = [own.users for own in sums]
        return check_split(units, [v.share_bp for v in experiment.variants]).p_value, None
    except NotEnoughData as reason:
        return None, str(reason)


def _crossovers(sums: Sequence[VariantStatistics], rule: Rollout) -> Bound:
    limit, crossed = rule.max_crossover_rate, sum(own.crossovers for own in sums)
    try:
        # Who is in two variants is a user of both.
        share = wilson_interval(crossed, max(crossed, sum(own.users for own in sums) - crossed))
    except NotEnoughData as reason:
        return Bound(limit=limit, missing=str(reason))
    return Bound(value=share.value, low=share.low, high=share.high, limit=limit)


def _arms(
    experiment: Experiment, rule: Rollout, sums: Sequence[VariantStatistics]
) -> tuple[ArmEvidence, ...]:
    counted = [_arm(v, own, rule) for v, own in zip(experiment.variants, sums, strict=True)]
    control, treatments = counted[0], counted[1:]
    compared = [
        _compared(experiment, rule, control, arm, sums[0], own)
        for arm, own in zip(treatments, sums[1:], strict=True)
    ]
    # Promoting one of several is a success for any of them, so their p-values are corrected;
    # guardrails and margins must hold all together, which is stricter already.
    adjusted = holm([1.0 if arm.p_value is None else arm.p_value for arm in compared])
    return (
        control,
        *(
            replace(arm, p_adjusted=p, passes=_passes(experiment, rule, arm, p))
            for arm, p in zip(compared, adjusted, strict=True)
        ),
    )


def _arm(variant: Variant, sums: VariantStatistics, rule: Rollout) -> ArmEvidence:
    asked = sums.cache_hits + sums.cache_misses
    return ArmEvidence(
        variant=variant.name,
        share_bp=variant.share_bp,
        users=sums.users,
        exposures=sums.exposures,
        lapses=sums.lapses,
        impressions=sums.impressions,
        clicks=sums.clicks,
        hit_rate=sums.cache_hits / asked if asked else None,
        error_rate=rate(sums.failure_sample, limit=rule.max_error_rate, confidence=rule.confidence),
        fallback_rate=rate(
            sums.degraded_sample, limit=rule.max_fallback_rate, confidence=rule.confidence
        ),
    )


def _compared(
    experiment: Experiment,
    rule: Rollout,
    control: ArmEvidence,
    treatment: ArmEvidence,
    before: VariantStatistics,
    sums: VariantStatistics,
) -> ArmEvidence:
    sure = rule.confidence
    return replace(
        treatment,
        ctr=ctr_change(before, sums, limit=-rule.ctr_margin, confidence=sure),
        latency=latency_change(
            before, sums, of="computed", limit=rule.latency_margin, confidence=sure
        ),
        latency_end_to_end=latency_change(
            before, sums, of="all", limit=rule.latency_margin, confidence=sure
        ),
        p_value=improvement_p(
            before,
            sums,
            objective=experiment.objective,
            gain=rule.latency_gain if experiment.objective == "latency" else 0.0,
            confidence=sure,
        ),
        cache_excuses=_cache_excuses(experiment, control, treatment),
    )


def _cache_excuses(experiment: Experiment, control: ArmEvidence, treatment: ArmEvidence) -> bool:
    """Whether the treatment's cache is colder and could not be as warm.

    The control's scores are often those of all traffic outside the experiment as well; only
    where everybody takes part, by equal shares, have the caches had the same chance.
    """
    alike = experiment.traffic_bp == WHOLE_BP and treatment.share_bp >= control.share_bp
    if alike or control.hit_rate is None or treatment.hit_rate is None:
        return False
    return control.hit_rate - treatment.hit_rate >= COLDER


def _passes(experiment: Experiment, rule: Rollout, arm: ArmEvidence, p_adjusted: float) -> bool:
    reached = p_adjusted <= 1 - rule.confidence
    other = arm.latency if experiment.objective == "ctr" else arm.ctr
    not_inferior = other is not None and (
        other.below if experiment.objective == "ctr" else other.above
    )
    return reached and not_inferior and not uneasy(arm) and not slower_end_to_end(arm)


def uneasy(arm: ArmEvidence) -> bool:
    """Whether a guardrail's observed rate is above its limit, by chance or not."""
    rates = (arm.error_rate, arm.fallback_rate)
    return any(r.value is not None and r.value > (r.limit or 0.0) for r in rates)


def slower_end_to_end(arm: ArmEvidence) -> bool:
    """Whether users of the treatment wait longer than allowed, and no cold cache explains it."""
    bound = arm.latency_end_to_end
    return bound is not None and bound.above and not arm.cache_excuses
