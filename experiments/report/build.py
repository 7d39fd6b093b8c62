"""From sums to figures. Too little data gives a reason, never NaN and never an exception."""

from collections.abc import Mapping
from datetime import UTC, datetime

from experiments.definition import Experiment, Variant
from experiments.report.values import (
    Cache,
    CtrChange,
    Difference,
    Latency,
    Measure,
    Quantiles,
    Report,
    Split,
    VariantReport,
)
from experiments.report.verdict import notes_on, verdict_on
from experiments.stats import Interval, NotEnoughData
from experiments.stats.quantile import Counts, quantile, quantile_change, quantile_interval
from experiments.stats.ratio import ratio_difference, ratio_interval
from experiments.stats.srm import check_split
from experiments.variant_statistics import VariantStatistics

CONFIDENCE = 0.95

_NOTHING = VariantStatistics.from_fields({})


def build_report(
    experiment: Experiment,
    statistics: Mapping[str, VariantStatistics],
    *,
    as_of: float,
    backlog: int = 0,
) -> Report:
    """Analyse one phase, by intention to treat.

    A slate counts in the variant that its unit was given, whatever engine
    answered in the end.

    Args:
        experiment: The definition that the phase ran under.
        statistics: Variant name to sums; a variant without events may be absent.
        as_of: When the sums were read, in Unix seconds.
        backlog: Events, of all experiments, that the sums do not hold yet.
    """
    sums = [statistics.get(variant.name, _NOTHING) for variant in experiment.variants]
    latencies = [_latency(own) for own in sums]
    differences = [
        _difference(sums[0], own, _changes(latencies[0], latency)) if at else None
        for at, (own, latency) in enumerate(zip(sums, latencies, strict=True))
    ]
    variants = tuple(map(_variant, experiment.variants, sums, latencies, differences))
    split = _split(experiment, sums)
    return Report(
        key=experiment.key,
        phase=experiment.phase,
        state=experiment.state,
        unit=experiment.unit,
        as_of=datetime.fromtimestamp(int(as_of), UTC).isoformat().replace("+00:00", "Z"),
        confidence=CONFIDENCE,
        verdict=verdict_on(experiment, split, variants),
        notes=notes_on(
            experiment,
            variants,
            crossovers=sum(own.crossovers for own in sums),
            backlog=backlog,
        ),
        split=split,
        variants=variants,
    )


def _variant(
    variant: Variant, sums: VariantStatistics, latency: Latency, difference: Difference | None
) -> VariantReport:
    return VariantReport(
        name=variant.name,
        share_bp=variant.share_bp,
        deployment=variant.deployment,
        users=sums.users,
        exposures=sums.exposures,
        impressions=sums.impressions,
        clicks=sums.clicks,
        candidates=sums.candidates,
        ctr=_ctr(sums),
        latency_ms=latency,
        cache=Cache(
            hit_rate=_share(sums.cache_hits, sums.cache_hits + sums.cache_misses),
            results=dict(sorted(sums.cache_results.items())),
        ),
        degraded_share=_share(sum(sums.degraded.values()), sums.exposures),
        degraded=dict(sorted(sums.degraded.items())),
        engines={
            engine: slates / sums.exposures
            for engine, slates in sorted(sums.engines.items())
            if sums.exposures
        },
        difference=difference,
    )


def _ctr(sums: VariantStatistics) -> Measure:
    value = _share(sums.clicks, sums.impressions)
    try:
        interval = ratio_interval(sums.ctr_sample, confidence=CONFIDENCE)
    except NotEnoughData as reason:
        return Measure(value=value, missing=str(reason))
    # A ratio of sums may pass 1, but not the CTR that it estimates.
    high = interval.high if interval.value > 1 else min(interval.high, 1.0)
    return Measure(value=interval.value, low=interval.low, high=high)


def _difference(
    control: VariantStatistics, treatment: VariantStatistics, latency: Latency
) -> Difference:
    try:
        effect = ratio_difference(control.ctr_sample, treatment.ctr_sample, confidence=CONFIDENCE)
    except NotEnoughData as reason:
        return Difference(ctr=None, missing=str(reason), latency_relative=latency)
    change = CtrChange(
        absolute=effect.absolute,
        relative=effect.relative,
        p_value=effect.p_value,
        detectable=effect.detectable,
    )
    return Difference(ctr=change, missing=None, latency_relative=latency)


def _latency(sums: VariantStatistics) -> Latency:
    return Latency(
        all=_quantiles(sums.latency),
        cached=_quantiles(sums.cached_latency),
        computed=_quantiles(sums.computed_latency),
    )


def _quantiles(counts: Counts) -> Quantiles:
    return Quantiles(
        p50=_quantile(counts, 0.50), p95=_quantile(counts, 0.95), p99=_quantile(counts, 0.99)
    )


def _quantile(counts: Counts, q: float) -> Measure:
    try:
        return _measure(quantile_interval(counts, q, confidence=CONFIDENCE))
    except NotEnoughData as reason:
        return Measure(value=quantile(counts, q) if counts else None, missing=str(reason))


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
    return _measure(quantile_change(before, after))


def _split(experiment: Experiment, sums: list[VariantStatistics]) -> Split:
    shares = [variant.share_bp for variant in experiment.variants]
    try:
        check = check_split([own.users for own in sums], shares)
    except NotEnoughData as reason:
        return Split(verdict="unknown", missing=str(reason))
    return Split(verdict="mismatch" if check.mismatch else "ok", p_value=check.p_value)


def _measure(interval: Interval) -> Measure:
    return Measure(value=interval.value, low=interval.low, high=interval.high)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
