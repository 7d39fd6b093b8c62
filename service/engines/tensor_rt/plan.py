"""A plan on the device, and its slots."""

import threading
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ranking_models.tensorrt.border import Border
from ranking_models.tensorrt.log import BuildLog
from service.engines import EngineInfo
from service.engines.cuda import CudaRuntime
from service.engines.memory import MemoryBudget, Reservation
from service.engines.tensor_rt.api import CudaEngine, Runtime
from service.engines.tensor_rt.footprint import Footprint, footprint
from service.engines.tensor_rt.on_device import PlanOnDevice, reason
from service.engines.tensor_rt.plan_check import check_border, profiles_of
from service.engines.tensor_rt.slot import Slot
from service.errors import EngineFailed

_LOADING = threading.Lock()
"""One plan at a time: what it takes is measured on the device, undisturbed by the next one."""


class LoadedPlan:
    """Owns the plan on the device until its last slot is closed. Made by `load_tensorrt`."""

    def __init__(
        self, plan: PlanOnDevice, count: int, predicted: Footprint, reservation: Reservation
    ) -> None:
        self.footprint = predicted
        """What was predicted, item by item; the budget holds what was measured, if that is more."""
        self.cuda = plan.cuda
        """Tells the time between the marks of its slots."""
        self._engine: CudaEngine | None = plan.engine
        self._reservation = reservation
        self._lock = threading.Lock()
        self._open = count
        free_before = plan.cuda.memory().free_bytes
        slots: list[Slot] = []
        try:
            for _ in range(count):
                slots.append(Slot(plan, self._slot_closed))
            memory = plan.cuda.memory()
            self.measured_bytes = predicted.weights_bytes + free_before - memory.free_bytes
            """With TensorRT's contexts and CUDA's graphs, as the device counts; what another
            process took meanwhile is counted too."""
            reservation.resize(max(self.predicted_bytes, self.measured_bytes), memory)
        except BaseException:
            for slot in slots:
                slot.close()
            raise
        self.slots = tuple(slots)
        plan.cuda.seal()

    @property
    def predicted_bytes(self) -> int:
        return self.footprint.total_bytes

    @property
    def captured_graphs(self) -> int:
        """Of all slots; fewer than slots times buckets where a capture failed."""
        return sum(slot.captured_buckets for slot in self.slots)

    def close(self) -> None:
        """Close every slot that is still open."""
        for slot in self.slots:
            slot.close()

    def _slot_closed(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._engine = None  # TensorRT frees it with the last reference
                self._reservation.release()


def load_tensorrt(
    trt: Any,
    cuda: CudaRuntime,
    plan: bytes,
    *,
    info: EngineInfo,
    border: Border,
    buckets: Sequence[int],
    slots: int,
    use_graphs: bool,
    budget: MemoryBudget,
    timed: bool = False,
) -> LoadedPlan:
    """Bring a plan to the device, make its slots, and run every bucket twice in each.

    Args:
        trt: ``tensorrt`` 10.16 or 11, or ``tensorrt_rtx``.
        cuda: Of this plan alone; nothing can be allocated through it afterwards.
        info: What the slots say they are; their largest batch is the largest bucket.
        buckets: Rows in rising order; a batch is padded to the next one.
        timed: Slots keep `Marks` of their last batch, at a small cost per batch.

    Raises:
        EngineFailed: TensorRT does not load the plan or run a bucket, it is the
            plan of something else, or (as `MemoryRefused`) it does not fit.
            Everything is given back.
    """
    model = f"{info.model}@{info.version} {info.precision}"
    # Only the device knows what is needed beside the weights, once it has them.
    least = footprint(border, buckets, slots, weights_bytes=len(plan), scratch_bytes=0)
    with _LOADING:
        cuda.use()
        reservation = budget.reserve(model, least.total_bytes, cuda.memory())
        try:
            log = BuildLog(trt)
            engine = _on_device(trt, log, plan)
            check_border(trt, engine, border)
            exact = footprint(
                border,
                buckets,
                slots,
                weights_bytes=engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE),
                scratch_bytes=engine.device_memory_size_v2,
            )
            reservation.resize(exact.total_bytes, cuda.memory())
            on_device = PlanOnDevice(
                trt=trt,
                engine=engine,
                cuda=cuda,
                log=log,
                border=border,
                info=replace(info, max_batch_rows=buckets[-1], best_batch_rows=buckets[-1]),
                buckets=tuple(buckets),
                profiles=profiles_of(engine, border, buckets),
                scratch_bytes=exact.scratch_bytes,
                use_graphs=use_graphs,
                timed=timed,
            )
            return LoadedPlan(on_device, slots, exact, reservation)
        except BaseException:
            reservation.release()
            raise


def _on_device(trt: Any, log: BuildLog, plan: bytes) -> CudaEngine:
    runtime: Runtime = trt.Runtime(log.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineFailed(f"TensorRT {trt.__version__} does not load the plan: {reason(log)}")
    return engine
