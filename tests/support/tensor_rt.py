"""Bundles as TensorRT plans on a simulated GPU, through the code that a real one runs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ranking_models.bundle import Bundle
from ranking_models.tensorrt.device import NoDevice, find_device
from service.engines.memory import MemoryBudget
from service.engines.tensor_rt.bundles import Gpu, find_gpu, load_bundle
from service.engines.tensor_rt.plan import LoadedPlan
from service.settings import EngineSettings
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.support.simulated_gpu import SimulatedGpu

BUCKETS = (16, 64)


def simulated(gpu: SimulatedGpu, file: str = VERSIONS[0]) -> Gpu:
    """What `find_gpu` would give on a machine with this device."""
    cuda = fake_cuda(*[T4] * (gpu.index + 1), simulated=gpu)
    device = find_device(cuda, gpu.index)
    return Gpu(device=device, cuda=cuda, trt=fake_tensorrt(file, gpu=gpu)[0])


def real_gpu() -> Gpu:
    """The first GPU of this machine; skips the test where there is none, with the reason."""
    try:
        return find_gpu(0)
    except NoDevice as reason:
        pytest.skip(str(reason))


def loaded(
    bundle: Bundle,
    gpu: Gpu,
    plans: Path,
    *,
    slots: int = 1,
    buckets: Sequence[int] = BUCKETS,
    budget: MemoryBudget | None = None,
    precision: str = "fp32",
    **options: Any,
) -> LoadedPlan:
    """A bundle on the device; ``options`` are fields of the settings, and ``timed``."""
    timed = options.pop("timed", False)
    return load_bundle(
        bundle,
        precision,
        EngineSettings(row_buckets=tuple(buckets), device=gpu.device.index, **options),
        slots=slots,
        plans=plans,
        budget=budget or MemoryBudget(0.8),
        created=datetime(2026, 11, 22, tzinfo=UTC),
        gpu=gpu,
        timed=timed,
    )
