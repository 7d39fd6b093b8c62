"""The GPU, its driver, and the libraries that use it: what is there, and what fits together."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from ranking_models.errors import InputError
from ranking_models.tensorrt.device import cuda_runtime, find_device
from service.doctor.findings import Finding, note, ok, problem
from service.doctor.packages import installed_version
from service.doctor.proof.stack import driver_version
from service.engines.cuda import CudaRuntime
from service.engines.memory import size
from service.errors import EngineFailed
from service.processes.plan import has_device

LIBRARIES = (
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "onnxruntime-gpu",
    "cuda-bindings",
)


def gpu_findings() -> Iterator[Finding]:
    """Driver, devices and libraries; that there is no GPU is a note, for a CPU serves too."""
    yield _driver()
    driver_cuda: str | None = None
    try:
        cuda = cuda_runtime()
        first = find_device(cuda, 0)
        driver_cuda = first.driver
        yield from _devices(cuda)
    except InputError as reason:
        yield note("GPU", str(reason), "nothing, where a CPU is to serve; a GPU needs its driver")
    except EngineFailed as failure:
        advice = "end what uses it, or restart the machine"
        yield problem("GPU", f"it is there and does not answer: {failure}", advice)
    versions = {name: found for name in LIBRARIES if (found := installed_version(name))}
    yield from libraries(versions, driver_cuda, _cuda_of_onnx_runtime(versions))


def libraries(
    versions: Mapping[str, str], driver_cuda: str | None, onnx_runtime_cuda: str | None
) -> Iterator[Finding]:
    """Whether versions fit each other and the driver.

    Args:
        versions: Of what is installed, by distribution.
        driver_cuda: The CUDA version that the driver supports; None without a GPU.
        onnx_runtime_cuda: The CUDA version that onnxruntime-gpu was built for, if it says so.
    """
    subject = "GPU libraries"
    if not versions:
        yield note(subject, "none is installed", "for a GPU, install podium[gpu]")
        return
    yield ok(subject, ", ".join(f"{name} {found}" for name, found in versions.items()))
    tensorrt = versions.get("tensorrt")
    if tensorrt is not None and _major(tensorrt) not in {10, 11}:
        yield problem(subject, f"TensorRT {tensorrt} is not supported", "install 10.16 to 11")
    if tensorrt is not None and _major(tensorrt) >= 11 and "onnxruntime-gpu" in versions:
        # It links libnvinfer.so.10: facts of 1.31.1, and microsoft/onnxruntime issue 32278.
        found = f"ONNX Runtime's own TensorRT provider cannot work with TensorRT {tensorrt}"
        yield ok(subject, f"{found}; Podium does not use it")
    wanted = {
        "onnxruntime-gpu": _major(onnx_runtime_cuda or "") if "onnxruntime-gpu" in versions else 0,
        "tensorrt-cu13": 13 if "tensorrt-cu13" in versions else 0,
        "tensorrt-cu12": 12 if "tensorrt-cu12" in versions else 0,
    }
    for name, major in wanted.items():
        if driver_cuda is not None and major > _major(driver_cuda):
            found = f"{name} needs CUDA {major}, the driver supports {driver_cuda}"
            yield problem(subject, found, "install a newer NVIDIA driver")


def _driver() -> Finding:
    driver = driver_version()
    if driver is not None:
        return ok("NVIDIA driver", driver)
    if has_device():
        return ok("NVIDIA driver", "loaded; the system does not say its version")
    return note("NVIDIA driver", "none is loaded", "needed for a GPU alone")


def _devices(cuda: Any) -> Iterator[Finding]:
    _, count = cuda.cudaGetDeviceCount()
    for index in range(count):
        device = find_device(cuda, index)
        runtime = CudaRuntime(cuda, device)
        runtime.use()
        memory = runtime.memory()
        capability = ".".join(map(str, device.compute_capability))
        free = f"{size(memory.free_bytes)} of {size(memory.total_bytes)} free"
        found = f"{device.name}, compute capability {capability}, {free}"
        yield ok(f"GPU {index}", f"{found}, CUDA {device.driver} by its driver")


def _cuda_of_onnx_runtime(versions: Mapping[str, str]) -> str | None:
    if "onnxruntime-gpu" not in versions:
        return None
    try:
        return str(getattr(importlib.import_module("onnxruntime"), "cuda_version", "")) or None
    except ImportError:
        return None  # said among the packages


def _major(version: str) -> int:
    first = version.split(".", maxsplit=1)[0]
    return int(first) if first.isdecimal() else 0
