"""``cuda.bindings.runtime`` with the GPUs that a test names, and its real names and arguments."""

from collections.abc import Callable
from typing import Any

from tests.support.recorded import RecordedModule, Recording
from tests.support.simulated_gpu import CudaError, SimulatedGpu
from tests.support.simulated_work import Copy, Graph, Record

FILE = "cuda-runtime-13.5.json"

Gpu = tuple[str, int, int]
"""Name, major and minor of the compute capability."""

T4: Gpu = ("Tesla T4", 7, 5)
L4: Gpu = ("NVIDIA L4", 8, 9)


def fake_cuda(
    *gpus: Gpu,
    count_error: str = "cudaSuccess",
    set_error: str = "cudaSuccess",
    simulated: SimulatedGpu | None = None,
) -> RecordedModule:
    """The module on a machine with these GPUs; CUDA answers in tuples, an error code first.

    Args:
        simulated: What the device of its index does; without it they can be
            looked at and not used.
    """
    recording = Recording(FILE)
    errors = recording.enum("cudaError_t", {"cudaSuccess": 0, "cudaErrorInsufficientDriver": 35})

    class cudaDeviceProp:  # noqa: N801 - the real name
        def __init__(self, gpu: Gpu) -> None:
            self.name, self.major, self.minor = gpu[0].encode(), gpu[1], gpu[2]

    def count():
        if simulated is not None:
            simulated.was_asked = True
        fails = count_error != "cudaSuccess"
        return errors[count_error], None if fails else len(gpus)

    def set_device(device):
        if simulated is not None:
            simulated.set_device(device)
        return (errors[set_error],)

    used = _on(simulated, recording, errors) if simulated is not None else {}
    if simulated is not None:
        set_device = _call(simulated, errors, "cudaSetDevice", simulated.set_device, 0)
    return RecordedModule(
        recording,
        functions={
            "cudaGetDeviceCount": count,
            "cudaSetDevice": set_device,
            "cudaGetDeviceProperties": lambda device: (
                errors.cudaSuccess,
                cudaDeviceProp(gpus[device]),
            ),
            "cudaDriverGetVersion": lambda: (errors.cudaSuccess, 13020),
            "cudaGetErrorString": lambda error: (
                errors.cudaSuccess,
                f"text of {error.name}".encode(),
            ),
            **used,
        },
        values={"cudaError_t": errors},
    )


class _Handle:
    """What CUDA gives for a stream, an event or a graph; a number for other libraries."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __int__(self) -> int:
        return int(self.value)


class cudaStream_t(_Handle):  # noqa: N801 - the real names, of which the bindings' types are known
    pass


class cudaEvent_t(_Handle):  # noqa: N801
    pass


class cudaGraph_t(_Handle):  # noqa: N801
    pass


class cudaGraphExec_t(_Handle):  # noqa: N801
    pass


def _call(
    gpu: SimulatedGpu, errors: Any, name: str, does: Callable[..., Any], values: int
) -> Callable[..., tuple[Any, ...]]:
    """A function of CUDA's: an error code, and as many values."""

    def call(*args: Any) -> tuple[Any, ...]:
        with gpu.lock:
            error = gpu.sticky or gpu.fault(name)
            if not error:
                try:
                    answer = does(*args)
                    return (errors.cudaSuccess, *([answer] if values == 1 else answer or ()))
                except CudaError as failure:
                    error = str(failure)
            gpu.last_error = error
            return (errors[error], *[None] * values)

    return call


def _on(gpu: SimulatedGpu, recording: Recording, errors: Any) -> dict[str, Callable[..., Any]]:
    constants = recording.constants

    def copy(target, source, size, kind, stream):
        way = {"cudaMemcpyHostToDevice": "in", "cudaMemcpyDeviceToHost": "out"}[kind.name]
        host, device = (source, target) if way == "in" else (target, source)
        gpu.require_memory("pinned", (host, size), "the host's side of an asynchronous copy")
        gpu.require_memory("device", (device, size), "the device's side of a copy")
        gpu.enqueue(int(stream), Copy(way, target, source, size))

    def new_stream(flags):
        gpu.require_device()
        if flags != constants["cudaStreamNonBlocking"]:
            gpu.broken("makes a stream that waits for the default one")
        return cudaStream_t(gpu.new_stream())

    def new_event(flags):
        timed = not flags & constants["cudaEventDisableTiming"]
        return cudaEvent_t(
            gpu.new_event(timed=timed, blocking=bool(flags & constants["cudaEventBlockingSync"]))
        )

    def instantiate(graph, flags):
        captured: Graph = graph.value
        return cudaGraphExec_t(gpu.new_graph(captured.nodes))

    def last_error():
        error, gpu.last_error = gpu.last_error, ""
        return (errors[error or "cudaSuccess"],)

    def free_memory():
        gpu.require_device()
        return gpu.memory_bytes - gpu.used_bytes, gpu.memory_bytes

    does: dict[str, tuple[Callable[..., Any], int]] = {
        "cudaMemGetInfo": (free_memory, 2),
        "cudaMalloc": (lambda size: gpu.allocate("device", size), 1),
        "cudaFree": (lambda at: gpu.free("device", at), 0),
        "cudaHostAlloc": (lambda size, flags: gpu.allocate("pinned", size), 1),
        "cudaFreeHost": (lambda at: gpu.free("pinned", at), 0),
        "cudaMemcpyAsync": (copy, 0),
        "cudaStreamCreateWithFlags": (new_stream, 1),
        "cudaStreamDestroy": (lambda stream: gpu.destroy_stream(int(stream)), 0),
        "cudaStreamSynchronize": (lambda stream: gpu.wait_stream(int(stream)), 0),
        "cudaEventCreateWithFlags": (new_event, 1),
        "cudaEventDestroy": (lambda event: gpu.destroy_event(event.value), 0),
        "cudaEventRecord": (
            lambda event, stream: gpu.enqueue(int(stream), Record(event.value)),
            0,
        ),
        "cudaEventSynchronize": (lambda event: gpu.wait_event(event.value), 0),
        "cudaEventElapsedTime": (lambda a, b: gpu.elapsed_ms(a.value, b.value), 1),
        "cudaStreamBeginCapture": (lambda s, mode: gpu.begin_capture(int(s), mode), 0),
        "cudaStreamEndCapture": (lambda s: cudaGraph_t(gpu.end_capture(int(s))), 1),
        "cudaGraphInstantiate": (instantiate, 1),
        "cudaGraphDestroy": (lambda graph: gpu.destroy_graph(graph.value), 0),
        "cudaGraphLaunch": (lambda graph, s: gpu.launch(graph.value, int(s)), 0),
        "cudaGraphExecDestroy": (lambda graph: gpu.destroy_graph(graph.value), 0),
    }
    functions = {
        name: _call(gpu, errors, name, call, values) for name, (call, values) in does.items()
    }
    return {**functions, "cudaGetLastError": last_error}
