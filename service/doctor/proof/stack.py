"""What of the GPU stack is there: TensorRT, else TensorRT-RTX, and ONNX Runtime's CUDA."""

import importlib
from pathlib import Path
from typing import Any

from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.tensorrt.device import (
    Device,
    NoDevice,
    cuda_runtime,
    find_device,
    load_tensorrt,
)
from ranking_models.tensorrt.targets import is_rtx
from service.doctor.proof.figures import GpuFacts, Stack
from service.engines.cuda import CudaRuntime
from service.engines.tensor_rt.bundles import Gpu

_DRIVER_FILE = Path("/proc/driver/nvidia/version")


class Found(Struct, frozen=True, kw_only=True):
    """A GPU, and the libraries that can use it."""

    device: Device
    cuda: Any
    trt: Any | None
    no_trt: str
    """Why there is no TensorRT; empty if there is."""

    @property
    def stack(self) -> Stack:
        if self.trt is None:
            return "none"
        return "tensorrt-rtx" if is_rtx(self.trt) else "tensorrt"

    @property
    def gpu(self) -> Gpu | None:
        """For loading plans; None without a TensorRT."""
        if self.trt is None:
            return None
        return Gpu(device=self.device, cuda=self.cuda, trt=self.trt)


def find_stack(index: int) -> Found:
    """Look for a GPU first, and for TensorRT only where there is one.

    Raises:
        NoDevice: there is no driver, no such GPU, or no package that speaks to it.
    """
    cuda = cuda_runtime()
    device = find_device(cuda, index)
    trt, reason = _tensorrt()
    return Found(device=device, cuda=cuda, trt=trt, no_trt=reason)


def gpu_facts(found: Found) -> GpuFacts:
    """The device as it is now."""
    runtime = CudaRuntime(found.cuda, found.device)
    runtime.use()
    memory, device = runtime.memory(), found.device
    return GpuFacts(
        index=device.index,
        name=device.name,
        compute_capability=device.compute_capability,
        memory_bytes=memory.total_bytes,
        free_bytes=memory.free_bytes,
        driver_cuda=device.driver,
        driver=driver_version(),
    )


def driver_version(file: Path = _DRIVER_FILE) -> str | None:
    """The driver's own version, such as ``580.65.06``; None without a driver that says it."""
    try:
        words = file.read_text("ascii", errors="replace").splitlines()[0].split()
    except (OSError, IndexError):
        return _driver_by_nvml()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _driver_by_nvml() -> str | None:
    """Where the kernel has no such file, as under WSL."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver: the binding has a class for every code
        return None
    try:
        return str(nvml.nvmlSystemGetDriverVersion())
    finally:
        nvml.nvmlShutdown()


def _tensorrt() -> tuple[Any | None, str]:
    """The module, or why there is none; only where there is a GPU: see `device`."""
    try:
        return load_tensorrt(), ""
    except NoDevice as reason:
        try:
            return importlib.import_module("tensorrt_rtx"), ""
        except (ImportError, OSError) as error:
            return None, f"{reason}; nor can tensorrt_rtx be imported ({error})"


def require_some(found: Found, no_cuda_provider: str | None) -> None:
    """Something must be able to use the GPU.

    Raises:
        InputError: nothing can; says why.
    """
    if found.trt is None and no_cuda_provider is not None:
        raise InputError(
            f"{found.device.name} is there, and nothing can use it: {found.no_trt}; "
            f"ONNX Runtime: {no_cuda_provider}"
        )
