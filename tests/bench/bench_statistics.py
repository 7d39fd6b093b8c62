"""Do the statistics keep their promises? ``python -m tests.bench statistics [--quick]``.

Simulated shoppers with a known CTR: a few have most impressions (log-normal rates),
clicks of one user resemble each other (beta-binomial), and only sums by cell are kept, as in
the service. Every share has its promise beside it, and the noise of so many runs (three
standard errors). Exit status 1 if a promise is broken.

Tests run the same simulations in small: tests/experiments/stats.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from math import log

import numpy as np
from msgspec import Struct

from experiments.stats import Estimate, NotEnoughData
from experiments.stats.cuped import Paired, cuped, cuped_difference
from experiments.stats.delta import moments, ratio_of
from experiments.stats.estimate import interval, p_value
from experiments.stats.inferiority import non_inferior, non_inferior_always
from experiments.stats.power import power_of, users_needed
from experiments.stats.ratio import (
    RatioSample,
    log_change,
    log_ratio,
    ratio_difference,
    ratio_interval,
)
from experiments.stats.sequential import TUNING, always_valid_interval, always_valid_p, reach
from experiments.stats.srm import check_split
from experiments.stats.stratified import Phase, pooled_change
from tests.support.shoppers import ARRIVALS, Arrival, Shoppers, looks, shoppers, slack

LOOKS = 20
Rng = np.random.Generator


class Figure(Struct, frozen=True, kw_only=True):
    """A simulated share and what was promised of it."""

    what: str
    share: float
    runs: int
    low: float = 0.0
    high: float = 1.0
    compare: str = ""
    """What another method does in the same runs."""

    @property
    def noise(self) -> float:
        """Three standard errors, at the end of the promise that is nearer."""
        nearest = min((self.low, self.high), key=lambda end: abs(end - self.share))
        return slack(nearest, self.runs)

    @property
    def kept(self) -> bool:
        return self.low - self.noise <= self.share <= self.high + self.noise


def peeking(rng: Rng, runs: int) -> Iterator[Figure]:
    """Equal variants, looked at twenty times; and a treatment exactly at the margin."""
    for arrival in ARRIVALS:
        hits = np.array([aa_run(rng, arrival) for _ in range(runs)])
        naive10, naive20, always, fooled = hits.mean(axis=0)
        yield Figure(
            what=f"A/A, 20 looks, {arrival}: always-valid p < 0.05 at any",
            share=float(always),
            runs=runs,
            high=0.05,
            compare=f"read once: {naive10:.1%} at 10 looks, {naive20:.1%} at 20",
        )
        yield Figure(
            what=f"true change at the margin, {arrival}: ever called non-inferior",
            share=float(fooled),
            runs=runs,
            high=0.05,
        )


def aa_run(rng: Rng, arrival: Arrival) -> tuple[bool, bool, bool, bool]:
    """One experiment: found by the naive test (10, 20 looks), by the sequence, fooled."""
    control, treatment = (looks(rng, shoppers(rng, 2000, 0.05), arrival, LOOKS) for _ in range(2))
    changes = [change(a, b) for a, b in zip(control, treatment, strict=True)]
    once = [found is not None and p_value(found) < 0.05 for found in changes]
    always = [found is not None and always_valid_p(found) < 0.05 for found in changes]
    # A change of nothing is at the margin if everything is shifted by the margin.
    margin = 0.1
    shifted = [found and shift(found, log(1 - margin)) for found in changes]
    fooled = [found is not None and called_non_inferior(found, margin) for found in shifted]
    return any(once[1::2]), any(once), any(always), any(fooled)


def change(control: RatioSample, treatment: RatioSample) -> Estimate | None:
    try:
        return log_change(control, treatment)
    except NotEnoughData:
        return None


def called_non_inferior(found: Estimate, margin: float) -> bool:
    try:
        return non_inferior_always(found, margin).verdict == "non_inferior"
    except NotEnoughData:
        return False


def shift(found: Estimate, by: float) -> Estimate:
    return Estimate(
        value=found.value + by, error=found.error, freedom=found.freedom, size=found.size
    )


def textbook_peeking(rng: Rng, runs: int) -> Iterator[Figure]:
    """Normal observations: ten looks read once, and a thousand looks that are always valid."""
    walks = rng.normal(size=(runs * 20, 10)).cumsum(axis=1) / np.sqrt(np.arange(1, 11))
    naive = float(np.mean(np.any(np.abs(walks) > 1.96, axis=1)))
    yield Figure(
        what="normal data, 10 looks: |z| > 1.96 at any (Armitage et al. 1969: 19.3 %)",
        share=naive,
        runs=runs * 20,
        low=0.193,
        high=0.193,
    )
    # From a hundredth to a hundred times the size at which the sequence is tightest.
    sizes = TUNING * np.logspace(-2, 2, 1000)
    bounds = [reach(Estimate(value=0.0, error=1.0, size=float(size))) for size in sizes]
    steps = np.sqrt(np.diff(sizes, prepend=0.0))
    outside = [
        bool(np.any(np.abs((rng.normal(size=1000) * steps).cumsum()) > bounds * np.sqrt(sizes)))
        for _ in range(runs * 4)
    ]
    yield Figure(
        what="normal data, 1,000 looks: outside the always-valid interval at any",
        share=float(np.mean(outside)),
        runs=runs * 4,
        high=0.05,
    )


def coverage(rng: Rng, runs: int) -> Iterator[Figure]:
    """95 % intervals of a CTR's change, read once, with heavy users."""
    for ctr in (0.005, 0.03, 0.1, 0.3):
        for lift in (0.0, 0.2):
            hits = np.array([covered(rng, ctr, lift) for _ in range(runs)])
            relative, absolute, naive = hits.mean(axis=0)
            for name, share in (("relative", relative), ("absolute", absolute)):
                yield Figure(
                    what=f"CTR {ctr:.1%}, lift {lift:.0%}: 95 % interval, {name}",
                    share=float(share),
                    runs=runs,
                    low=0.94,
                    high=0.96,
                    compare=f"impressions as units: {naive:.1%}" if name == "absolute" else "",
                )


def covered(rng: Rng, ctr: float, lift: float) -> tuple[bool, bool, bool]:
    a, b = (shoppers(rng, 3000, rate, heavy=1.2).period(rng) for rate in (ctr, ctr * (1 + lift)))
    effect = ratio_difference(a, b)
    errors = [s.ratio * (1 - s.ratio) / s.denominator.sum() for s in (a, b)]
    binomial = 1.96 * np.sqrt(sum(errors))
    return (
        effect.relative.low <= lift <= effect.relative.high,
        effect.absolute.low <= ctr * lift <= effect.absolute.high,
        bool(abs(effect.absolute.value - ctr * lift) <= binomial),
    )


def few_users(rng: Rng, runs: int) -> Iterator[Figure]:
    """Thirty and a thousand users: what leaving one out and effective units are for."""
    for users in (30, 1000):
        hits, plain, wider = 0, 0, []
        for _ in range(runs):
            sample, textbook = one_ctr(rng, users)
            found = ratio_interval(sample)
            hits += found.low <= 0.1 <= found.high
            plain += interval(textbook).low <= 0.1 <= interval(textbook).high
            wider.append(log_ratio(sample).error * found.value / textbook.error)
        yield Figure(
            what=f"CTR 10.0%, {users} users, heavier: 95 % interval",
            share=hits / runs,
            runs=runs,
            low=0.93,
            high=0.98,
            compare=f"textbook: {plain / runs:.1%}, its error x {np.median(wider):.2f}",
        )


def one_ctr(rng: Rng, users: int) -> tuple[RatioSample, Estimate]:
    """A sample that has an interval, and what the textbook makes of it."""
    while True:
        sample = shoppers(rng, users, 0.1, heavy=1.5).period(rng)
        try:
            ratio_interval(sample)
        except NotEnoughData:  # a few users have nearly all impressions
            continue
        seen = sample.denominator > 0
        units = RatioSample(sample.numerator[seen], sample.denominator[seen])
        return sample, ratio_of(moments(units))


def split(rng: Rng, runs: int) -> Iterator[Figure]:
    """Five percent of one arm's requests die, one request per user."""
    for users, low in ((20_000, 0.55), (40_000, 0.9)):
        checks = []
        for arm in rng.binomial(users, 0.5, runs * 5).tolist():
            checks.append(check_split([users - arm, int(rng.binomial(arm, 0.95))], [1, 1]))
        sure = np.mean([check.always_valid_p < 0.01 for check in checks])
        yield Figure(
            what=f"SRM alarm, 5 % of one arm lost, {users} users in both arms",
            share=float(np.mean([check.mismatch for check in checks])),
            runs=runs * 5,
            low=low,
            compare=f"always-valid p < 0.01: {sure:.1%}",
        )
    alarms = np.array([split_looks(rng) for _ in range(runs)])
    yield Figure(
        what="sound split 90/10, 100 looks: always-valid p < 0.05 at any",
        share=float(alarms[:, 0].mean()),
        runs=runs,
        high=0.05,
        compare=f"chi-square p < 0.001 at any: {alarms[:, 1].mean():.1%}",
    )


def split_looks(rng: Rng) -> tuple[bool, bool]:
    arms = rng.binomial(200, 0.1, 100).cumsum().tolist()
    checks = [
        check_split([200 * look - arm, arm], [9, 1]) for look, arm in enumerate(arms, start=1)
    ]
    return any(c.always_valid_p < 0.05 for c in checks), any(c.mismatch for c in checks)


def before_and_during(rng: Rng, runs: int) -> Iterator[Figure]:
    """CUPED with a period before that is three times as long."""
    for ctr, lift in ((0.005, 0.0), (0.005, 0.3), (0.1, 0.0), (0.1, 0.3)):
        kept, relative, absolute = [], 0, 0
        for _ in range(runs):
            arms = [paired(rng, ctr, rise) for rise in (0.0, lift)]
            kept.append(cuped(arms[0], arms[1]).variance_kept)
            effect = cuped_difference(arms[0], arms[1])
            relative += effect.relative.low <= lift <= effect.relative.high
            absolute += effect.absolute.low <= ctr * lift <= effect.absolute.high
        for name, hits in (("relative", relative), ("absolute", absolute)):
            yield Figure(
                what=f"CUPED, CTR {ctr:.1%}, lift {lift:.0%}: 95 % interval, {name}",
                share=hits / runs,
                runs=runs,
                low=0.94,
                high=0.96,
                compare=f"variance kept: {np.mean(kept):.0%}" if name == "relative" else "",
            )


def paired(rng: Rng, ctr: float, lift: float) -> Paired:
    who = shoppers(rng, 2000, ctr, per_period=20)
    earlier = who.period(rng, 3.0)
    who.taste[:] = np.minimum(who.taste * (1 + lift), 1.0)
    return Paired(before=earlier, during=who.period(rng))


def pooled(rng: Rng, runs: int) -> Iterator[Figure]:
    """A ramp in four stages; users return in every later stage, and the CTR changes."""
    hits = apart = 0
    for _ in range(runs):
        found, independent = ramp(rng)
        inside = interval(found)
        hits += inside.low <= 0 <= inside.high
        apart += abs(found.value) <= 1.96 * independent
    yield Figure(
        what="pooled over a ramp of 4 stages: 95 % interval",
        share=hits / runs,
        runs=runs,
        low=0.94,
        high=0.96,
        compare=f"phases taken as independent: {apart / runs:.1%}",
    )


def ramp(rng: Rng) -> tuple[Estimate, float]:
    """The pooled change, and its error if the phases were independent."""
    control, treatment = (shoppers(rng, 2000, 0.1) for _ in range(2))
    phases = []
    for share, day in ((0.05, 1.0), (0.2, 0.5), (0.5, 0.8), (1.0, 0.6)):
        taken = np.arange(2000) < 2000 * share
        a, b = (
            Shoppers(rate=who.rate, taste=who.taste * day, cell=who.cell).period(rng, active)
            for who, active in ((control, 1.0), (treatment, taken.astype(np.float64)))
        )
        phases.append(Phase(control=a, treatment=b))
    errors = [log_change(p.control, p.treatment).error for p in phases[1:]]
    return pooled_change(phases), float(1 / np.sqrt(np.sum(1 / np.square(errors))))


def planned(rng: Rng, runs: int) -> Iterator[Figure]:
    """Plans for 80 % power, one impression per user, so that their clicks are binomial."""
    for ctr, rise in ((0.005, 0.2), (0.036, 0.05), (0.3, 0.02)):
        for tuning in (None, TUNING):
            users = users_needed(ctr, rise, tuning=tuning)
            clicks = [rng.binomial(users, rate, runs * 10) for rate in (ctr, ctr * (1 + rise))]
            found = np.mean([
                found_with(users, int(a), int(b), tuning)
                for a, b in zip(*clicks, strict=True)
            ])  # fmt: skip
            promised = power_of(ctr, rise, users, tuning=tuning)
            yield Figure(
                what=f"CTR {ctr:.1%}, +{rise:.0%}, {users} users "
                + ("read once" if tuning is None else "always valid, last look")
                + ": found",
                share=float(found),
                runs=runs * 10,
                low=promised - 0.01,
                high=promised + 0.01,
            )


def found_with(users: int, control: int, treatment: int, tuning: float | None) -> bool:
    """The textbook test of two shares, whose error is known from the counts."""
    p, q = control / users, treatment / users
    if tuning is None:
        error = np.sqrt((p * (1 - p) + q * (1 - q)) / users)
        return bool(abs(q - p) > 1.959964 * error)
    error = float(np.sqrt(((1 - p) / p + (1 - q) / q) / users))
    estimate = Estimate(value=log(q / p), error=error, size=4 / error**2)
    found = always_valid_interval(estimate, tuning=tuning)
    return found.low > 0 or found.high < 0


def at_the_margin(rng: Rng, runs: int) -> Iterator[Figure]:
    """Read once: a treatment that is worse by exactly the margin."""
    hits = 0
    for _ in range(runs):
        a, b = (shoppers(rng, 2000, rate).period(rng) for rate in (0.1, 0.09))
        hits += non_inferior(log_change(a, b), 0.1).verdict == "non_inferior"
    yield Figure(
        what="true change at the margin, read once: called non-inferior",
        share=hits / runs,
        runs=runs,
        low=0.05,
        high=0.05,
    )


SIMULATIONS: tuple[Callable[[Rng, int], Iterator[Figure]], ...] = (
    textbook_peeking,
    peeking,
    coverage,
    few_users,
    at_the_margin,
    split,
    before_and_during,
    pooled,
    planned,
)
RUNS = {peeking: 600, coverage: 2000, before_and_during: 2000, pooled: 2000, planned: 200}
OTHER_RUNS = 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="a tenth of the runs")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    began = time.monotonic()
    print(heading(options.seed))
    broken = 0
    for number, simulation in enumerate(SIMULATIONS):
        # A seed for each, so that one of them alone can be repeated.
        rng = np.random.default_rng([options.seed, number])
        runs = RUNS.get(simulation, OTHER_RUNS) // (10 if options.quick else 1)
        for figure in simulation(rng, runs):
            broken += not figure.kept
            print(line(figure), flush=True)
    print(f"\n{broken} promises broken, {time.monotonic() - began:.0f} s")
    if broken:
        sys.exit(1)


def heading(seed: int) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, "
        f"{packages}, seed {seed}\n\n"
        f"{'':7} {'share':>6}  {'promised':13} {'+-':>5} {'runs':>6}  what"
    )


def line(figure: Figure) -> str:
    promise = f"{figure.low:.1%} - {figure.high:.1%}"
    return (
        f"{'kept' if figure.kept else 'BROKEN':7} {figure.share:6.1%}  {promise:13} "
        f"{figure.noise:5.1%} {figure.runs:6}  {figure.what}"
        + (f" ({figure.compare})" if figure.compare else "")
    )


if __name__ == "__main__":
    main()
