"""The executing half of the fake TensorRT: plans that ONNX Runtime computes on a simulated GPU.

Contexts keep the rules of TensorRT's documentation. What the real one answers
with False and a logged error is answered so here; what the real one leaves
undefined raises `RuleBroken`.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from tests.support.recorded import Recording
from tests.support.simulated_gpu import CudaError, SimulatedGpu
from tests.support.simulated_memory import ALIGNMENT, array, is_poison
from tests.support.simulated_work import LAUNCH_MS, ROW_MS, Work

ELEMENT_BYTES = 4
SCRATCH_BYTES_PER_ROW = 64
CONTEXT_BYTES = 1 << 16
"""What TensorRT keeps for every context, beside the scratch memory."""

Shape = tuple[int, ...]


class StoredTensor(msgspec.Struct):
    """An input or output."""

    name: str
    dtype: str
    shape: Shape
    is_input: bool


class StoredPlan(msgspec.Struct):
    """What the fake builder writes, and the fake runtime reads."""

    tensorrt: str
    model: bytes
    tensors: list[StoredTensor]
    profiles: list[dict[str, list[Shape]]]

    @property
    def weights_bytes(self) -> int:
        return len(self.model)

    def scratch_bytes(self, profile: int) -> int:
        rows = max(shapes[2][0] for shapes in self.profiles[profile].values())
        return rows * SCRATCH_BYTES_PER_ROW


class Execution(Work):
    """One run of a context, with the shapes and addresses that it had when it was enqueued."""

    resource = "compute"

    def __init__(self, context: Any, session: onnxruntime.InferenceSession) -> None:
        inputs = [t for t in context.engine.stored.tensors if t.is_input]
        outputs = [t for t in context.engine.stored.tensors if not t.is_input]
        rows = next(iter(context.shapes.values()))[0]
        self.shapes = {t.name: context.shapes[t.name] for t in inputs}
        self.shapes |= {t.name: (rows, *t.shape[1:]) for t in outputs}
        self.addresses = dict(context.addresses)
        self.scratch = context.scratch
        super().__init__(
            [self._range(t) for t in inputs],
            [self._range(t) for t in outputs] + ([self.scratch] if self.scratch[1] else []),
        )
        self.ms = LAUNCH_MS + rows * ROW_MS
        self._context, self._session = weakref.ref(context), session
        self._dtypes = {t.name: context.dtypes[t.name] for t in inputs}
        self._outputs = outputs

    def _range(self, tensor: StoredTensor) -> tuple[int, int]:
        size = int(np.prod(self.shapes[tensor.name])) * ELEMENT_BYTES
        return self.addresses[tensor.name], size

    def enqueued(self) -> None:
        context = self._context()
        if context is not None:
            context.running += 1

    def check(self, gpu: SimulatedGpu) -> None:
        context = self._context()
        if context is None:
            gpu.broken("launches a graph whose execution context is gone")
        shapes = {name: self.shapes[name] for name in context.shapes}
        now = (context.shapes, context.addresses, context.scratch)
        if now != (shapes, self.addresses, self.scratch):
            gpu.broken("launches a graph whose context has other shapes or addresses now")

    def run(self, gpu: SimulatedGpu, at_ms: float) -> None:
        context = self._context()
        if context is None:
            gpu.broken("an execution context was destroyed before its work was done")
        context.running -= 1
        context.has_run = True
        if (error := gpu.fault("execution")) is not None:
            raise CudaError(error)
        feed = {
            name: array(self.addresses[name], self.shapes[name], dtype)
            for name, dtype in self._dtypes.items()
        }
        if any(is_poison(values) for values in feed.values()):
            gpu.broken("computes with memory that was never written")
        gpu.executed.append(feed)
        names = [tensor.name for tensor in self._outputs]
        for name, values in zip(names, self._session.run(names, feed), strict=True):
            target = np.ascontiguousarray(values, np.float32)
            gpu.write(self.addresses[name], target.tobytes())


def runtime_classes(
    recording: Recording, version: str, values: dict[str, Any], severity: Any, gpu: SimulatedGpu
) -> dict[str, type]:
    """``Runtime``; the classes of what it gives are found by their names."""
    data_type = values["DataType"]
    mode = recording.enum("TensorIOMode")
    dtypes = {"FLOAT": np.float32, "INT32": np.int32}
    is_rtx = "CudaGraphStrategy" in recording.classes
    values["TensorIOMode"] = mode
    strategies = values["ExecutionContextAllocationStrategy"] = recording.enum(
        "ExecutionContextAllocationStrategy"
    )

    def locked(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with gpu.lock:
                return method(*args, **kwargs)

        return call

    class IRuntimeConfig:
        cuda_graph_strategy = None
        dynamic_shapes_kernel_specialization_strategy = None

        def __init__(self):
            self.strategy = strategies.STATIC

        def set_execution_context_allocation_strategy(self, strategy):
            self.strategy = strategy

    class ICudaEngine:
        def __init__(self, stored, logger):
            self.stored, self._logger = stored, logger
            self.session = session_of(stored.model)

        num_io_tensors = property(lambda self: len(self.stored.tensors))
        num_optimization_profiles = property(lambda self: len(self.stored.profiles))

        @property
        def device_memory_size_v2(self):
            return max(map(self.stored.scratch_bytes, range(self.num_optimization_profiles)))

        def get_tensor_name(self, index):
            return self.stored.tensors[index].name

        def get_tensor_mode(self, name):
            return mode.INPUT if self._tensor(name).is_input else mode.OUTPUT

        def get_tensor_dtype(self, name):
            return data_type[self._tensor(name).dtype]

        def get_tensor_shape(self, name):
            return self._tensor(name).shape

        def get_tensor_profile_shape(self, name, profile_index):
            return self.stored.profiles[profile_index][name]

        def get_engine_stat(self, stat):
            assert stat.name == "TOTAL_WEIGHTS_SIZE"
            return self.stored.weights_bytes

        def create_runtime_config(self):
            return IRuntimeConfig()

        @locked
        def create_execution_context(self, strategy=None, runtime_config=None):
            gpu.require_not_capturing("makes a context")
            if runtime_config is not None:
                strategy = runtime_config.strategy
            if strategy != strategies.USER_MANAGED:
                gpu.broken("TensorRT would take scratch memory of its own for every context")
            specialises = getattr(
                runtime_config, "dynamic_shapes_kernel_specialization_strategy", None
            )
            if is_rtx and (specialises is None or specialises.name != "EAGER"):
                gpu.broken("TensorRT-RTX would compile kernels while it serves")
            captures = getattr(runtime_config, "cuda_graph_strategy", None)
            context = IExecutionContext(self, captures is not None and captures.name != "DISABLED")
            fails = gpu.fault("create_execution_context") is not None
            if fails or not gpu.take(context, "contexts", CONTEXT_BYTES):
                self.complain("out of memory for an execution context")
                return None
            return context

        def complain(self, message):
            self._logger.log(severity.ERROR, message)

        def _tensor(self, name):
            return next(tensor for tensor in self.stored.tensors if tensor.name == name)

    class IExecutionContext:
        def __init__(self, engine, captures_itself):
            self.engine, self.captures_itself = engine, captures_itself
            self.dtypes = {t.name: dtypes[t.dtype] for t in engine.stored.tensors}
            self.profile, self.profile_stream = 0, 0
            self.shapes: dict[str, Shape] = {}
            self.addresses: dict[str, int] = {}
            self.scratch = (0, 0)
            self.running, self.has_run = 0, False

        @locked
        def set_optimization_profile_async(self, profile_index, stream_handle):
            self._require_idle()
            gpu.stream_of(stream_handle)
            known = profile_index in range(self.engine.num_optimization_profiles)
            if not known or gpu.fault("set_optimization_profile_async") is not None:
                return self._refused(f"there is no profile {profile_index}")
            self.profile, self.profile_stream = profile_index, stream_handle
            self.shapes = {}
            return True

        @locked
        def set_device_memory(self, memory, size):
            self._require_idle()
            if memory % ALIGNMENT:
                gpu.broken("the scratch memory is not aligned")
            gpu.require_memory("device", (memory, size), "the scratch memory")
            self.scratch = (memory, size)

        @locked
        def set_input_shape(self, name, shape):
            self._require_idle()
            least, _, largest = self.engine.get_tensor_profile_shape(name, self.profile)
            within = all(a <= n <= b for a, n, b in zip(least, shape, largest, strict=True))
            if not within or gpu.fault("set_input_shape") is not None:
                return self._refused(f"{name}: {tuple(shape)} is not within the profile")
            self.shapes[name] = tuple(shape)
            return True

        @locked
        def set_tensor_address(self, name, memory):
            self._require_idle()
            if name not in self.dtypes or gpu.fault("set_tensor_address") is not None:
                return self._refused(f"there is no tensor {name}")
            if memory % ALIGNMENT:
                gpu.broken(f"the address of {name} is not aligned")
            gpu.require_memory("device", (memory, 1), f"the address of {name}")
            self.addresses[name] = memory
            return True

        def infer_shapes(self):
            inputs = [t.name for t in self.engine.stored.tensors if t.is_input]
            forgets = gpu.fault("infer_shapes") is not None
            return [name for name in inputs if forgets or name not in self.shapes]

        @locked
        def execute_async_v3(self, stream_handle):
            if gpu.sticky or gpu.last_error or gpu.fault("execute_async_v3") is not None:
                return self._refused(f"CUDA error {gpu.sticky or gpu.last_error or 'injected'}")
            self._require_idle()
            stream = gpu.stream_of(stream_handle)
            if stream_handle != self.profile_stream:
                gpu.broken("the profile was chosen in another stream")
            if missing := self.infer_shapes():
                gpu.broken(f"executes without a shape for {missing}")
            if set(self.addresses) != set(self.dtypes):
                gpu.broken("executes without an address for every tensor")
            if self.scratch[1] < self.engine.stored.scratch_bytes(self.profile):
                gpu.broken("executes without enough scratch memory")
            if stream.capture is not None and not self.has_run:
                gpu.broken("captures a context that never ran: its kernels are not loaded")
            if stream.capture is not None and self.captures_itself:
                gpu.broken("captures what TensorRT-RTX captures itself")
            work = Execution(self, self.engine.session)
            for used in work.reads + work.writes:
                gpu.require_memory("device", used, "a tensor at its full size")
            gpu.enqueue(stream_handle, work)
            return True

        def _require_idle(self):
            if self.running:
                gpu.broken("calls a context that is busy")

        def _refused(self, why):
            self.engine.complain(why)
            return False

    class Runtime:
        def __init__(self, logger):
            if not gpu.was_asked:
                gpu.broken("TensorRT was asked for before CUDA: without a GPU it ends the process")
            self._logger = logger

        @locked
        def deserialize_cuda_engine(self, serialized_engine):
            gpu.require_device()
            try:
                stored = msgspec.msgpack.decode(serialized_engine, type=StoredPlan)
            except msgspec.MsgspecError:
                self._logger.log(severity.ERROR, "the plan's magic tag does not match")
                return None
            if stored.tensorrt != version:
                self._logger.log(severity.ERROR, f"a plan of {stored.tensorrt}, not {version}")
                return None
            engine = ICudaEngine(stored, self._logger)
            if not gpu.take(engine, "weights", stored.weights_bytes):
                self._logger.log(severity.ERROR, "out of memory for the weights")
                return None
            return engine

    return {"Runtime": Runtime}


@functools.lru_cache(maxsize=8)
def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """Shared by all engines of a graph: opening one costs more than a test."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
