"""The story on this machine, from a bundle to figures."""

import contextlib
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.clock import Clock
from service.errors import StartupError
from service.profiling.machine import this_machine
from service.profiling.profile import Progress
from service.profiling.story.checking import Right
from service.profiling.story.measuring import (
    Plan,
    Runs,
    faster,
    measure_all,
)
from service.profiling.story.precision import FP32, Scoring, apart, choose, scored_by
from service.profiling.story.servers import Server, running
from service.profiling.story.steps import (
    BATCHING,
    CACHE,
    NAMES,
    REDUCED,
    Peer,
    Step,
    cache_step,
    steps_of,
)
from service.profiling.story.traffic import PAGE_SHARE, SLATE, ZIPF, Shoppers
from service.profiling.story.values import (
    SUSTAINED_P99_MS,
    Latency,
    OpenLoop,
    StepFigures,
    StepLeftOut,
    Story,
    Traffic,
    sustained_of,
)
from service.profiling.values import cost_per_million

CHECKED = 300
CHECK_S = 30.0
CHECK_CONNECTIONS = 8
CHECK_SEED = 1_000_000
WARM_CONNECTIONS = 16
MOST_WARMED = 100_000


class StoryOptions(Struct, frozen=True, kw_only=True):
    """What to tell, and how long."""

    plan: Plan
    workers: int
    """Processes of every step that serve."""
    peer: Peer
    """The environment of the steps without Podium."""
    price_per_hour: float | None
    plans: Path
    """The folder of compiled TensorRT plans."""
    note: str = ""
    """Why it is told of this model, where that is not what one would expect."""


def need_linux() -> None:
    """Refuse other systems.

    Raises:
        InputError: this is none.
    """
    if sys.platform != "linux":
        raise InputError("the story needs Linux: the accounts of its processes, and a timerfd")


def tell_story(bundle: Bundle, options: StoryOptions, *, progress: Progress, clock: Clock) -> Story:
    """Start every step that this machine has, check what it answers, and measure all of them.

    Raises:
        InputError: this is no Linux, the bundle has no item page, or no step answers as it should.
        StartupError: a step ended while it was measured.
    """
    need_linux()
    plan = options.plan
    shoppers = Shoppers(bundle)
    progress.begin("measuring reduced precisions")
    choice = apart(
        lambda: choose(bundle, plans=options.plans, clock=clock, seconds=plan.choosing_s)
    )
    steps, left_out = steps_of(bundle, peer=options.peer, choice=choice, workers=options.workers)
    with contextlib.ExitStack() as stack:
        checks = _Checks(bundle, shoppers, options.plans, clock)
        stage = _Stage(stack, shoppers, plan, checks, left_out)
        for step in steps:
            progress.begin(f"starting and checking: {step.name}")
            stage.add(step)
        scoring, also = stage.best_scoring()
        progress.begin(f"starting, checking and warming: {NAMES[CACHE]}")
        stage.add(cache_step(bundle, scoring, workers=options.workers, also=also))
        if not stage.running:
            raise InputError("no step answers as it should: " + _reasons(left_out))
        progress.begin("measuring")
        runs = measure_all(
            stage.running, shoppers, plan, workers=options.workers, progress=progress.share
        )
    return Story(
        model=bundle.manifest.name,
        version=bundle.manifest.version,
        note=options.note,
        created=datetime.fromtimestamp(clock.wall(), UTC),
        machine=this_machine(0),
        workers=options.workers,
        price_per_hour=options.price_per_hour,
        rounds=plan.rounds,
        seconds=plan.seconds,
        sustained_p99_ms=SUSTAINED_P99_MS,
        traffic=_traffic(shoppers, stage.warmed),
        other_cores=runs.median(lambda run: run.other_cores),
        steps=_figures(
            stage,
            runs,
            plan,
            _Prices(options.price_per_hour, shoppers.predictions_per_request),
        ),
        left_out=tuple(sorted(left_out, key=lambda left: left.number)),
    )


class _Checks:
    """The same requests for every step, and the right answers by what scores in it."""

    def __init__(self, bundle: Bundle, shoppers: Shoppers, plans: Path, clock: Clock) -> None:
        self._bundle, self._plans, self._clock = bundle, plans, clock
        drawn = shoppers.stream(CHECKED, seed=CHECK_SEED)
        self._stream = drawn._replace(order=[*range(len(drawn.requests))])
        self._right: dict[Scoring, Right] = {}

    def check(self, step: Step, server: Server) -> float:
        """The largest difference of a score of what a step answers.

        Raises:
            StartupError: an answer is missing or wrong.
        """
        if step.scoring not in self._right:
            self._right[step.scoring] = apart(lambda: self._scored_by(step.scoring))
        met = server.ask(
            self._stream,
            seconds=CHECK_S,
            connections=CHECK_CONNECTIONS,
            once=True,
            keep_replies=True,
        )
        return self._right[step.scoring].check(met)

    def _scored_by(self, scoring: Scoring) -> Right:
        engine = scored_by(self._bundle, scoring, plans=self._plans, clock=self._clock)
        try:
            return Right(self._bundle, engine, scoring, self._stream)
        finally:
            engine.close()


class _Stage:
    """The steps that run, all at once: what is idle costs next to nothing."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        shoppers: Shoppers,
        plan: Plan,
        checks: _Checks,
        left_out: list[StepLeftOut],
    ) -> None:
        self._stack, self._shoppers, self._plan = stack, shoppers, plan
        self._checks, self._left_out = checks, left_out
        self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-story-")))
        self.running: dict[int, Server] = {}
        self.steps: dict[int, Step] = {}
        self.differences: dict[int, float] = {}
        self.warmed = 0
        """Pages."""

    def add(self, step: Step) -> None:
        """Start a step and check what it answers; one that fails is left out, and why is kept."""
        server = self._stack.enter_context(running(step.command, self._home / str(step.number)))
        try:
            server.until_ready(self._shoppers.popular(1))
            difference = self._checks.check(step, server)
            if step.has_cache:
                self.warmed = self._warm(server)
                # The same requests again: now the pages come from the cache.
                difference = max(difference, self._checks.check(step, server))
        except StartupError as error:
            server.stop()
            self._left_out.append(
                StepLeftOut(number=step.number, name=step.name, reason=str(error))
            )
            return
        self.steps[step.number], self.running[step.number] = step, server
        self.differences[step.number] = difference

    def best_scoring(self) -> tuple[Scoring, str]:
        """What scores best when served, and what that was measured by."""
        there = [number for number in (BATCHING, REDUCED) if number in self.steps]
        if len(there) < 2:
            return self.steps[there[0]].scoring if there else FP32, ""
        rates = faster(self.running, there, self._shoppers, self._plan)
        (best, most), (other, less) = rates.items()
        said = f"when served {most:,.0f}/s, {self.steps[other].scoring.precision} {less:,.0f}/s"
        return self.steps[best].scoring, said

    def _warm(self, server: Server) -> int:
        """Ask for the pages of the most popular items, each once; how many were answered."""
        met = server.ask(
            self._shoppers.popular(MOST_WARMED),
            seconds=self._plan.warm_s,
            connections=WARM_CONNECTIONS,
            once=True,
        )
        return met.pages.answered


def _reasons(left_out: list[StepLeftOut]) -> str:
    return "; ".join(f"{left.name}: {left.reason}" for left in left_out)


def _traffic(shoppers: Shoppers, warmed: int) -> Traffic:
    return Traffic(
        page_share=PAGE_SHARE,
        zipf=ZIPF,
        items=shoppers.items,
        candidates=shoppers.candidates,
        slate=SLATE,
        predictions_per_request=shoppers.predictions_per_request,
        warmed_pages=warmed,
    )


class _Prices(Struct, frozen=True):
    """What a step costs, by its answers a second."""

    price_per_hour: float | None
    predictions_per_request: float

    def rankings(self, per_s: float) -> float | None:
        """A million of them."""
        return cost_per_million(self.price_per_hour, per_s) if per_s else None

    def predictions(self, per_s: float) -> float | None:
        """A million of them: candidates that were ordered."""
        return self.rankings(per_s * self.predictions_per_request)


def _figures(stage: _Stage, runs: Runs, plan: Plan, prices: _Prices) -> tuple[StepFigures, ...]:
    found = [
        _step(step, runs, plan, stage.differences[number], prices)
        for number, step in sorted(stage.steps.items())
    ]
    first = found[0].per_s
    return tuple(
        msgspec.structs.replace(one, times=one.per_s / first if first else 0.0) for one in found
    )


def _step(step: Step, runs: Runs, plan: Plan, difference: float, prices: _Prices) -> StepFigures:
    connections = runs.best_connections(step.number, plan)
    closed = runs.of(step.number, "closed", connections)
    opened = runs.of(step.number, "open")
    per_s = closed.median(lambda run: run.per_s)
    loops = tuple(_open(step, runs, share) for share in plan.open_shares)
    return StepFigures(
        number=step.number,
        name=step.name,
        what=step.what,
        per_s=per_s,
        times=1.0,
        connections=connections,
        closed=_latency(closed),
        open=loops,
        sustained=sustained_of(loops),
        page_hits=opened.median(lambda run: run.page_hits) if step.has_cache else None,
        rank_hits=opened.median(lambda run: run.rank_hits) if step.has_cache else None,
        cpu_us=closed.median(lambda run: run.cpu_us),
        generator_cores=closed.median(lambda run: run.generator_cores),
        failed=runs.failed(step.number),
        largest_difference=difference,
        cost_per_million_rankings=prices.rankings(per_s),
        cost_per_million_predictions=prices.predictions(per_s),
    )


def _open(step: Step, runs: Runs, share: float) -> OpenLoop:
    found = runs.of(step.number, "open", share=share)
    return OpenLoop(
        share=share,
        rate_per_s=found.median(lambda run: run.rate_per_s),
        latency=_latency(found),
        cpu_us=found.median(lambda run: run.cpu_us),
        generator_cores=found.median(lambda run: run.generator_cores),
        late_p99_ms=found.median(lambda run: run.late_p99_ms),
        failed=found.failed(step.number),
    )


def _latency(runs: Runs) -> Latency:
    return Latency(
        p50_ms=runs.median(lambda run: run.p50_ms), p99_ms=runs.median(lambda run: run.p99_ms)
    )
