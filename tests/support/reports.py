"""Sums of planted experiments and what stands beside them, for tests of reports."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from experiments.decisions import DecisionRecord
from experiments.definition import Experiment, Rollout, Variant
from experiments.report import Beside, Report, build_report
from experiments.standing import Standing, first_standing, in_force
from experiments.stats.quantile import bucket_of
from experiments.variant_statistics import CELLS, VariantStatistics

NOW = 1_790_000_000.0
DAY = 86_400.0
HALVES = (
    Variant(name="old", share_bp=5000, deployment="old"),
    Variant(name="new", share_bp=5000, deployment="new"),
)
ROLLED_OUT = Experiment(key="careful", variants=HALVES, rollout=Rollout(automatic=True))


def planted(
    *,
    ctr: float = 0.05,
    impressions: float = 200.0,
    latency_ms: float = 8.0,
    users: int = 10_000,
    seed: int = 1,
    taste: Sequence[float] | None = None,
    **fields: int,
) -> VariantStatistics:
    """A variant whose cells click with ``ctr`` and take ``latency_ms``, times their own taste."""
    rng = np.random.default_rng(seed)
    shown = rng.poisson(impressions, CELLS)
    liking = np.ones(CELLS) if taste is None else np.asarray(taste)
    clicks = rng.binomial(shown, np.clip(ctr * liking, 0, 1))
    slates = shown // 10 + 1
    logs = slates * np.log(latency_ms) * 1e6 + rng.normal(0, 1e5, CELLS)
    sums: dict[str, int] = {
        "users": users,
        "exposures": int(slates.sum()),
        "impressions": int(shown.sum()),
        "clicks": int(clicks.sum()),
        "engine:onnxruntime-cpu": int(slates.sum()),
        "cache:miss": int(slates.sum()),
        f"l{bucket_of(latency_ms)}": int(slates.sum()),
        f"on:onnxruntime-cpu:{bucket_of(latency_ms)}": int(slates.sum()),
    }
    for prefix, cells in {"i": shown, "c": clicks, "n": slates, "m": slates}.items():
        sums |= {f"{prefix}{cell}": int(count) for cell, count in enumerate(cells)}
    for prefix in ("g", "k"):
        sums |= {f"{prefix}{cell}": round(total) for cell, total in enumerate(logs)}
    return VariantStatistics.from_fields(sums | fields)


def standing_of(experiment: Experiment, **changes: Any) -> Standing:
    """How it stands for a day, at the last stage unless told otherwise."""
    first = first_standing(experiment, NOW - DAY)
    last = None if experiment.rollout is None else len(experiment.rollout.stages_bp) - 1
    return replace(first, **({"stage": last, "traffic_bp": 10_000} | changes))


def record(standing: Standing, action: Any = "define", **changes: Any) -> DecisionRecord:
    made = DecisionRecord(
        at=standing.since,
        key=standing.key,
        action=action,
        by="rule",
        reason="",
        before=None,
        after=standing,
        config_digest="0123456789abcdef",
    )
    return replace(made, **changes)


def report_of(
    experiment: Experiment,
    sums: dict[str, VariantStatistics],
    *,
    standing: Standing | None = None,
    backlog: int = 0,
    **beside: Any,
) -> Report:
    """The report of an experiment that stands so, a day after it began."""
    standing = standing or standing_of(experiment)
    return build_report(
        in_force(experiment, standing),
        sums,
        as_of=NOW,
        backlog=backlog,
        beside=Beside(definition=experiment, standing=standing, **beside),
    )
