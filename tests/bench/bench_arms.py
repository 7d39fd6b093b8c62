"""An equal model in two arms with a cache each: ``python -m tests.bench arms``.

The smaller arm fills its cache more slowly, so it is slower from end to end although the
model is the same. A latency comparison that calls this a loss would roll back every
small stage of a rollout. Printed are, for several splits, the hit rates, the change from
end to end, and the change of computed slates, which is what the gate reads; then how
often computed slates are called slower in runs that are looked at 20 times each.

The setting is that of the pitfall as it was first measured: Zipf(1.05) over a million
slates, 1 ms for a hit and 8 ms for a miss. Every arm keeps the 100,000 last used. Users
differ in speed and in how much they ask.
"""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping

import numpy as np
from msgspec import Struct

from experiments.events import Arm, Exposure, unit_digest
from experiments.rollout.bounds import latency_change
from experiments.stats.geometric import geometric_change
from experiments.variant_statistics import VariantStatistics, increments

ITEMS, ZIPF = 1_000_000, 1.05
CACHED = 100_000
HIT_MS, MISS_MS = 1.0, 8.0
UNIT_SPREAD, REQUEST_SPREAD = 0.2, 0.3
"""Standard deviations of log latencies: between users, and of one user's requests."""
CONTROL, TREATMENT = "control", "treatment"
MARGIN = 0.05

Statistics = Mapping[str, VariantStatistics]


class Shop:
    """Requests of a marketplace, served by an equal model in both arms."""

    def __init__(self, seed: int, *, treatment_share: float, users: int = 20_000) -> None:
        self._rng = np.random.default_rng(seed)
        weights = np.arange(1, ITEMS + 1, dtype=np.float64) ** -ZIPF
        self._popularity = np.cumsum(weights / weights.sum())
        activity = 1 + self._rng.pareto(2.0, users)
        self._activity = np.cumsum(activity / activity.sum())
        self._pace = self._rng.normal(0, UNIT_SPREAD, users)
        names = np.where(self._rng.random(users) < treatment_share, TREATMENT, CONTROL)
        self._arms = [
            Arm("equal", 1, str(name), unit_digest(f"u{n}")) for n, name in enumerate(names)
        ]
        self._caches: dict[str, OrderedDict[int, None]] = {
            CONTROL: OrderedDict(),
            TREATMENT: OrderedDict(),
        }
        self._fields: dict[str, Counter[str]] = {CONTROL: Counter(), TREATMENT: Counter()}

    def serve(self, requests: int) -> Statistics:
        """Serve so many requests more; the sums of all so far."""
        items = np.searchsorted(self._popularity, self._rng.random(requests)).tolist()
        users = np.searchsorted(self._activity, self._rng.random(requests))
        noise = np.exp(self._pace[users] + self._rng.normal(0, REQUEST_SPREAD, requests)).tolist()
        for item, user, factor in zip(items, users.tolist(), noise, strict=True):
            arm = self._arms[user]
            hit = self._known(self._caches[arm.variant], item)
            shown = _exposure(arm, hit, (HIT_MS if hit else MISS_MS) * factor)
            fields = self._fields[arm.variant]
            for name, n in increments(shown, arm).items():
                fields[name] += n
        return {
            name: VariantStatistics.from_fields(fields) for name, fields in self._fields.items()
        }

    @staticmethod
    def _known(cache: OrderedDict[int, None], item: int) -> bool:
        hit = item in cache
        cache[item] = None
        cache.move_to_end(item)
        if len(cache) > CACHED:
            cache.popitem(last=False)
        return hit


def _exposure(arm: Arm, hit: bool, latency_ms: float) -> Exposure:
    return Exposure(
        slate_id="",
        arms=(arm,),
        at=0.0,
        latency_ms=latency_ms,
        candidates=1,
        cache_hits=int(hit),
        cache_misses=int(not hit),
        cache_result="hit" if hit else "miss",
        engine="equal",
        degraded=None,
        config_digest="",
    )


class Comparison(Struct, frozen=True, kw_only=True):
    """What the two arms look like, treatment against control."""

    hit_rates: tuple[float, float]
    mean_ms: tuple[float, float]
    """Arithmetic, from the hit rates: what a dashboard of averages shows."""
    end_to_end: tuple[float, float, float]
    """Relative change of the geometric mean of all slates, with its interval, read once."""
    computed: tuple[float, float, float]
    """The same of computed slates, with the range that the gate reads."""
    is_loss: bool
    """Whether the gate takes it for one."""


def compared(sums: Statistics) -> Comparison:
    """Treatment against control, as the gate and as a plain dashboard compare them."""
    control, treatment = sums[CONTROL], sums[TREATMENT]
    hits = tuple(s.cache_hits / s.exposures for s in (control, treatment))
    mean = tuple(HIT_MS * hit + MISS_MS * (1 - hit) for hit in hits)
    all_slates = geometric_change(control.latency_sample, treatment.latency_sample).relative
    bound = latency_change(control, treatment, of="computed", limit=MARGIN, confidence=0.95)
    if bound.value is None or bound.low is None or bound.high is None:
        raise ValueError(f"too few requests to compare: {bound.missing}")
    return Comparison(
        hit_rates=(hits[0], hits[1]),
        mean_ms=(mean[0], mean[1]),
        end_to_end=(all_slates.value, all_slates.low, all_slates.high),
        computed=(bound.value, bound.low, bound.high),
        is_loss=bound.above,
    )


def looks(seed: int, *, treatment_share: float, requests: int, times: int) -> Iterator[Comparison]:
    """Comparisons of one run, at equal distances."""
    shop = Shop(seed, treatment_share=treatment_share, users=4_000)
    for _ in range(times):
        yield compared(shop.serve(requests // times))


def _percent(change: tuple[float, float, float]) -> str:
    value, low, high = (f"{100 * one:+.1f}" for one in change)
    return f"{value} % [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench arms")
    parser.add_argument("--requests", type=int, default=500_000, help="of each split")
    parser.add_argument("--runs", type=int, default=50, help="that are looked at 20 times")
    options = parser.parse_args()
    print(f"{options.requests:,} requests, equal model, a cache per arm, hit {HIT_MS:g} ms,")
    print(f"miss {MISS_MS:g} ms; treatment against control")
    for share in (0.5, 0.1, 0.01):
        told = compared(Shop(1, treatment_share=share).serve(options.requests))
        hits = " and ".join(f"{hit:.3f}" for hit in told.hit_rates)
        slower = told.mean_ms[1] / told.mean_ms[0] - 1
        print(
            f"{100 * (1 - share):g}:{100 * share:g}  hit rates {hits}  "
            f"mean {told.mean_ms[0]:.2f} and {told.mean_ms[1]:.2f} ms ({100 * slower:+.0f} %)\n"
            f"      geometric mean, end to end       {_percent(told.end_to_end)}\n"
            f"      geometric mean, computed slates  {_percent(told.computed)}  always valid"
        )
    runs = [
        list(looks(seed, treatment_share=0.1, requests=40_000, times=20))
        for seed in range(options.runs)
    ]
    lost = sum(any(look.is_loss for look in run) for run in runs)
    off = sum(any(not look.computed[1] <= 0 <= look.computed[2] for look in run) for run in runs)
    print(f"90:10, {len(runs)} runs of 40,000 requests, 20 looks at each:")
    print(f"      called a loss by more than {100 * MARGIN:g} %: {lost}")
    print(f"      range of computed slates without 0 at any look: {off}")


if __name__ == "__main__":
    main()
