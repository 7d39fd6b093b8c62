"""A treatment against the control: CTR, latency, failures, each in every way it can be read."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from experiments.report.inputs import CONFIDENCE, NOTHING, Case, Sums
from experiments.report.measures import DEFAULTS, margin_check, measure, measured, reading, unread
from experiments.report.values import (
    Adjusted,
    Corrected,
    CtrChange,
    Difference,
    Latency,
    MarginCheck,
    Measure,
    Quantiles,
)
from experiments.stats import Estimate, NotEnoughData, geometric
from experiments.stats.corrections import benjamini_hochberg, holm
from experiments.stats.cuped import Paired, cuped
from experiments.stats.effect import Effect
from experiments.stats.quantile import quantile_change
from experiments.stats.rates import RateSample, rate_difference
from experiments.stats.ratio import always_valid_difference, log_change, ratio_difference
from experiments.stats.stratified import Phase, pooled_change


def differences(
    case: Case, latencies: Sequence[Latency], refused: str | None
) -> tuple[Difference | None, ...]:
    """One for each variant, None for the control.

    Args:
        case: The sums.
        latencies: Quantiles of each variant.
        refused: Why variants must not be compared by their sums; None if they may be.
    """
    names = [variant.name for variant in case.experiment.variants]
    if refused is not None:
        return (None, *(_refused(refused, case) for _ in names[1:]))
    compared = [
        _difference(case, name, latencies[0], latency)
        for name, latency in zip(names[1:], latencies[1:], strict=True)
    ]
    return (None, *_corrected(compared))


def _difference(case: Case, name: str, before: Latency, after: Latency) -> Difference:
    control, treatment = case.by_variant[0], case.of(name)
    rule = case.experiment.rollout or DEFAULTS

    def ctr() -> Estimate:
        return log_change(control.ctr_sample, treatment.ctr_sample)

    def computed() -> Estimate:
        return geometric.log_change(
            control.computed_latency_sample, treatment.computed_latency_sample
        )

    once, missing = _ctr(
        lambda: ratio_difference(control.ctr_sample, treatment.ctr_sample, confidence=CONFIDENCE)
    )
    always, always_missing = _ctr(
        lambda: always_valid_difference(
            control.ctr_sample, treatment.ctr_sample, confidence=CONFIDENCE
        )
    )
    return Difference(
        ctr=once,
        missing=missing,
        latency_relative=_changes(before, after),
        ctr_always=always,
        ctr_always_missing=always_missing,
        ctr_margin=margin_check(ctr, rule.ctr_margin, better="higher"),
        latency_margin=margin_check(computed, rule.latency_margin, better="lower"),
        latency_computed=reading(computed),
        latency_all=reading(
            lambda: geometric.log_change(control.latency_sample, treatment.latency_sample)
        ),
        cuped=_cuped(case, name),
        pooled=_pooled(case, name),
        error_rate=_rate(control.failure_sample, treatment.failure_sample),
        degraded_rate=_rate(control.degraded_sample, treatment.degraded_sample),
        fallback_rate=_rate(control.fallback_sample, treatment.fallback_sample),
    )


def _refused(why: str, case: Case) -> Difference:
    rule = case.experiment.rollout or DEFAULTS
    none = Measure(missing=why)
    quantiles = Quantiles(p50=none, p95=none, p99=none)

    def untold(margin: float) -> MarginCheck:
        return MarginCheck(margin=margin, verdict="unclear", missing=why)

    return Difference(
        ctr=None,
        missing=why,
        latency_relative=Latency(all=quantiles, cached=quantiles, computed=quantiles),
        ctr_always_missing=why,
        ctr_margin=untold(rule.ctr_margin),
        latency_margin=untold(rule.latency_margin),
        latency_computed=unread(why),
        latency_all=unread(why),
        error_rate=none,
        degraded_rate=none,
        fallback_rate=none,
    )


def _ctr(comparing: Callable[[], Effect]) -> tuple[CtrChange | None, str | None]:
    try:
        effect = comparing()
    except NotEnoughData as reason:
        return None, str(reason)
    return CtrChange(
        absolute=effect.absolute,
        relative=effect.relative,
        p_value=effect.p_value,
        detectable=effect.detectable,
    ), None


def _corrected(compared: Sequence[Difference]) -> tuple[Difference, ...]:
    """Each with its p-values corrected for the number of treatments."""
    if len(compared) < 2:
        return tuple(compared)
    # A treatment that has no p-value yet counts with 1: it is one of the family all the same.
    once = [d.ctr.p_value if d.ctr else 1.0 for d in compared]
    always = [d.ctr_always.p_value if d.ctr_always else 1.0 for d in compared]
    adjusted = zip(
        holm(once),
        benjamini_hochberg(once),
        holm(always),
        benjamini_hochberg(always),
        strict=True,
    )
    return tuple(
        replace(
            difference,
            corrected=Corrected(
                once_holm=a,
                once_benjamini_hochberg=b,
                always_holm=c,
                always_benjamini_hochberg=d,
            ),
        )
        for difference, (a, b, c, d) in zip(compared, adjusted, strict=True)
    )


def _cuped(case: Case, name: str) -> Adjusted | None:
    if case.before is None:
        return None
    phase, before = case.before
    control = case.experiment.control.name
    pairs = [
        Paired(before=before.get(v, NOTHING).ctr_sample, during=case.of(v).ctr_sample)
        for v in (control, name)
    ]
    phases = (case.experiment.phase, phase)
    try:
        both = cuped(*pairs)
    except NotEnoughData as reason:
        return Adjusted(change=unread(str(reason)), phases=phases)
    return Adjusted(
        change=reading(lambda: both.change), phases=phases, variance_kept=both.variance_kept
    )


def _pooled(case: Case, name: str) -> Adjusted | None:
    phases = case.same_split
    if len(phases) < 2:
        return None
    control = case.experiment.control.name

    def pooling() -> Estimate:
        sums = [case.phase_sums(phase) for phase in phases]
        return pooled_change([_phase(own, control, name) for own in sums])

    return Adjusted(change=reading(pooling), phases=phases)


def _phase(sums: Sums, control: str, treatment: str) -> Phase:
    return Phase(
        control=sums.get(control, NOTHING).ctr_sample,
        treatment=sums.get(treatment, NOTHING).ctr_sample,
    )


def _rate(control: RateSample, treatment: RateSample) -> Measure:
    return measured(lambda: rate_difference(control, treatment, confidence=CONFIDENCE))


def _changes(control: Latency, treatment: Latency) -> Latency:
    def changed(before: Quantiles, after: Quantiles) -> Quantiles:
        return Quantiles(
            p50=_change(before.p50, after.p50),
            p95=_change(before.p95, after.p95),
            p99=_change(before.p99, after.p99),
        )

    return Latency(
        all=changed(control.all, treatment.all),
        cached=changed(control.cached, treatment.cached),
        computed=changed(control.computed, treatment.computed),
    )


def _change(control: Measure, treatment: Measure) -> Measure:
    before, after = control.interval, treatment.interval
    if before is None or after is None:
        return Measure(missing=control.missing or treatment.missing)
    return measure(quantile_change(before, after))
