"""Whole rollouts of simulated shoppers with planted effects: how often the rule is right.

    python -m tests.bench rollout [--runs N]

Shoppers come back, a few of them often, and have tastes of their own. Every rollout is judged
at up to 40 looks, or 100 where nothing should happen. Without options 40 of each kind.
"""

import argparse
import time
from collections import Counter

import numpy as np
from msgspec import Struct

from experiments.bandit import Allocated, reallocated, weighted_ctr
from experiments.rollout.rare import lower_bound
from experiments.stats import NotEnoughData
from tests.support.simulated_rollout import Course, Shoppers, Truth, experiment_of, rollout

_BASE = Truth()


class _Case(Struct, frozen=True):
    """A planted truth and what the rule should do about it."""

    name: str
    expected: str
    truths: tuple[Truth, ...]
    fields: dict[str, object] = {}


_LATENCY = {"objective": "latency", "rollout": {"ctr_margin": 0.1}}
_AT_ONCE = {"stages_bp": (10_000,)}
"""The last stage from the first look on, so that every look could be a mistaken promotion."""
_OFTEN = {"looks": 100, "visits": 4_000, "units": 10_000, "rollout": _AT_ONCE}
_OFTEN_LATENCY = {**_OFTEN, "objective": "latency", "rollout": {"ctr_margin": 0.1} | _AT_ONCE}
_NINE_TO_ONE = {"shares_bp": (9_000, 1_000), "units": 100_000, "visits": 40_000}

CASES = (
    _Case("CTR 20 % higher", "promote", (_BASE, Truth(ctr=0.06))),
    _Case("CTR 20 % lower", "rollback", (_BASE, Truth(ctr=0.04))),
    _Case("equal", "continue", (_BASE, _BASE), _OFTEN),
    _Case("equal, objective latency", "continue", (_BASE, _BASE), _OFTEN_LATENCY),
    _Case("three that are equal", "continue", (_BASE,) * 4, _OFTEN),
    _Case("15 % faster, objective latency", "promote", (_BASE, Truth(latency_ms=17.0)), _LATENCY),
    _Case("15 % slower", "rollback", (_BASE, Truth(latency_ms=23.0))),
    _Case(
        "faster, but CTR 30 % lower",
        "rollback",
        (_BASE, Truth(ctr=0.035, latency_ms=17.0)),
        _LATENCY,
    ),
    _Case("CTR higher, but 15 % slower", "rollback", (_BASE, Truth(ctr=0.06, latency_ms=23.0))),
    _Case("one of three 20 % higher", "promote", (_BASE, _BASE, Truth(ctr=0.06), _BASE)),
    _Case("3 % of requests fail", "rollback", (_BASE, Truth(errors=0.03))),
    _Case("15 % fallbacks", "rollback", (_BASE, Truth(degraded=0.15))),
    _Case("failures at half the limit", "continue", (_BASE, Truth(errors=0.005)), _OFTEN),
    _Case("10 % of one arm's units lost", "hold", (_BASE, Truth(ctr=0.06, loses_units=0.1))),
    _Case("no exposures of one arm", "hold", (_BASE, Truth(loses_units=1.0))),
    _Case("3 % of units in both arms", "hold", (_BASE, Truth(ctr=0.06, leaks=0.03))),
    _Case(
        "90/10, equal models, cold cache",
        "continue",
        (Truth(hit_rate=0.7), Truth(hit_rate=0.3)),
        _NINE_TO_ONE,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench rollout", description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="rollouts of each kind")
    runs = parser.parse_args().runs
    print(f"{'planted':34} {'expected':9} {'so':>5}  looks  otherwise")
    for case in CASES:
        tell(case, [rollout(case.truths, seed=seed, **case.fields) for seed in range(runs)])  # type: ignore[arg-type]
    print(f"\na rate at its limit of 1 % called too high: {100 * false_alarms(runs):.1f} %")
    print(bandits(runs))


def tell(case: _Case, courses: list[Course]) -> None:
    ends = Counter(course.last.action for course in courses)
    right = ends.pop(case.expected, 0)  # type: ignore[call-overload]
    others = ", ".join(f"{action} {count}" for action, count in ends.items()) or "never"
    looks = float(np.median([course.looks for course in courses]))
    share = 100 * right / len(courses)
    print(f"{case.name:34} {case.expected:9} {share:4.0f} %  {looks:5.0f}  {others}", flush=True)


def false_alarms(runs: int) -> float:
    """How often the bound for rare failures passes a rate that is exactly the limit."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(runs):
        # Each cell's first failure, by requests; a cell is asked once in 1 024 requests.
        first = rng.geometric(0.01, 1024) * 1024
        alarms += any(
            lower_bound(int(np.sum(first <= n)), n, confidence=0.95) > 0.01
            for n in np.geomspace(10, 50_000, 40).astype(int).tolist()
        )
    return alarms / runs


def bandits(runs: int) -> str:
    """Traffic of the best variant, and coverage of the weighted estimates."""
    started, best, covered, told = time.perf_counter(), [], 0, 0
    truths = (Truth(ctr=0.05), Truth(ctr=0.06), Truth(ctr=0.05))
    for seed in range(runs):
        phases = learned(truths, seed=seed, rounds=12)
        best.append(phases[-1].shares_bp["b"] / 100)
        for name, truth in zip(("control", "b", "c"), truths, strict=True):
            try:
                interval = weighted_ctr(phases, name)
            except NotEnoughData:
                continue
            covered, told = covered + (interval.low <= truth.ctr <= interval.high), told + 1
    return (
        f"Thompson sampling, best of three by 20 %, after 12 allocations: {np.mean(best):.0f} % of "
        f"the traffic; weighted estimates cover the truth {100 * covered / told:.1f} % of the time "
        f"({time.perf_counter() - started:.0f} s)"
    )


def learned(truths: tuple[Truth, ...], *, seed: int, rounds: int) -> list[Allocated]:
    """Allocations in a row, each learned from all before, with fresh units in each phase."""
    experiment = experiment_of(truths, policy="thompson")
    shares = {variant.name: variant.share_bp for variant in experiment.variants}
    phases: list[Allocated] = []
    for at in range(rounds):
        shoppers = Shoppers(truths, tuple(shares.values()), units=4_000, seed=1_000 * seed + at)
        shoppers.visit(3_000, 10_000)
        sums = shoppers.figures(experiment, at + 1).statistics
        phases.append(Allocated(shares_bp=shares, statistics=sums))
        found = reallocated(experiment, phases)
        shares = found.shares_bp if found else shares
    return phases


if __name__ == "__main__":
    main()
