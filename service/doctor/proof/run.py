"""The whole proof, from an empty folder of plans to one value with every figure."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, structs
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from service.clock import Clock
from service.doctor.proof.building import prove_builds, prove_loads
from service.doctor.proof.comparison import compare_onnx_runtime_cuda
from service.doctor.proof.figures import (
    FORMAT,
    Build,
    BundleFacts,
    Comparison,
    Load,
    Overlap,
    Proof,
    Residents,
    Scores,
    Section,
    Swap,
    Timing,
)
from service.doctor.proof.overlap import prove_overlap
from service.doctor.proof.residents import prove_residents
from service.doctor.proof.rig import Effort, Rig, precisions_of
from service.doctor.proof.scores import prove_scores
from service.doctor.proof.sections import Course, Tell, Trouble, not_run
from service.doctor.proof.stack import Found, find_stack, gpu_facts, require_some
from service.doctor.proof.swap import prove_swap
from service.doctor.proof.timing import prove_timing
from service.engines.buckets import buckets_of
from service.engines.loading import ONNX_RUNTIME_CUDA, EngineLoader
from service.engines.precisions import REFERENCE
from service.profiling.machine import this_machine
from service.settings import EngineSettings

Result = TypeVar("Result")


def prove_gpu(
    bundle: Bundle,
    settings: EngineSettings,
    plans: Path,
    *,
    clock: Clock,
    tell: Tell,
    effort: Effort | None = None,
) -> Proof:
    """Prove one GPU with one bundle; minutes, and nobody else should use the GPU meanwhile.

    Args:
        settings: The device, its buckets, and how much of its memory may be used.
        plans: An empty folder.
        tell: Takes what is done now, for people.

    Raises:
        InputError: there is no GPU (`NoDevice`), nothing that can use it, or no
            bucket is as small as what the bundle was checked with.
    """
    effort, began, created = effort or Effort(), clock.now(), clock.wall()
    found = find_stack(settings.device)
    buckets = buckets_of(bundle, settings)
    settings = replace(settings, row_buckets=buckets, calibrate=False)
    loader = EngineLoader(settings, plans, clock)
    no_provider = loader.absent(ONNX_RUNTIME_CUDA)
    require_some(found, no_provider)
    course = Course(clock, effort.seconds, tell)
    facts = gpu_facts(found)
    tensorrt = _with_tensorrt(found, bundle, settings, plans, clock, course, effort)

    def compare(trouble: Trouble) -> Comparison | None:
        return compare_onnx_runtime_cuda(
            loader, bundle, buckets, clock=clock, effort=effort, course=course, trouble=trouble
        )

    comparison: Section[Comparison] = (
        course.section("onnxruntime_cuda", compare) if no_provider is None else not_run(no_provider)
    )
    return Proof(
        format=FORMAT,
        created=datetime.fromtimestamp(created, UTC),
        seconds=clock.now() - began,
        machine=this_machine(settings.device),
        gpu=facts,
        stack=found.stack,
        tensorrt=None if found.trt is None else str(found.trt.__version__),
        bundle=_facts(bundle),
        buckets=buckets,
        onnxruntime_cuda=comparison,
        **structs.asdict(tensorrt),
    )


class _TensorRt(Struct, frozen=True, kw_only=True):
    """The sections that need TensorRT, in the order in which they run."""

    build: Section[tuple[Build, ...]]
    load: Section[tuple[Load, ...]]
    scores: Section[tuple[Scores, ...]]
    timing: Section[tuple[Timing, ...]]
    overlap: Section[tuple[Overlap, ...]]
    residents: Section[Residents]
    swap: Section[Swap]


class _Steps:
    """Sections on one rig, or none of them."""

    def __init__(self, course: Course, rig: Rig | None, why_none: str) -> None:
        self._course, self._rig, self._why_none = course, rig, why_none

    def __call__(
        self, name: str, prove: Callable[[Rig, Trouble], Result | None]
    ) -> Section[Result]:
        rig = self._rig
        if rig is None:
            return not_run(self._why_none)
        return self._course.section(name, lambda trouble: prove(rig, trouble))


def _with_tensorrt(
    found: Found,
    bundle: Bundle,
    settings: EngineSettings,
    plans: Path,
    clock: Clock,
    course: Course,
    effort: Effort,
) -> _TensorRt:
    """What could not be built is told once, and not tried again in every section."""
    rig: Rig | None = None
    if found.gpu is not None:
        rig = Rig(
            gpu=found.gpu,
            bundle=bundle,
            precisions=precisions_of(bundle),
            settings=settings,
            plans=plans,
            clock=clock,
            course=course,
            effort=effort,
        )
    build = _Steps(course, rig, found.no_trt)("build", prove_builds)
    built = tuple(one.precision for one in build.figures or ())
    if rig is not None:
        rig = replace(rig, precisions=built) if built else None
    step = _Steps(course, rig, found.no_trt or "no plan was built")
    return _TensorRt(
        build=build,
        load=step("load", prove_loads),
        scores=step("scores", prove_scores),
        timing=step("timing", prove_timing),
        overlap=step("overlap", prove_overlap),
        residents=step("residents", prove_residents),
        swap=step("swap", prove_swap),
    )


def _facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    return BundleFacts(
        model=manifest.name,
        version=manifest.version,
        content=bundle.score_hash(REFERENCE),
        precisions=precisions_of(bundle),
    )
