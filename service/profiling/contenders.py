"""Who is measured: every graph of a bundle on every engine of this machine, and what is not."""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from ranking_models.manifest import ModelManifest
from service.engines.loading import ON_THE_CPU, ONNX_RUNTIME_CPU
from service.engines.precisions import REFERENCE, precision_of
from service.profiling.values import Contender, LeftOut, Standing

Absent = Callable[[str], str | None]
"""Why this machine cannot run an engine; None if it may."""


class Asked(Struct, frozen=True, kw_only=True):
    """What is to be compared."""

    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    """Empty: all of the bundle."""
    threads: tuple[int, ...]
    splits: tuple[bool, ...]
    """Whether ONNX Runtime on the CPU runs the whole graph, the exact split, or each of them."""


class Field(Struct, frozen=True, kw_only=True):
    """Who takes part, and what does not."""

    contenders: tuple[Contender, ...]
    left_out: tuple[LeftOut, ...]


def field_of(manifest: ModelManifest, asked: Asked, *, cores: int, absent: Absent) -> Field:
    """Everything asked for that a bundle has and this machine can run, and why not the rest."""
    left_out: list[LeftOut] = []
    precisions = _known(manifest, asked.precisions, left_out)
    threads = _fitting(asked.threads, cores, left_out)
    contenders: list[Contender] = []
    for engine in asked.engines:
        reason = absent(engine)
        if reason is not None:
            left_out.append(LeftOut(what=engine, reason=reason))
            continue
        for precision in precisions:
            if (runs := precision_of(engine, precision)) != precision:
                reason = f"{engine} does not run it; a deployment of {precision} gets {runs} there"
                left_out.append(LeftOut(what=f"{engine} {precision}", reason=reason))
                continue
            splits = _splits(manifest, engine, precision, asked.splits, left_out)
            contenders += _of_engine(engine, precision, threads, splits)
    return Field(contenders=tuple(contenders), left_out=tuple(left_out))


def standing_of(manifest: ModelManifest, precision: str) -> Standing:
    """Whether a precision may be recommended: the reference, or one that passed its gate."""
    gate = manifest.precisions[precision].gate
    if precision == REFERENCE:
        return "reference"
    if gate is None:
        return "ungated"
    return "passed" if gate.passed else "failed"


def _of_engine(
    engine: str, precision: str, threads: Sequence[int], splits: Sequence[bool]
) -> Iterator[Contender]:
    for split in splits:
        for number in threads if engine in ON_THE_CPU else (None,):
            yield Contender(engine=engine, precision=precision, threads=number, split=split)


def _known(manifest: ModelManifest, asked: Sequence[str], left_out: list[LeftOut]) -> list[str]:
    there = manifest.precisions
    bundle = f"{manifest.name}@{manifest.version}"
    reason = f"{bundle} has no such graph; it has {', '.join(there)}"
    left_out += [LeftOut(what=name, reason=reason) for name in asked if name not in there]
    return [precision for precision in asked or there if precision in there]


def _fitting(asked: Sequence[int], cores: int, left_out: list[LeftOut]) -> list[int]:
    reason = f"more than the {cores} usable {'core' if cores == 1 else 'cores'}"
    left_out += [LeftOut(what=f"{n} threads", reason=reason) for n in asked if n > cores]
    return [number for number in asked if number <= cores]


def _splits(
    manifest: ModelManifest,
    engine: str,
    precision: str,
    asked: Sequence[bool],
    left_out: list[LeftOut],
) -> Sequence[bool]:
    """Whole graph and split where both are; the split is of fp32 on ONNX Runtime alone."""
    if engine != ONNX_RUNTIME_CPU or precision != REFERENCE:
        return (False,)
    if manifest.split is None and True in asked:
        reason = f"{manifest.name}@{manifest.version} has no exact split"
        left_out.append(LeftOut(what=f"{engine} {precision} split", reason=reason))
        return [split for split in asked if not split]
    return asked
