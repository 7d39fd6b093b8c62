"""Always-valid bounds of one variant, and of a treatment against the control."""

from math import log1p
from typing import Literal

import numpy as np
from msgspec.structs import replace

from experiments.definition import Objective
from experiments.rollout.rare import highest_ratio, lower_bound
from experiments.rollout.values import Bound
from experiments.stats import Estimate, NotEnoughData, geometric
from experiments.stats.estimate import relative, turned
from experiments.stats.rates import RateSample, rate_estimate
from experiments.stats.ratio import MINIMUM_CLUSTERS, log_change
from experiments.stats.sequential import always_valid_interval, always_valid_p
from experiments.variant_statistics import Cells, VariantStatistics

LatencyOf = Literal["computed", "all"]

FEW_CELLS = 30
"""Cells of units with a click from which on an interval from variances sees a loss as well."""


def rate(sample: RateSample, *, limit: float, confidence: float) -> Bound:
    """A rate of failures. Half of the error is for the few (`rare`), half for the many.

    Args:
        sample: Failures and requests by cell of units.
        limit: The largest rate that is fine.
        confidence: That the truth is between both ends, at every look at once.
    """
    half = (1 + confidence) / 2
    try:
        many = always_valid_interval(rate_estimate(sample), confidence=half)
    except NotEnoughData as reason:
        return Bound(limit=limit, missing=str(reason))
    cells, requests = int(np.count_nonzero(sample.events)), int(sample.requests.sum())
    low = lower_bound(cells, requests, confidence=half)
    if _effective(sample.events) >= MINIMUM_CLUSTERS:
        low = max(low, many.low)
    return Bound(value=sample.rate, low=low, high=min(1.0, many.high), limit=limit)


def _effective(events: Cells) -> float:
    """How many equal cells would hold as many failures as evenly: one for a single client that
    tries again and again, whose requests look like a sample and are one event."""
    return float(events.sum()) ** 2 / float(np.sum(events**2)) if events.any() else 0.0


def ctr_change(
    control: VariantStatistics, treatment: VariantStatistics, *, limit: float, confidence: float
) -> Bound:
    """How the CTR differs, relatively.

    The upper end holds for a treatment of few clicks, or none, as well (`highest_ratio`).
    Each way has half of the error on that side, so a loss is called with all of it at most.
    """
    try:
        estimate = log_change(control.ctr_sample, treatment.ctr_sample)
        many = change(estimate, limit=limit, confidence=confidence)
    except NotEnoughData as reason:
        many = Bound(limit=limit, missing=str(reason))
    return _with_few_clicks(many, control, treatment, confidence=confidence)


def latency_change(
    control: VariantStatistics,
    treatment: VariantStatistics,
    *,
    of: LatencyOf,
    limit: float,
    confidence: float,
) -> Bound:
    """How the geometric mean latency differs, relatively: of computed slates, or of all."""
    try:
        estimate = _log_latency_change(control, treatment, of)
    except NotEnoughData as reason:
        return Bound(limit=limit, missing=str(reason))
    return change(estimate, limit=limit, confidence=confidence)


def change(estimate: Estimate, *, limit: float, confidence: float) -> Bound:
    """A logarithm of treatment over control as a relative change."""
    try:
        found = relative(always_valid_interval(estimate, confidence=confidence))
    except (NotEnoughData, OverflowError):
        return Bound(limit=limit, missing="too few units for a bound that is always valid")
    return Bound(value=found.value, low=found.low, high=found.high, limit=limit)


def improvement_p(
    control: VariantStatistics,
    treatment: VariantStatistics,
    *,
    objective: Objective,
    gain: float,
    confidence: float,
) -> float | None:
    """Always-valid p of "no better than `gain`"; 1 where it looks worse, None without figures.

    Two-sided, so that it says the same as the interval of the same confidence.
    """
    try:
        if objective == "ctr":
            estimate = log_change(control.ctr_sample, treatment.ctr_sample)
        else:
            estimate = turned(_log_latency_change(control, treatment, "computed"))
    except NotEnoughData:
        return None
    null = log1p(gain) if objective == "ctr" else -log1p(-gain)
    if estimate.value <= null:
        return 1.0
    return always_valid_p(estimate, null=null, confidence=confidence)


def _with_few_clicks(
    many: Bound, control: VariantStatistics, treatment: VariantStatistics, *, confidence: float
) -> Bound:
    clicking = int(np.count_nonzero(treatment.cell_clicks))
    if clicking > FEW_CELLS or not (treatment.impressions and control.clicks):
        return many
    share = treatment.impressions / (treatment.impressions + control.impressions)
    others = int(np.count_nonzero(control.cell_clicks))
    high = highest_ratio(clicking, others, share, confidence=(1 + confidence) / 2) - 1
    if many.low is not None and many.high is not None:
        return replace(many, high=max(min(many.high, high), many.low))
    if high >= 0:
        return many
    ratio = treatment.ctr_sample.ratio / control.ctr_sample.ratio
    return Bound(value=min(ratio - 1, high), low=-1.0, high=high, limit=many.limit)


def _log_latency_change(
    control: VariantStatistics, treatment: VariantStatistics, of: LatencyOf
) -> Estimate:
    if of == "all":
        return geometric.log_change(control.latency_sample, treatment.latency_sample)
    return geometric.log_change(control.computed_latency_sample, treatment.computed_latency_sample)
