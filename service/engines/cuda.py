"""What engines need of CUDA: streams, events, memory and graphs, every error checked.

`CudaRuntime` speaks to ``cuda.bindings.runtime`` (13.5), whose functions answer
with an error code and the value. An error that is not *sticky* concerns one
call. A sticky one ends CUDA in this process: every later call fails, and only
a new process can use the GPU again. It is told apart as `DeviceLost`.

cuda-bindings lets other Python threads run during every call (NVIDIA/cuda-python,
issue 1065), and events here are of the kind that puts a waiting thread to sleep:
waiting for the GPU costs neither the interpreter lock nor a core.
"""

import logging
from collections.abc import Callable
from typing import Any, SupportsInt, cast

from msgspec import Struct

from ranking_models.tensorrt.device import Device
from service.errors import EngineFailed

_LOG = logging.getLogger(__name__)

Stream = SupportsInt
"""A handle of CUDA's; as a number TensorRT takes it too."""
Event = object
Graph = object
"""Ready to be launched."""
Address = int
"""Of the first byte, on the host or on the device."""

STICKY = frozenset(
    f"cudaError{name}"
    for name in (
        "Assert",
        "ContextIsDestroyed",
        "Contained",
        "ECCUncorrectable",
        "ExternalDevice",
        "HardwareStackError",
        "IllegalAddress",
        "IllegalInstruction",
        "InvalidAddressSpace",
        "InvalidPc",
        "LaunchFailure",
        "LaunchTimeout",
        "MisalignedAddress",
        "MpsClientTerminated",
        "NvlinkUncorrectable",
        "TensorMemoryLeak",
        "Unknown",
    )
)
"""After these CUDA answers nothing else in the same process (CUDA's documentation of each)."""


class CudaFailed(EngineFailed):
    """One call failed; the GPU can be used again."""

    def __init__(self, call: str, error: str, text: str) -> None:
        self.call, self.error = call, error
        super().__init__(f"{call}: {error}: {text}")


class DeviceLost(EngineFailed):
    """Nothing on the GPU works any more for this process."""

    def __init__(self, call: str, error: str) -> None:
        self.error = error
        super().__init__(f"the GPU is lost to this process ({call}: {error}); restart the service")


class DeviceMemory(Struct, frozen=True, kw_only=True):
    """Of the whole device, whoever uses it."""

    free_bytes: int
    total_bytes: int


class CudaRuntime:
    """CUDA on one device, for one loaded plan. Calls from several threads may overlap.

    Args:
        cuda: The module ``cuda.bindings.runtime``.
        device: From `ranking_models.tensorrt.device.find_device`: so nobody comes
            here before CUDA was asked whether there is a GPU.
    """

    def __init__(self, cuda: Any, device: Device) -> None:
        self._cuda = cuda
        self.device = device
        self._lost_by: tuple[str, str] | None = None
        self._sealed = False

    @property
    def is_lost(self) -> bool:
        """Whether a call met a sticky error; every later one raises `DeviceLost`."""
        return self._lost_by is not None

    def seal(self) -> None:
        """From now on nothing may be allocated: CUDA stalls every stream while it allocates."""
        self._sealed = True

    def use(self) -> None:
        """Make the device this thread's. CUDA keeps one per thread, at first device 0."""
        self._call("cudaSetDevice", self.device.index)

    def memory(self) -> DeviceMemory:
        free, total = self._call("cudaMemGetInfo")
        return DeviceMemory(free_bytes=int(free), total_bytes=int(total))

    def allocate(self, size_bytes: int) -> Address:
        """Memory of the device, aligned to 256 bytes at least."""
        return self._allocated("cudaMalloc", size_bytes)

    def free(self, address: Address) -> None:
        self._release("cudaFree", address)

    def allocate_pinned(self, size_bytes: int) -> Address:
        """Memory of the host that never moves: only such is copied while the thread goes on."""
        return self._allocated("cudaHostAlloc", size_bytes, self._cuda.cudaHostAllocDefault)

    def free_pinned(self, address: Address) -> None:
        self._release("cudaFreeHost", address)

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        (stream,) = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        return cast("Stream", stream)

    def synchronise(self, stream: Stream) -> None:
        """Wait until all that was enqueued is done; may keep a core busy."""
        self._call("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: Stream) -> None:
        self._release("cudaStreamDestroy", stream)

    def event(self, *, timed: bool = False) -> Event:
        """A mark in a stream. One that is not timed costs less, and `elapsed_ms` takes none."""
        flags = self._cuda.cudaEventBlockingSync
        if not timed:
            flags |= self._cuda.cudaEventDisableTiming
        (event,) = self._call("cudaEventCreateWithFlags", flags)
        return cast("Event", event)

    def record(self, event: Event, stream: Stream) -> None:
        self._call("cudaEventRecord", event, stream)

    def wait(self, event: Event) -> None:
        """Sleep until the stream has passed the event."""
        self._call("cudaEventSynchronize", event)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Between two timed events that the device has passed, of any streams."""
        (elapsed,) = self._call("cudaEventElapsedTime", start, end)
        return float(elapsed)

    def destroy_event(self, event: Event) -> None:
        self._release("cudaEventDestroy", event)

    def copy_in(self, device: Address, host: Address, size_bytes: int, stream: Stream) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host, size_bytes, kind, stream)

    def copy_out(self, host: Address, device: Address, size_bytes: int, stream: Stream) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host, device, size_bytes, kind, stream)

    def captured(self, stream: Stream, enqueue: Callable[[], None]) -> Graph:
        """What ``enqueue`` puts into the stream, as a graph; nothing of it is run now.

        Raises:
            EngineFailed: it cannot be captured; the stream is as it was before.
        """
        # Other threads may allocate meanwhile, for they load other models.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except EngineFailed:
            self._abandon_capture(stream)
            raise
        (recorded,) = self._call("cudaStreamEndCapture", stream)
        try:
            (graph,) = self._call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._release("cudaGraphDestroy", recorded)
        return cast("Graph", graph)

    def launch(self, graph: Graph, stream: Stream) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Graph) -> None:
        self._release("cudaGraphExecDestroy", graph)

    def _abandon_capture(self, stream: Stream) -> None:
        """Bring a stream out of capturing; what was captured, if anything, is thrown away."""
        if not self.is_lost:
            error, recorded = self._cuda.cudaStreamEndCapture(stream)
            if error == self._cuda.cudaError_t.cudaSuccess:
                self._release("cudaGraphDestroy", recorded)
            else:
                self._failure("cudaStreamEndCapture", error)

    def _allocated(self, call: str, size_bytes: int, *flags: int) -> Address:
        if self._sealed:
            raise EngineFailed(f"{call}({size_bytes}) after the warm-up: it stalls every stream")
        (address,) = self._call(call, size_bytes, *flags)
        return int(address)

    def _call(self, name: str, *arguments: object) -> tuple[Any, ...]:
        if self._lost_by is not None:
            raise DeviceLost(*self._lost_by)
        error, *values = getattr(self._cuda, name)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            raise self._failure(name, error)
        return tuple(values)

    def _release(self, name: str, *arguments: object) -> None:
        """Give something back. It never raises: what a lost device held is gone with it."""
        if self.is_lost:
            return
        error = getattr(self._cuda, name)(*arguments)[0]
        if error != self._cuda.cudaError_t.cudaSuccess:
            _LOG.warning("not given back to the GPU: %s", self._failure(name, error))

    def _failure(self, name: str, error: Any) -> EngineFailed:
        if error.name in STICKY:
            self._lost_by = (name, error.name)
            return DeviceLost(name, error.name)
        # CUDA remembers the error, and whoever asks next, such as TensorRT, takes it for his own.
        self._cuda.cudaGetLastError()
        _, text = self._cuda.cudaGetErrorString(error)
        return CudaFailed(name, error.name, text.decode(errors="replace"))
