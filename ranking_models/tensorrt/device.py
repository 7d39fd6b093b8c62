"""Is there a GPU? Asked before anything of TensorRT is touched.

Without a driver TensorRT's constructors give null pointers, or objects that
end the process when they are used. CUDA itself answers with an error code,
so it is asked first, through ``cuda.bindings.runtime``.
"""

import importlib
from typing import Any

from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.tensorrt.targets import ComputeCapability

_INSTALL = "install podium[gpu] on a machine with an NVIDIA GPU"


class NoDevice(InputError):
    """This machine cannot run TensorRT; says why in one line."""


class Device(Struct, frozen=True, kw_only=True):
    """A GPU, as far as a plan depends on it."""

    index: int
    name: str
    compute_capability: ComputeCapability
    driver: str
    """The CUDA version that the driver supports, such as ``13.0``."""


def cuda_runtime() -> Any:
    """The module ``cuda.bindings.runtime``.

    Raises:
        NoDevice: it is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        reason = f"the Python package cuda-bindings cannot be imported ({error})"
        raise NoDevice(f"no GPU can be used: {reason}; {_INSTALL}") from error


def find_device(cuda: Any, index: int) -> Device:
    """Make a GPU the current one of this thread, and describe it.

    Args:
        cuda: The module that `cuda_runtime` gives.
        index: From 0, in CUDA's order.

    Raises:
        NoDevice: there is no driver, no GPU, or none with this index.
    """
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess:
        reason = f"{error.name}: {_text(cuda, error)}"
        raise NoDevice(f"no GPU can be used: there is no NVIDIA driver that works ({reason})")
    if count == 0:
        raise NoDevice("no GPU can be used: the NVIDIA driver finds none")
    if not 0 <= index < count:
        devices = "device 0" if count == 1 else f"devices 0 to {count - 1}"
        raise NoDevice(f"there is no GPU {index}: this machine has {devices}")
    (error,) = cuda.cudaSetDevice(index)
    _require(cuda, error, f"GPU {index} cannot be used")
    error, properties = cuda.cudaGetDeviceProperties(index)
    _require(cuda, error, f"GPU {index} cannot be described")
    error, version = cuda.cudaDriverGetVersion()
    _require(cuda, error, "the driver does not say its version")
    return Device(
        index=index,
        name=properties.name.decode(errors="replace").rstrip("\0"),
        compute_capability=(int(properties.major), int(properties.minor)),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def load_tensorrt() -> Any:
    """The module ``tensorrt``; call it after `find_device` only.

    Raises:
        NoDevice: it is not installed, or another major version than 10 or 11.
    """
    try:
        trt: Any = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        reason = f"the Python package tensorrt cannot be imported ({error})"
        raise NoDevice(f"no plan can be built: {reason}; {_INSTALL}") from error
    version = trt.__version__
    if version.split(".")[0] not in ("10", "11"):
        raise NoDevice(f"TensorRT {version} is not one that podium builds with: 10.16 to 11")
    return trt


def _require(cuda: Any, error: Any, what: str) -> None:
    if error != cuda.cudaError_t.cudaSuccess:
        raise NoDevice(f"{what}: {error.name}: {_text(cuda, error)}")


def _text(cuda: Any, error: Any) -> str:
    _, text = cuda.cudaGetErrorString(error)
    return str(text.decode(errors="replace"))
