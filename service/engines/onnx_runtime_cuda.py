"""ONNX Runtime as an engine on a GPU, for graphs and machines that TensorRT is not for.

ONNX Runtime computes on the CPU without a word where its CUDA provider cannot
be loaded, and parts of a graph there where CUDA lacks an operator. Both are
forbidden here, and the provider that really runs is looked up.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import first_line
from ranking_models.onnx_runtime import FATAL
from ranking_models.schema import FeatureBatch, Float32
from ranking_models.tensorrt.device import Device, NoDevice, cuda_runtime, find_device
from service.engines import EngineInfo
from service.engines.bound_graph import BoundGraph, Place
from service.engines.cuda import CudaRuntime
from service.engines.memory import MemoryBudget, Reservation
from service.errors import EngineFailed
from service.settings import EngineSettings

PROVIDER = "CUDAExecutionProvider"
GraphOpener = Callable[[Path, Device, int, Sequence[int]], BoundGraph]
"""Of an ONNX file, a device, the bytes that the runtime's arena may take, and the buckets."""

_LOADING = threading.Lock()
"""One model at a time: what it takes is measured on the device, undisturbed by the next one."""


class OnnxRuntimeCudaEngine:
    """One session on the GPU.

    Args:
        graph: What it runs.
        info: What the engine says it is.
        closed: Told once that its memory is free.
    """

    def __init__(self, graph: BoundGraph, info: EngineInfo, closed: Callable[[], None]) -> None:
        self._graph: BoundGraph | None = graph
        self._info, self._closed = info, closed

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        if self._graph is None:
            raise EngineFailed("the engine is closed")
        return self._graph(batch)

    def close(self) -> None:
        if self._graph is not None:
            self._graph = None  # the runtime frees it with the last reference
            self._closed()


class CudaEngines(Struct, frozen=True, kw_only=True):
    """All instances of one model, and the device memory that they take together."""

    engines: tuple[OnnxRuntimeCudaEngine, ...]
    predicted_bytes: int
    """Weights and buffers."""
    measured_bytes: int
    """Afterwards, as the device counts; what another process took meanwhile is counted too."""


def why_absent(index: int) -> str | None:
    """Why this machine cannot run the engine on this GPU; None if it may."""
    try:
        find_device(cuda_runtime(), index)
    except NoDevice as reason:
        return str(reason)
    return _without_provider()


def open_onnx_runtime_cuda(
    bundle: Bundle,
    precision: str,
    settings: EngineSettings,
    info: EngineInfo,
    *,
    instances: int,
    buckets: Sequence[int],
    budget: MemoryBudget,
    open_graph: GraphOpener | None = None,
) -> CudaEngines:
    """A bundle's graph of one precision on the GPU, once per instance.

    Args:
        bundle: Opened; it has the precision.
        precision: One whose operators CUDA has.
        settings: The device.
        info: What the engines are to say.
        buckets: Batch sizes in rising order; the last is the largest batch.
        budget: The device's. A session may take no more than is left in it; when all
            buckets have run, what it took is held.
        open_graph: Puts the graph on the device; `graph_on_device` without it.

    Raises:
        NoDevice: there is no driver or GPU, or a package is missing; says which.
        EngineFailed: ONNX Runtime does not load the graph, would run it or a part of
            it elsewhere, or (as `MemoryRefused`) it does not fit. Everything is given back.
    """
    cuda = cuda_runtime()
    device = find_device(cuda, settings.device)
    if reason := _without_provider():
        raise EngineFailed(reason)
    graph, runtime = bundle.graph(precision), CudaRuntime(cuda, device)
    predicted = instances * (graph.stat().st_size + _buffer_bytes(bundle, buckets))
    info = msgspec.structs.replace(info, max_batch_rows=buckets[-1], best_batch_rows=buckets[-1])
    with _LOADING:
        before = runtime.memory()
        model = f"{info.model}@{info.version} {precision}"
        reservation = budget.reserve(model, predicted, before)
        left = (budget.limit_bytes or 0) - budget.held_bytes + predicted
        try:
            opened = open_graph or graph_on_device
            graphs = [opened(graph, device, left // instances, buckets) for _ in range(instances)]
            after = runtime.memory()
            measured = max(0, before.free_bytes - after.free_bytes)
            reservation.resize(max(predicted, measured), after)
        except BaseException:
            reservation.release()
            raise
    share = _Share(reservation, instances)
    return CudaEngines(
        engines=tuple(OnnxRuntimeCudaEngine(bound, info, share.give_back) for bound in graphs),
        predicted_bytes=predicted,
        measured_bytes=measured,
    )


def graph_on_device(
    graph: Path, device: Device, limit_bytes: int, buckets: Sequence[int]
) -> BoundGraph:
    """A graph on the GPU, when every bucket has run twice.

    Raises:
        EngineFailed: as `open_session`, or there is no memory for its buckets.
    """
    session = open_session(graph, device=device.index, limit_bytes=limit_bytes)
    try:
        bound = BoundGraph(session, Place(index=device.index), buckets)
    except Exception as error:  # no memory, most likely
        raise EngineFailed(first_line(error)) from error
    bound.warm_up()
    return bound


def open_session(graph: Path, *, device: int, limit_bytes: int) -> Any:
    """A session that computes all of the graph on the GPU.

    Args:
        graph: The ONNX file.
        device: By CUDA's number.
        limit_bytes: Of the runtime's arena, in which weights and intermediate values are.

    Raises:
        EngineFailed: it cannot be had; never is there another provider in its place.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = FATAL
    provider = {
        "device_id": str(device),
        "gpu_mem_limit": str(limit_bytes),
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",  # it would make fp32 a precision that no gate has seen
    }
    # CUDA's libraries, where they were installed as Python packages.
    onnxruntime.preload_dlls(directory="")
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=[(PROVIDER, provider)], enable_fallback=0
        )
    except Exception as error:  # the binding has a class of its own for every status code
        raise EngineFailed(first_line(error)) from error
    running = session.get_providers()
    if running[:1] != [PROVIDER]:
        raise EngineFailed(f"asked for {PROVIDER}, ONNX Runtime runs {', '.join(running)}")
    return session


class _Share:
    """The memory of all instances, given back with the last of them. From any thread."""

    def __init__(self, reservation: Reservation, count: int) -> None:
        self._reservation, self._open = reservation, count
        self._lock = threading.Lock()

    def give_back(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._reservation.release()


def _buffer_bytes(bundle: Bundle, buckets: Sequence[int]) -> int:
    """Inputs and scores of every bucket; each number takes four bytes."""
    schema = bundle.schema
    numbers = len(schema.dense) + len(schema.ids) + sum(s.max_length for s in schema.multi) + 1
    return 4 * numbers * sum(buckets)


def _without_provider() -> str | None:
    advice = "uninstall onnxruntime, then install podium[gpu]"
    try:
        import onnxruntime
    except ImportError as error:
        return f"ONNX Runtime cannot be imported ({error}): {advice}"
    if PROVIDER not in onnxruntime.get_available_providers():
        return f"the ONNX Runtime that is installed is built without CUDA: {advice}"
    return None
