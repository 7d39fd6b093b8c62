"""How long a decision takes: ``python -m tests.bench assignment``.

Prints the median over rounds of the mean nanoseconds per decision, in CPU time
of this thread, so that other work on the machine disturbs little.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import get_args

from experiments.assignment import Assigner, Decision, Units, bucket
from experiments.definition import Experiment, HashId, Rule, Variant
from experiments.events import arms

ROUNDS, REQUESTS = 25, 5_000
UNITS = [Units(f"user-{number}", f"session-{number}") for number in range(REQUESTS)]
CONTEXT = {"surface": "home", "device": "phone", "country": "SE", "hour": 12}
TARGET_NS = 2_500
"""Of a full decision of one experiment."""


def experiment(key: str, *, layer: str | None = None, full: bool = True) -> Experiment:
    """One whose every step needs its hash, or the plain half-and-half."""
    variants = tuple(
        Variant(name=name, share_bp=5000, deployment=f"{key}-{name}" if layer is None else None)
        for name in ("control", "treatment")
    )
    if not full:
        return Experiment(key=key, variants=variants, layer=layer)
    return Experiment(
        key=key,
        variants=variants,
        layer=layer,
        layer_range_bp=(0, 9_900),
        holdout_bp=100,
        traffic_bp=9_900,
        targeting=(Rule("device", "==", "phone"),),
        overrides={"somebody": "treatment"},
    )


def hashed_by(hash_id: HashId) -> Assigner:
    variants = tuple(Variant(name=name, share_bp=5000) for name in ("control", "treatment"))
    return Assigner([Experiment(key="one", variants=variants, hash=hash_id, traffic_bp=9_900)])


def median_ns(act: Callable[[Units], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for units in UNITS:
            act(units)
        rounds.append((time.thread_time_ns() - began) / REQUESTS)
    return statistics.median(rounds)


def figures() -> dict[str, float]:
    plain = Assigner([experiment("plain", full=False)])
    one = Assigner([experiment("one")])
    three = Assigner([experiment("one"), *(experiment(k, layer=k) for k in ("ui", "price"))])
    decisions: dict[Units, Decision] = {u: one.decide(u, context=CONTEXT) for u in UNITS}
    return {
        "an empty call": median_ns(lambda units: None),
        "bucket()": median_ns(lambda units: bucket(units.user or "", "one.split")),
        "one experiment, split only": median_ns(plain.decide),
        "one experiment, override, targeting, holdout, layer, gate and split": median_ns(
            lambda units: one.decide(units, context=CONTEXT)
        ),
        "three such experiments": median_ns(lambda units: three.decide(units, context=CONTEXT)),
        "forced": median_ns(lambda units: one.decide(units, forced={"one": "control"})),
        "arms of a decision": median_ns(lambda units: arms(decisions[units].assignments)),
        **{f"gate and split by {h}": median_ns(hashed_by(h).decide) for h in get_args(HashId)},
    }


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {ROUNDS} rounds")
    print(f"target: {TARGET_NS} ns for a full decision of one experiment")
    for what, nanoseconds in figures().items():
        print(f"{nanoseconds:8.0f} ns  {what}")


if __name__ == "__main__":
    main()
