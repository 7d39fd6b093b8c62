"""The sums that figures come from, as JSON and back: who doubts a report can compute it again."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.definition import INTERLEAVED
from experiments.report.inputs import NOTHING, Case
from experiments.stats.geometric import LatencySample
from experiments.stats.rates import RateSample
from experiments.stats.ratio import RatioSample
from experiments.variant_statistics import LOG_UNIT, Cells, VariantStatistics

_CELLS = {
    "impressions": "cell_impressions",
    "clicks": "cell_clicks",
    "slates": "cell_slates",
    "log_latency": "cell_log_latency",
    "computed_slates": "cell_computed",
    "log_computed_latency": "cell_log_computed",
    "failures": "cell_failures",
    "degraded": "cell_degraded",
    "fallbacks": "cell_fallbacks",
}
"""Name in the report to field of `VariantStatistics`; log latencies in `LOG_UNIT`."""


def statistics_of(case: Case) -> dict[str, dict[str, Any]]:
    """Phase to variant to sums: of all phases that the report uses."""
    names = [variant.name for variant in case.experiment.variants]
    if case.experiment.method == "interleave":
        names.append(INTERLEAVED)
    phases = {phase: case.phase_sums(phase) for phase in case.same_split}
    if case.before is not None:
        phases[case.before[0]] = case.before[1]
    return {
        str(phase): {name: _of_variant(sums.get(name, NOTHING)) for name in names}
        for phase, sums in phases.items()
    }


def ctr_sample(sums: Mapping[str, Any]) -> RatioSample:
    """Clicks over impressions by cell, from the JSON of one variant."""
    return RatioSample(_cells(sums["clicks"]), _cells(sums["impressions"]))


def latency_sample(sums: Mapping[str, Any], *, computed: bool = True) -> LatencySample:
    """Log latencies by cell, of computed slates or of all."""
    logs, slates = ("log_computed_latency", "computed_slates") if computed else _ALL
    return LatencySample(_cells(sums[logs]) * LOG_UNIT, _cells(sums[slates]))


def failure_sample(sums: Mapping[str, Any]) -> RateSample:
    """Failed requests by cell."""
    failures = _cells(sums["failures"])
    return RateSample(failures, _cells(sums["slates"]) + failures)


def sketch(sums: Mapping[str, Any], kind: str = "computed") -> dict[int, int]:
    """A sketch of latencies, for `experiments.stats.quantile`: of ``computed`` or ``cached``."""
    return {int(bucket): count for bucket, count in sums[f"{kind}_latency"].items()}


_ALL = ("log_latency", "slates")


def _of_variant(sums: VariantStatistics) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(sums, of).tolist() for name, of in _CELLS.items()}
    found |= {
        "users": sums.users,
        "crossovers": sums.crossovers,
        "cached_latency": _named(sums.cached_latency),
        "computed_latency": _named(sums.computed_latency),
        "predictions": sums.predictions,
        "compute_us": sums.compute_us,
    }
    if sums.team_wins:
        found["team_wins"] = {name: own.tolist() for name, own in sums.team_wins.items()}
    return found


def _named(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(bucket): count for bucket, count in sorted(counts.items())}


def _cells(counts: list[int]) -> Cells:
    return np.asarray(counts, np.int64)
