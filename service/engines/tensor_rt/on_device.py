"""A plan on the device, before it has slots."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ranking_models.tensorrt.border import Border
from ranking_models.tensorrt.log import BuildLog
from ranking_models.tensorrt.targets import is_rtx
from service.engines import EngineInfo
from service.engines.cuda import CudaRuntime
from service.engines.tensor_rt.api import CudaEngine, ExecutionContext
from service.errors import EngineFailed


class PlanOnDevice(Struct, frozen=True, kw_only=True):
    """A plan that was loaded and checked: what all its slots are made from."""

    trt: Any
    engine: CudaEngine
    cuda: CudaRuntime
    log: BuildLog
    border: Border
    info: EngineInfo
    buckets: Sequence[int]
    """Rows, in rising order."""
    profiles: Sequence[int]
    """The profile that runs each of the buckets."""
    scratch_bytes: int
    use_graphs: bool
    timed: bool
    """Whether slots mark when the device began and ended a batch."""

    @property
    def captures(self) -> bool:
        """Whether graphs are ours to capture: TensorRT-RTX does it itself."""
        return self.use_graphs and not is_rtx(self.trt)

    def new_context(self) -> ExecutionContext:
        """A context that waits to be given its scratch memory.

        Raises:
            EngineFailed: TensorRT gave none, for want of memory as a rule.
        """
        managed = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if is_rtx(self.trt):
            context = self.engine.create_execution_context(runtime_config=self._config(managed))
        else:
            context = self.engine.create_execution_context(strategy=managed)
        if context is None:
            raise EngineFailed(f"TensorRT made no execution context: {reason(self.log)}")
        return context

    def _config(self, managed: Any) -> Any:
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        graphs = self.trt.CudaGraphStrategy
        config.cuda_graph_strategy = (
            graphs.WHOLE_GRAPH_CAPTURE if self.use_graphs else graphs.DISABLED
        )
        # Otherwise it goes on compiling while it serves, and what is warmed up is not what runs.
        eager = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        return config


def reason(log: BuildLog) -> str:
    """What TensorRT last complained of: its calls answer no more than True or False."""
    return log.errors[-1].strip() if log.errors else "it gives no reason"
