"""From a bundle to a loaded plan: the plan is found, or compiled and kept, then loaded."""

from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.tensorrt.border import border_of
from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.compile import compile_bundle
from ranking_models.tensorrt.device import Device, cuda_runtime, find_device, load_tensorrt
from ranking_models.tensorrt.plan_cache import PlanCache
from ranking_models.tensorrt.targets import is_rtx
from service.engines import EngineInfo
from service.engines.buckets import buckets_of
from service.engines.cuda import CudaRuntime
from service.engines.memory import MemoryBudget
from service.engines.tensor_rt.plan import LoadedPlan
from service.engines.tensor_rt.plan import load_tensorrt as load_plan
from service.settings import EngineSettings

NAME = "tensorrt"


class Gpu(Struct, frozen=True, kw_only=True):
    """A device that is there, and the modules that use it."""

    device: Device
    cuda: Any
    """``cuda.bindings.runtime``"""
    trt: Any
    """``tensorrt`` or ``tensorrt_rtx``"""


def find_gpu(index: int) -> Gpu:
    """Look for a device; TensorRT is not even imported where there is none.

    Raises:
        NoDevice: there is no driver, no such GPU, or a package is missing; says which.
    """
    cuda = cuda_runtime()
    device = find_device(cuda, index)
    return Gpu(device=device, cuda=cuda, trt=load_tensorrt())


def load_bundle(
    bundle: Bundle,
    precision: str,
    settings: EngineSettings,
    *,
    slots: int,
    plans: Path,
    budget: MemoryBudget,
    created: datetime,
    gpu: Gpu | None = None,
    timed: bool = False,
) -> LoadedPlan:
    """Load one precision of a bundle; takes minutes where its plan must be compiled.

    Args:
        slots: Batches that are on the device at the same time, one per instance.
        plans: The folder of compiled plans.
        created: Now, for the manifest of a plan that is compiled.
        gpu: From `find_gpu`, which is asked for it otherwise.

    Raises:
        InputError: there is no GPU (`NoDevice`), or the bundle cannot be compiled.
        EngineFailed: what `load_tensorrt` raises.
    """
    found = gpu or find_gpu(settings.device)
    buckets = buckets_of(bundle, settings)
    compiled = compile_bundle(
        found.trt,
        bundle,
        precision,
        found.device,
        PlanCache(plans),
        buckets=buckets,
        options=BuildOptions(target=found.device.compute_capability if is_rtx(found.trt) else None),
        created=created,
    )
    manifest = bundle.manifest
    return load_plan(
        found.trt,
        CudaRuntime(found.cuda, found.device),
        compiled.plan.content,
        info=EngineInfo(
            name=NAME,
            precision=precision,
            model=manifest.name,
            version=manifest.version,
            max_batch_rows=buckets[-1],
        ),
        border=border_of(bundle.schema),
        buckets=buckets,
        slots=slots,
        use_graphs=settings.cuda_graphs,
        budget=budget,
        timed=timed,
    )
