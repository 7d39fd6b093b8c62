"""The part of TensorRT's Python interface that engines use, as types.

``tensorrt`` 10.16, 11.4 and ``tensorrt_rtx`` 1.7 all have it. `make verify` checks
that with stubs generated from the real bindings; tests run on a fake that takes
only the names and arguments recorded from them. Calls that can fail answer None
or False, and say why in the log alone.
"""

from collections.abc import Sequence
from typing import Any, Protocol, overload


class Dims(Protocol):
    """A shape."""

    def __len__(self) -> int: ...

    def __getitem__(self, axis: int, /) -> int: ...


class ExecutionContext(Protocol):
    """What one execution at a time needs: shapes, addresses, scratch memory."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...

    def set_device_memory(self, memory: int, size: int) -> None: ...

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def infer_shapes(self) -> Sequence[str]:
        """Names of the inputs whose shape is still missing."""
        ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class CudaEngine(Protocol):
    """A plan on the device."""

    @property
    def num_io_tensors(self) -> int: ...

    @property
    def num_optimization_profiles(self) -> int: ...

    @property
    def device_memory_size_v2(self) -> int:
        """Scratch bytes of the largest profile."""
        ...

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Any: ...

    def get_tensor_dtype(self, name: str) -> Any: ...

    def get_tensor_shape(self, name: str) -> Dims: ...

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Dims]:
        """Least, best and largest shape."""
        ...

    def get_engine_stat(self, stat: Any) -> int: ...

    def create_runtime_config(self) -> Any: ...

    @overload
    def create_execution_context(self, strategy: Any = ...) -> ExecutionContext | None: ...

    @overload
    def create_execution_context(self, runtime_config: Any = ...) -> ExecutionContext | None: ...


class Runtime(Protocol):
    """Loads plans."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None: ...
