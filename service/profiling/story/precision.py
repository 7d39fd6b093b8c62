"""Which reduced precision scores more rows a second than fp32 on this machine's CPU, if any."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from service.clock import Clock
from service.engines import Engine
from service.engines.calibration import sample_of, timer_for
from service.engines.loading import ONNX_RUNTIME_CPU
from service.engines.precisions import REFERENCE
from service.errors import StartupError
from service.processes.plan import usable_cores
from service.profiling.contenders import Asked, field_of, standing_of
from service.profiling.measuring import measure
from service.profiling.opening import Opened, Opener, close_all
from service.profiling.values import Contender, LeftOut
from service.settings import EngineSettings

WORTH = 1.05
"""So many times the rows it must score: less is noise."""
ROWS = 400
Work = TypeVar("Work")
ENGINES = (ONNX_RUNTIME_CPU, "openvino")


class Scoring(Struct, frozen=True, kw_only=True):
    """What scores in a step of Podium."""

    engine: str
    precision: str


FP32 = Scoring(engine=ONNX_RUNTIME_CPU, precision=REFERENCE)


class Choice(Struct, frozen=True, kw_only=True):
    """The faster reduced precision; None and why where there is none."""

    scoring: Scoring | None
    why: str


def apart(work: Callable[[], Work]) -> Work:
    """Do something with engines in a thread of its own, which then ends.

    OpenVINO gives the thread that compiles a model another signal stack, and frees that with the
    model: the next Ctrl-C would then kill this process, and its servers would be left behind.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def choose(bundle: Bundle, *, plans: Path, clock: Clock, seconds: float) -> Choice:
    """Measure every approved reduced precision that this CPU runs against fp32, side by side."""
    opener = Opener(bundle, EngineSettings(threads=1), plans, clock)
    asked = Asked(
        engines=ENGINES,
        precisions=(),
        threads=(1,),
        splits=(bundle.manifest.split is not None,),
    )
    field = field_of(bundle.manifest, asked, cores=usable_cores(), absent=opener.absent)
    reasons = _absent(bundle, field.left_out)
    opened: list[Opened] = []
    try:
        for contender in field.contenders:
            if (reason := _barred(bundle, contender)) is not None:
                reasons.append(f"{_name(contender)}: {reason}")
            elif _is_reference(contender) or contender.precision != REFERENCE:
                found = opener.open(contender)
                if isinstance(found, LeftOut):
                    reasons.append(f"{_name(contender)}: {found.reason}")
                else:
                    opened.append(found)
        return _fastest(opened, bundle, seconds, reasons)
    finally:
        close_all(opened)


def scored_by(bundle: Bundle, scoring: Scoring, *, plans: Path, clock: Clock) -> Engine:
    """The engine of a step, for direct calls; the caller closes it.

    Raises:
        StartupError: it cannot be loaded.
    """
    settings = EngineSettings(threads=1)
    contender = Contender(
        engine=scoring.engine, precision=scoring.precision, threads=1, split=False
    )
    found = Opener(bundle, settings, plans, clock).open(contender)
    if isinstance(found, LeftOut):
        raise StartupError(f"{found.what}: {found.reason}")
    return found.engine


def _fastest(
    opened: Sequence[Opened], bundle: Bundle, seconds: float, reasons: list[str]
) -> Choice:
    reference = next((o for o in opened if _is_reference(o.contender)), None)
    others = [one for one in opened if one is not reference]
    if reference is None or not others:
        return Choice(scoring=None, why="; ".join(reasons) or "the bundle has fp32 alone")
    measured = [reference, *others]
    times = measure(
        [one.engine for one in measured],
        (min(ROWS, *(one.engine.info.max_batch_rows for one in measured)),),
        sample=sample_of(bundle),
        timer=timer_for(1),
        seconds=seconds,
        progress=lambda _share: None,
    )
    calls = {place: float(np.median(found)) for (place, _), found in times.calls_s.items()}
    reasons += [f"{_name(measured[p].contender)}: {why}" for p, why in times.failed.items()]
    if 0 not in calls or len(calls) == 1:
        return Choice(scoring=None, why="; ".join(reasons))
    gains = {place: calls[0] / took for place, took in calls.items() if place}
    best = max(gains, key=gains.__getitem__)
    chosen = measured[best].contender
    said = f"{_name(chosen)} scores {gains[best]:.2f} times the rows of fp32 on one core"
    if gains[best] < WORTH:
        return Choice(scoring=None, why="; ".join([f"none is faster here: {said}", *reasons]))
    scoring = Scoring(engine=chosen.engine, precision=chosen.precision)
    return Choice(scoring=scoring, why=f"{said}, and passed its gate")


def _absent(bundle: Bundle, left_out: Sequence[LeftOut]) -> list[str]:
    """Why an engine or a reduced graph did not take part; that fp16 is for GPUs needs no word."""
    precisions = set(bundle.manifest.precisions)
    return [f"{one.what}: {one.reason}" for one in left_out if one.what not in precisions]


def _barred(bundle: Bundle, contender: Contender) -> str | None:
    standing = standing_of(bundle.manifest, contender.precision)
    why = {"failed": "it failed its gate", "ungated": "no gate has compared it with fp32"}
    return why.get(standing)


def _is_reference(contender: Contender) -> bool:
    return (contender.engine, contender.precision) == (ONNX_RUNTIME_CPU, REFERENCE)


def _name(contender: Contender) -> str:
    return f"{contender.precision} on {contender.engine}"
