"""Plans built and built again, and brought to the device."""

import shutil
from pathlib import Path

from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.compile import Compiled, compile_bundle
from ranking_models.tensorrt.plan_cache import PlanCache
from ranking_models.tensorrt.targets import is_rtx
from service.doctor.proof.figures import Build, Load
from service.doctor.proof.rig import Rig
from service.doctor.proof.sections import Trouble

SLOTS = 2
LEFT_FOR_THE_REST = 0.5
"""Of all time: second builds may not take it from the sections that measure."""


def prove_builds(rig: Rig, trouble: Trouble) -> tuple[Build, ...]:
    """Build every precision twice; the second build starts from the first one's measurements."""
    built = (trouble.attempt(p, _build, rig, p, trouble) for p in rig.precisions)
    return tuple(one for one in built if one is not None)


def prove_loads(rig: Rig, trouble: Trouble) -> tuple[Load, ...]:
    """Load every precision as the service does, and count its graphs and its memory."""
    loaded = (trouble.attempt(p, _load, rig, p, trouble) for p in rig.precisions)
    return tuple(one for one in loaded if one is not None)


def _build(rig: Rig, precision: str, trouble: Trouble) -> Build:
    rig.course.tell(f"build {precision}")
    first, first_s = _timed_build(rig, precision)
    measurements = _timing_cache_bytes(rig.plans_of(precision))
    second_s = None
    needs_s = first_s + LEFT_FOR_THE_REST * rig.effort.seconds
    if rig.course.goes_on(f"second build of {precision}", trouble, needs_s=needs_s):
        shutil.rmtree(first.plan.path)
        again, second_s = _timed_build(rig, precision)
        if not again.built:
            trouble.add(f"{precision}: the second build found the plan of the first")
    found, found_s = _timed_build(rig, precision)
    if found.built:
        trouble.add(f"{precision}: the plan was built again where it should have been found")
    return Build(
        precision=precision,
        first_s=first_s,
        second_s=second_s,
        plan_bytes=found.plan.manifest.plan.bytes,
        timing_cache_first_bytes=measurements,
        timing_cache_second_bytes=(
            None if second_s is None else _timing_cache_bytes(rig.plans_of(precision))
        ),
        found_s=found_s,
    )


def _timed_build(rig: Rig, precision: str) -> tuple[Compiled, float]:
    device, trt = rig.gpu.device, rig.gpu.trt
    started = rig.clock.now()
    compiled = compile_bundle(
        trt,
        rig.bundle,
        precision,
        device,
        PlanCache(rig.plans_of(precision)),
        buckets=rig.buckets,
        options=BuildOptions(target=device.compute_capability if is_rtx(trt) else None),
        created=rig.now,
    )
    return compiled, rig.clock.now() - started


def _timing_cache_bytes(plans: Path) -> int | None:
    """Of the one file of measurements in a folder of plans."""
    return next((file.stat().st_size for file in plans.glob("timing-*.cache")), None)


def _load(rig: Rig, precision: str, trouble: Trouble) -> Load:
    started = rig.clock.now()
    plan = rig.load(precision, slots=SLOTS)
    try:
        wanted = 0 if is_rtx(rig.gpu.trt) else SLOTS * len(rig.buckets)
        captured, parts = plan.captured_graphs, plan.footprint
        if captured < wanted:
            trouble.add(f"{precision}: {captured} of {wanted} CUDA graphs could be captured")
        return Load(
            precision=precision,
            slots=SLOTS,
            buckets=rig.buckets,
            load_s=rig.clock.now() - started,
            weights_bytes=parts.weights_bytes,
            scratch_bytes=parts.scratch_bytes,
            buffer_bytes=parts.buffer_bytes,
            predicted_bytes=plan.predicted_bytes,
            measured_bytes=plan.measured_bytes,
            graphs_wanted=wanted,
            graphs_captured=captured,
        )
    finally:
        plan.close()
