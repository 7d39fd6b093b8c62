"""One variant: from its sums to its figures, by intention to treat.

A slate counts in the variant that its unit was given, whatever engine answered in the end.
"""

from collections.abc import Callable

from experiments.bandit import Allocated, refuse_plain_tests, weighted_ctr
from experiments.comparison import ComparisonSummary, comparison_sums, summary
from experiments.definition import Variant
from experiments.report.inputs import CONFIDENCE, Case
from experiments.report.measures import measured, share
from experiments.report.values import (
    Cache,
    Difference,
    Geometric,
    Latency,
    Measure,
    Quantiles,
    VariantReport,
)
from experiments.stats import Interval, NotEnoughData
from experiments.stats.cost import Cost, cost
from experiments.stats.geometric import LatencySample, design_effect, geometric_mean
from experiments.stats.quantile import Counts, quantile, quantile_interval
from experiments.stats.rates import RateSample, rate_interval
from experiments.stats.ratio import always_valid_ratio, ratio_interval
from experiments.variant_statistics import VariantStatistics


def variant_report(
    variant: Variant,
    sums: VariantStatistics,
    case: Case,
    *,
    latency: Latency,
    difference: Difference | None,
) -> VariantReport:
    priced, cost_missing = _cost(sums, case.beside.price_per_hour)
    return VariantReport(
        name=variant.name,
        share_bp=variant.share_bp,
        deployment=variant.deployment,
        users=sums.users,
        exposures=sums.exposures,
        impressions=sums.impressions,
        clicks=sums.clicks,
        candidates=sums.candidates,
        ctr=_ctr(sums, ratio_interval),
        ctr_always=_ctr(sums, always_valid_ratio),
        latency_ms=latency,
        cache=Cache(
            hit_rate=share(sums.cache_hits, sums.cache_hits + sums.cache_misses),
            results=dict(sorted(sums.cache_results.items())),
        ),
        degraded_share=share(sum(sums.degraded.values()), sums.exposures),
        degraded=dict(sorted(sums.degraded.items())),
        engines=_engines(sums),
        difference=difference,
        geometric_ms=Geometric(
            all=_geometric(sums.latency_sample), computed=_geometric(sums.computed_latency_sample)
        ),
        latency_by_engine={
            engine: quantiles(sketch, sums.computed_latency_sample)
            for engine, sketch in sorted(sums.engine_latency.items())
        },
        lapses=sums.lapses,
        lapse_codes=dict(sorted(sums.lapse_codes.items())),
        error_rate=_rate(sums.failure_sample),
        degraded_rate=_rate(sums.degraded_sample),
        fallback_rate=_rate(sums.fallback_sample),
        late=sums.late,
        clicks_capped=sums.clicks_capped,
        predictions=sums.predictions,
        compute_ms=_per_slate(sums.compute_us, sums.exposures),
        queue_ms=_per_slate(sums.queue_us, sums.exposures),
        cost=priced,
        cost_missing=cost_missing,
        shadow=_shadow(sums),
        weighted_ctr=_weighted(variant.name, case),
    )


def latency_of(sums: VariantStatistics) -> Latency:
    """Quantiles of all slates, of those that the cache answered, and of the others.

    Intervals are widened by how alike the slates of one unit are.
    """
    return Latency(
        all=quantiles(sums.latency, sums.latency_sample),
        cached=quantiles(
            sums.cached_latency,
            LatencySample(
                sums.latency_sample.log_sum - sums.computed_latency_sample.log_sum,
                sums.cell_slates - sums.cell_computed,
            ),
        ),
        computed=quantiles(sums.computed_latency, sums.computed_latency_sample),
    )


def quantiles(counts: Counts, sample: LatencySample) -> Quantiles:
    effect = design_effect(sample, counts) if counts else 1.0

    def at(q: float) -> Measure:
        try:
            return measured(
                lambda: quantile_interval(counts, q, confidence=CONFIDENCE, design_effect=effect),
                quantile(counts, q),
            )
        except NotEnoughData as reason:
            return Measure(missing=str(reason))

    return Quantiles(p50=at(0.50), p95=at(0.95), p99=at(0.99))


def _ctr(sums: VariantStatistics, interval: Callable[..., Interval]) -> Measure:
    found = measured(
        lambda: interval(sums.ctr_sample, confidence=CONFIDENCE),
        share(sums.clicks, sums.impressions),
    )
    # A ratio of sums may pass 1, but not the CTR that it estimates.
    if found.high is None or found.value is None or found.value > 1:
        return found
    return Measure(value=found.value, low=found.low, high=min(found.high, 1.0))


def _engines(sums: VariantStatistics) -> dict[str, float]:
    if not sums.exposures:
        return {}
    return {engine: slates / sums.exposures for engine, slates in sorted(sums.engines.items())}


def _geometric(sample: LatencySample) -> Measure:
    return measured(lambda: geometric_mean(sample, confidence=CONFIDENCE))


def _rate(sample: RateSample) -> Measure:
    return measured(lambda: rate_interval(sample, confidence=CONFIDENCE))


def _per_slate(microseconds: int, slates: int) -> float | None:
    return microseconds / 1000 / slates if slates else None


def _cost(sums: VariantStatistics, price_per_hour: float | None) -> tuple[Cost | None, str | None]:
    if price_per_hour is None:
        return None, "no price is set (experiments.price_per_hour)"
    try:
        return cost(
            compute_us=sums.compute_us,
            rankings=sums.exposures,
            predictions=sums.predictions,
            price_per_hour=price_per_hour,
        ), None
    except NotEnoughData as reason:
        return None, str(reason)


def _shadow(sums: VariantStatistics) -> tuple[ComparisonSummary, ...]:
    found = comparison_sums(sums.comparisons)
    return tuple(
        summary(reference, own, confidence=CONFIDENCE)
        for reference, own in sorted(found.items())
        if own.compared.any()
    )


def _weighted(name: str, case: Case) -> Measure | None:
    if refuse_plain_tests(case.experiment) is None:
        return None
    present = {variant.name: variant.share_bp for variant in case.experiment.variants}
    phases = [
        Allocated(
            shares_bp=present if phase == case.experiment.phase else case.beside.shares[phase],
            statistics=case.phase_sums(phase),
        )
        for phase in case.same_split
    ]
    return measured(lambda: weighted_ctr(phases, name, confidence=CONFIDENCE))
