"""A bundle on this machine, from what is asked to what is recommended."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.clock import Clock
from service.engines.calibration import ROWS_PER_REQUEST, Timer, sample_of
from service.profiling.contenders import Asked, field_of, standing_of
from service.profiling.machine import OtherWork, this_machine
from service.profiling.measuring import Times, measure
from service.profiling.opening import Opened, Opener, close_all
from service.profiling.recommending import Target, recommend
from service.profiling.together import TURNS, Job, rates_of
from service.profiling.values import (
    Contender,
    ContenderFigures,
    LeftOut,
    Noise,
    Profile,
    Recommendation,
    SizeFigures,
    Together,
    cost_per_million,
)
from service.settings import EngineSettings

TOGETHER_SHARE = 0.15
"""Of the time, for the recommended engine in all processes at once."""


class ProfileOptions(Struct, frozen=True, kw_only=True):
    """What to profile, and how long."""

    asked: Asked
    rows: tuple[int, ...]
    """Of a call, rising."""
    seconds: float
    """Of measuring; loading comes on top."""
    price_per_hour: float | None
    model: str
    """As a deployment is to name it: ``name`` or ``name@version``."""
    directory: Path | None
    """Of bundles, for the settings; None for the demonstration that ships with Podium."""
    plans: Path
    """The folder of compiled TensorRT plans."""
    engine: EngineSettings = EngineSettings()
    """Device and server of the engines that need one."""


class Progress(Protocol):
    """Told how far a profile is."""

    def begin(self, what: str) -> None:
        """Something begins that takes a while; what was begun before is done."""
        ...

    def share(self, done: float) -> None:
        """So much of it is done, 0..1."""
        ...


class _Measured(Struct, frozen=True, kw_only=True):
    """What the rounds gave."""

    figures: tuple[ContenderFigures, ...]
    times: Times
    noise: Noise


def profile_bundle(
    bundle: Bundle,
    options: ProfileOptions,
    *,
    progress: Progress,
    clock: Clock,
    timer: Timer = time.perf_counter,
) -> Profile:
    """Load, measure and compare what is asked for, then recommend settings.

    Raises:
        InputError: nothing of it can be measured; says why.
    """
    machine = this_machine(options.engine.device)
    left_out: list[LeftOut] = []
    measured = _measured(bundle, options, machine.cores, left_out, progress, clock, timer)
    recommended = recommend(
        measured.figures,
        Target(
            manifest=bundle.manifest,
            model=options.model,
            directory=options.directory,
            engine=options.engine,
        ),
        cores=machine.cores,
    )
    together = None
    if recommended is not None and recommended.contender.threads and recommended.workers > 1:
        progress.begin("all cores at once")
        together = _together(bundle, options, recommended, left_out)
    return Profile(
        model=bundle.manifest.name,
        version=bundle.manifest.version,
        created=datetime.fromtimestamp(clock.wall(), UTC),
        machine=machine,
        price_per_hour=options.price_per_hour,
        seconds=measured.times.took_s,
        rounds=measured.times.rounds,
        candidates_per_request=ROWS_PER_REQUEST,
        noise=measured.noise,
        figures=measured.figures,
        left_out=tuple(left_out),
        recommendation=recommended,
        together=together,
    )


def _measured(
    bundle: Bundle,
    options: ProfileOptions,
    cores: int,
    left_out: list[LeftOut],
    progress: Progress,
    clock: Clock,
    timer: Timer,
) -> _Measured:
    opener = Opener(bundle, options.engine, options.plans, clock)
    field = field_of(bundle.manifest, options.asked, cores=cores, absent=opener.absent)
    left_out += field.left_out
    opened = _opened(opener, field.contenders, left_out, progress)
    try:
        _require(opened, left_out)
        progress.begin("measuring")
        others = OtherWork()
        times = measure(
            [one.engine for one in opened],
            options.rows,
            sample=sample_of(bundle),
            timer=timer,
            seconds=options.seconds * (1 - TOGETHER_SHARE),
            progress=progress.share,
        )
        other_cores = others.cores()
        left_out += _not_measured(opened, times, options.rows)
    finally:
        close_all(opened)
    figures = tuple(_figures(bundle, opened, times, cores, options.price_per_hour))
    _require(figures, left_out)
    spread = [size.p95_ms / size.p50_ms - 1 for one in figures for size in one.sizes]
    noise = Noise(other_cores=other_cores, spread=float(np.median(spread)))
    return _Measured(figures=figures, times=times, noise=noise)


def _opened(
    opener: Opener,
    contenders: Sequence[Contender],
    left_out: list[LeftOut],
    progress: Progress,
) -> list[Opened]:
    opened: list[Opened] = []
    progress.begin("loading")
    try:
        for done, contender in enumerate(contenders):
            progress.share(done / len(contenders))
            found = opener.open(contender)
            if isinstance(found, LeftOut):
                left_out.append(found)
            else:
                opened.append(found)
    except BaseException:
        close_all(opened)
        raise
    return opened


def _require(some: Sequence[object], left_out: Sequence[LeftOut]) -> None:
    if not some:
        why = "; ".join(f"{left.what}: {left.reason}" for left in left_out)
        raise InputError(f"nothing of this can be measured here: {why}")


def _not_measured(
    opened: Sequence[Opened], times: Times, sizes: Sequence[int]
) -> Iterator[LeftOut]:
    """Engines that failed, and sizes that were too large for one."""
    for place, one in enumerate(opened):
        name, most = one.contender.name, one.engine.info.max_batch_rows
        if place in times.failed:
            yield LeftOut(what=name, reason=f"failed while measured: {times.failed[place]}")
        elif larger := [str(rows) for rows in sizes if rows > most]:
            reason = f"it takes at most {most:,} rows in a call"
            yield LeftOut(what=f"{name}, {', '.join(larger)} rows", reason=reason)


def _figures(
    bundle: Bundle, opened: Sequence[Opened], times: Times, cores: int, price: float | None
) -> Iterator[ContenderFigures]:
    for place, one in enumerate(opened):
        calls = {rows: s for (of, rows), s in sorted(times.calls_s.items()) if of == place}
        if calls:
            threads = one.contender.threads
            engines = 1 if threads is None else max(1, cores // threads)
            yield ContenderFigures(
                contender=one.contender,
                standing=standing_of(bundle.manifest, one.contender.precision),
                golden_difference=one.golden_difference,
                load_s=one.load_s,
                engines=engines,
                sizes=tuple(_sizes(calls, threads, engines, price)),
            )


def _sizes(
    calls: dict[int, Sequence[float]], threads: int | None, engines: int, price: float | None
) -> Iterable[SizeFigures]:
    rates = {rows: rows / float(np.median(seconds)) for rows, seconds in calls.items()}
    best = max(rates.values())
    for rows, seconds in calls.items():
        p50, p95 = np.quantile(seconds, [0.5, 0.95]).tolist()
        yield SizeFigures(
            rows=rows,
            calls=len(seconds),
            p50_ms=1e3 * p50,
            p95_ms=1e3 * p95,
            rows_per_s=rates[rows],
            efficiency=rates[rows] / best,
            rows_per_s_thread=None if threads is None else rates[rows] / threads,
            cost_per_million=cost_per_million(price, rates[rows] * engines),
        )


def _together(
    bundle: Bundle,
    options: ProfileOptions,
    recommended: Recommendation,
    left_out: list[LeftOut],
) -> Together | None:
    rows, workers = recommended.max_batch_rows, recommended.workers
    job = Job(
        bundle=str(bundle.path.absolute()),
        contender=recommended.contender,
        settings=options.engine,
        plans=str(options.plans),
        rows=rows,
        turn_s=options.seconds * TOGETHER_SHARE / (2 * TURNS),
        seed=1,
    )
    try:
        rates = rates_of(job, workers)
    except InputError as error:
        what = f"{recommended.contender.name} in {workers} processes at once"
        left_out.append(LeftOut(what=what, reason=str(error)))
        return None
    return Together(
        processes=workers,
        rows=rows,
        rows_per_s=rates.together,
        scaling=rates.together / (workers * rates.alone),
        cost_per_million=cost_per_million(options.price_per_hour, rates.together),
    )
