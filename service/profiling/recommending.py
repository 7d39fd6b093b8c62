"""From figures to settings. Pure.

The most rows a second on the whole machine win, since the machine's price is
the same. But whatever is less plain than the default - a lower precision,
another engine, more threads, the split's table - has to be worth it by a tenth;
and a precision that has not passed its gate is never recommended, however fast.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec
from msgspec import Struct

from ranking_models.manifest import ModelManifest
from service.engines.calibration import NEARLY
from service.engines.loading import ON_THE_CPU, ONNX_RUNTIME_CPU
from service.engines.precisions import REFERENCE
from service.processes.plan import plan_workers
from service.profiling.values import Contender, ContenderFigures, Recommendation, SizeFigures
from service.settings import DeploymentSettings, EngineName, EngineSettings, Settings

WORTH = 1.1
"""So many times the rows must bring what is less plain."""
MOST_WORKERS = 256
"""That `server.workers` takes."""


class Target(Struct, frozen=True, kw_only=True):
    """What the settings are for."""

    manifest: ModelManifest
    model: str
    """As a deployment names it: ``name`` or ``name@version``."""
    directory: Path | None
    """Of bundles; None for the demonstration that ships with Podium."""
    engine: EngineSettings
    """How every contender was loaded."""


def recommend(
    figures: Sequence[ContenderFigures], target: Target, *, cores: int
) -> Recommendation | None:
    """Settings for `podium serve`, with a reason each; None where nothing measured may serve."""
    eligible = [f for f in figures if f.standing in {"reference", "passed"}]
    if not eligible:
        return None
    fastest = max(eligible, key=lambda f: f.machine_rows_per_s)
    near = [f for f in eligible if f.machine_rows_per_s * WORTH > fastest.machine_rows_per_s]
    chosen = min(near, key=lambda f: _plainness(f.contender))
    size = _batch(chosen)
    workers, why_workers = _workers(chosen, cores)
    reasons = (
        _why_engine(chosen, fastest, eligible),
        *_why_fallback(chosen),
        _why_precision(chosen, eligible),
        *_why_threads(chosen, eligible),
        *_why_split(chosen, eligible),
        f"max_batch_rows = {size.rows}: the smallest batch within {1 - NEARLY:.0%} of the best "
        f"rate; a call takes {size.p50_ms:.3g} ms, its p95 is {size.p95_ms:.3g}.",
        f"workers = {workers}: {why_workers}.",
        *_barred(figures, chosen),
    )
    return Recommendation(
        contender=chosen.contender,
        max_batch_rows=size.rows,
        workers=workers,
        reasons=reasons,
        toml=_toml(chosen.contender, size.rows, workers, target),
    )


def _plainness(contender: Contender) -> tuple[bool, bool, int, bool, str]:
    """Less is plainer. The precision first: it alone changes scores."""
    return (
        contender.precision != REFERENCE,
        contender.engine != ONNX_RUNTIME_CPU,
        contender.threads or 1,
        contender.split,
        contender.name,
    )


def _batch(figures: ContenderFigures) -> SizeFigures:
    enough = NEARLY * figures.best.rows_per_s
    return next(size for size in figures.sizes if size.rows_per_s >= enough)


def _workers(chosen: ContenderFigures, cores: int) -> tuple[int, str]:
    contender = chosen.contender
    if contender.threads is not None:
        each = f"with {contender.threads} threads each" if contender.threads > 1 else "one each"
        workers = min(chosen.engines, MOST_WORKERS)
        return workers, f"the {cores} usable cores have room for so many, {each}"
    engine = cast(EngineName, contender.engine)
    alone = {"ranker": DeploymentSettings(model="any", engines=(engine,))}
    plan = plan_workers(Settings(deployments=alone), cores, has_device=True)
    return plan.workers, plan.why


def _why_engine(
    chosen: ContenderFigures, fastest: ContenderFigures, eligible: Iterable[ContenderFigures]
) -> str:
    said = f"{chosen.contender.name}: {_engines(chosen)} at {chosen.best.rows_per_s:,.0f} rows/s"
    if chosen is not fastest:
        more = fastest.machine_rows_per_s / chosen.machine_rows_per_s - 1
        return f"{said}; {fastest.contender.name} would bring only {more:.0%} more."
    other = _fastest(eligible, lambda c: c.engine != chosen.contender.engine)
    if other is None:
        return f"{said}; no other engine was measured that may serve."
    times = other.machine_rows_per_s / chosen.machine_rows_per_s
    return f"{said}; {other.contender.name} scores {times:.2f} times that."


def _why_fallback(chosen: ContenderFigures) -> Iterator[str]:
    if chosen.contender.engine != ONNX_RUNTIME_CPU:
        yield f"{ONNX_RUNTIME_CPU} stands behind it: it answers while the first loads or fails."


def _why_precision(chosen: ContenderFigures, eligible: Iterable[ContenderFigures]) -> str:
    precision = chosen.contender.precision
    reference = _fastest(eligible, lambda c: c.precision == REFERENCE)
    if precision == REFERENCE:
        others = _fastest(eligible, lambda c: c.precision != REFERENCE)
        if others is None:
            return "precision = fp32: the reference; no other that may serve was measured."
        times = others.machine_rows_per_s / chosen.machine_rows_per_s
        other = others.contender.precision
        return f"precision = fp32: the reference; {other} would bring {times:.2f} times its rows."
    passed = f"precision = {precision}: it passed its gate against {REFERENCE}"
    if reference is None:
        return f"{passed}; {REFERENCE} was not measured."
    times = chosen.machine_rows_per_s / reference.machine_rows_per_s
    return f"{passed} and scores {times:.2f} times its rows."


def _why_threads(chosen: ContenderFigures, eligible: Iterable[ContenderFigures]) -> Iterator[str]:
    own = chosen.contender
    if own.threads is None:
        return
    same = msgspec.structs.replace
    other = _fastest(eligible, lambda c: c != own and same(c, threads=own.threads) == own)
    if other is None:
        yield f"threads = {own.threads}: no other number was measured."
        return
    times = other.machine_rows_per_s / chosen.machine_rows_per_s
    there = f"{_engines(other)} with {other.contender.threads}"
    yield f"threads = {own.threads}: {there} would score {times:.2f} times the rows."


def _why_split(chosen: ContenderFigures, eligible: Iterable[ContenderFigures]) -> Iterator[str]:
    own = chosen.contender
    if not _may_split(own):
        return
    other = _fastest(eligible, lambda c: msgspec.structs.replace(c, split=not c.split) == own)
    if other is None:
        if own.split:
            yield "split = auto: the whole graph was not measured."
        return
    times = chosen.machine_rows_per_s / other.machine_rows_per_s
    if own.split:
        yield f"split = auto: the exact split scores {times:.2f} times the whole graph's rows."
    else:
        yield f"split = off: the exact split's table would bring {1 / times:.2f} times the rows."


def _may_split(contender: Contender) -> bool:
    return contender.engine == ONNX_RUNTIME_CPU and contender.precision == REFERENCE


def _barred(figures: Iterable[ContenderFigures], chosen: ContenderFigures) -> Iterator[str]:
    """What is faster and may not serve."""
    why = {"failed": "it failed its gate", "ungated": "no gate has compared it with fp32"}
    for one in figures:
        if one.standing in why and one.machine_rows_per_s > chosen.machine_rows_per_s:
            times = one.machine_rows_per_s / chosen.machine_rows_per_s
            yield f"Not {one.contender.name}, at {times:.2f} times the rows: {why[one.standing]}."


def _engines(figures: ContenderFigures) -> str:
    return f"{figures.engines} {'engine' if figures.engines == 1 else 'engines'}"


def _fastest(
    figures: Iterable[ContenderFigures], which: Callable[[Contender], bool]
) -> ContenderFigures | None:
    found = (f for f in figures if which(f.contender))
    return max(found, key=lambda f: f.machine_rows_per_s, default=None)


def _toml(contender: Contender, rows: int, workers: int, target: Target) -> str:
    """A whole settings file; what it leaves out keeps its default."""
    engines = [contender.engine]
    if contender.engine != ONNX_RUNTIME_CPU:
        engines.append(ONNX_RUNTIME_CPU)
    sections: dict[str, dict[str, object]] = {
        "models": {} if target.directory is None else {"directory": str(target.directory)},
        "deployments.ranker": {
            "model": target.model,
            "precision": contender.precision,
            "engines": engines,
        },
        "server": {"workers": workers},
        "batching": {"max_batch_rows": rows},
        "engine": _engine_section(contender, target),
    }
    return "\n".join(
        "".join([f"[{name}]\n", *(f"{key} = {_value(v)}\n" for key, v in values.items())])
        for name, values in sections.items()
        if values
    )


def _engine_section(contender: Contender, target: Target) -> dict[str, object]:
    settings = target.engine
    section: dict[str, object] = {}
    if contender.engine in ON_THE_CPU:
        section["threads"] = contender.threads
    if contender.engine == "triton":
        section["triton_url"] = settings.triton_url
    elif contender.threads is None:
        section["device"] = settings.device
    if target.manifest.split is not None and _may_split(contender):
        # "on" would refuse to start with the next version of the model if that had no split.
        section["split"] = "auto" if contender.split else "off"
    return section


def _value(value: object) -> str:
    """JSON writes texts, whole numbers and lists of texts as TOML does."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
