"""One run of load against one step, and all runs in interleaved rounds.

Whatever disturbs a machine comes and goes, so every round runs every step, in
another order each time, and figures are medians over the rounds. A round's open loops
follow its own closed loops: minutes later the machine may be able to do less.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from service.errors import StartupError
from service.profiling.story.servers import Server, busy_s
from service.profiling.story.traffic import Shoppers, Stream
from service.profiling.story.values import SUSTAINED_P99_MS

OPEN_CONNECTIONS = 256
MOST_PER_S_AND_WORKER = 5_000
"""So many requests are drawn for a run that none is sent twice, up to this rate."""

_TRIAL_SEED = 2_000_000

Phase = Literal["closed", "open"]


class Plan(Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each run."""
    connections: Sequence[int]
    """Of the closed loop; the number with most answers counts."""
    open_shares: Sequence[float]
    """Of a step's own maximum, rising: the rates of its open loop."""
    warm_s: float
    """Longest time for warming the cache."""
    choosing_s: float
    """Of measuring the reduced precisions, apart and then served."""


# 80 % of the maximum is not 80 % of the machine: with fewer requests under way every wake-up serves
# fewer of them, in the service and in the load generator, which shares the cores. An answer then
# costs more CPU than in the closed loop (the story says how much), so that little is left for what
# disturbs the machine, and queues stay long. Hence several rates, and which of them is sustained.
FULL = Plan(
    rounds=3,
    seconds=2.0,
    connections=(16, 64),
    open_shares=(0.5, 0.6, 0.7, 0.8),
    warm_s=60.0,
    choosing_s=4.0,
)
QUICK = Plan(
    rounds=2,
    seconds=1.0,
    connections=(64,),
    open_shares=(0.5, 0.7),
    warm_s=10.0,
    choosing_s=2.0,
)


class Run(Struct, frozen=True, kw_only=True):
    """The figures of one run."""

    step: int
    phase: Phase
    connections: int
    share: float
    """Of the open loop's rate in the step's maximum; 0 in the closed loop."""
    rate_per_s: float
    """Arrivals of the open loop; 0 in the closed loop."""
    per_s: float
    p50_ms: float
    p99_ms: float
    page_hits: float
    rank_hits: float
    cpu_us: float
    generator_cores: float
    late_p99_ms: float
    failed: int
    other_cores: float


class Runs:
    """All runs so far, and what they say of a step."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs

    def of(
        self, step: int, phase: Phase, connections: int = 0, share: float | None = None
    ) -> "Runs":
        """Those of one step and phase, with so many connections or any, at one rate or any."""
        return Runs(
            [
                run
                for run in self._runs
                if (run.step, run.phase) == (step, phase)
                and connections in (0, run.connections)
                and share in (None, run.share)
            ]
        )

    def median(self, figure: Callable[[Run], float]) -> float:
        """Of a figure over the runs."""
        return statistics.median(map(figure, self._runs))

    def failed(self, step: int) -> int:
        """Requests of a step, in all its runs, that were not answered."""
        return sum(run.failed for run in self._runs if run.step == step)

    def best_connections(self, step: int, plan: Plan) -> int:
        """With which the closed loop answers most: of those whose p99 is one that people would
        serve with, if there are any."""

        def of(count: int) -> Runs:
            return self.of(step, "closed", count)

        served = [
            count
            for count in plan.connections
            if of(count).median(lambda run: run.p99_ms) <= SUSTAINED_P99_MS
        ]
        return max(
            served or plan.connections, key=lambda count: of(count).median(lambda run: run.per_s)
        )


def measure_all(
    running: Mapping[int, Server],
    shoppers: Shoppers,
    plan: Plan,
    *,
    workers: int,
    progress: Callable[[float], None],
) -> Runs:
    """Run all steps in interleaved rounds: the closed loop, and the open loop by its rates.

    Raises:
        StartupError: a step does not listen any more.
    """
    runs: list[Run] = []
    count = int(plan.seconds * MOST_PER_S_AND_WORKER * workers)
    in_all = plan.rounds * (len(plan.connections) + len(plan.open_shares)) * len(running)

    def take(step: int, stream: Stream, connections: int) -> None:
        runs.append(_run(running[step], step, stream, plan.seconds, connections))
        progress(len(runs) / in_all)

    def take_open(step: int, stream: Stream, share: float, closed: Runs) -> None:
        rate = open_rate(closed, step, plan, share)
        run = _run(running[step], step, stream, plan.seconds, OPEN_CONNECTIONS, (share, rate))
        runs.append(run)
        progress(len(runs) / in_all)

    for number in range(plan.rounds):
        before = len(runs)
        for place, connections in enumerate(plan.connections):
            stream = shoppers.stream(count, seed=100 * number + place)
            for step in _turn([*running], number):
                take(step, stream, connections)
        closed = Runs(runs[before:])
        for place, share in enumerate(plan.open_shares):
            # Another one for every rate: a ranking that was asked before would be in the cache.
            stream = shoppers.stream(count, seed=100 * number + 50 + place)
            for step in _turn([*running], number):
                take_open(step, stream, share, closed)
    return Runs(runs)


def faster(
    running: Mapping[int, Server], steps: Sequence[int], shoppers: Shoppers, plan: Plan
) -> dict[int, float]:
    """Answers a second of some steps in a short closed loop, in turns; the fastest first."""
    turns = 3
    seconds = plan.choosing_s / turns / len(steps)
    stream = shoppers.stream(1_000, seed=_TRIAL_SEED)
    found: dict[int, list[float]] = {step: [] for step in steps}
    for number in range(turns):
        for step in _turn(steps, number):
            met = running[step].ask(stream, seconds=seconds, connections=plan.connections[-1])
            found[step].append(met.per_s)
    rates = {step: statistics.median(per_s) for step, per_s in found.items()}
    return dict(sorted(rates.items(), key=lambda rate: -rate[1]))


def open_rate(runs: Runs, step: int, plan: Plan, share: float) -> float:
    """Arrivals a second of a step's open loop: a share of its maximum in some closed loops."""
    connections = runs.best_connections(step, plan)
    most = runs.of(step, "closed", connections).median(lambda run: run.per_s)
    return max(1.0, share * most)


def _run(
    server: Server,
    step: int,
    stream: Stream,
    seconds: float,
    connections: int,
    open_loop: tuple[float, float] | None = None,
) -> Run:
    """In the closed loop, or in the open loop: its share and its rate."""
    share, rate_per_s = open_loop or (0.0, None)
    cpu, busy, own, began = server.cpu_s(), busy_s(), _own_s(), time.perf_counter()
    try:
        met = server.ask(stream, seconds=seconds, connections=connections, rate_per_s=rate_per_s)
    except StartupError as error:
        raise StartupError(f"step {step} of the story was lost: {error}") from None
    took = time.perf_counter() - began
    cpu, own, busy = server.cpu_s() - cpu, _own_s() - own, busy_s() - busy
    return Run(
        step=step,
        phase="open" if open_loop else "closed",
        connections=connections,
        share=share,
        rate_per_s=rate_per_s or 0.0,
        per_s=met.per_s,
        p50_ms=met.latency_ms(0.5),
        p99_ms=met.latency_ms(0.99),
        page_hits=met.pages.hits,
        rank_hits=met.ranks.hits,
        cpu_us=1e6 * cpu / max(1, met.answered),
        generator_cores=met.cpu_s / met.seconds,
        late_p99_ms=1e3 * met.late_p99_s,
        failed=met.failed,
        other_cores=max(0.0, (busy - cpu - own) / took),
    )


def _turn(steps: Sequence[int], number: int) -> Iterator[int]:
    """The steps, another one first every round."""
    first = number % len(steps)
    yield from steps[first:]
    yield from steps[:first]


def _own_s() -> float:
    """CPU seconds of this process and of the load generators that it has run."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
