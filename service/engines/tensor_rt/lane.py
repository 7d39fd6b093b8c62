"""One bucket of one slot: a context whose shapes and addresses never change.

Setting up a context for every batch costs more than a small batch; so each
bucket has a context of its own, and the contexts of a slot share its scratch
memory, for they run one after the other in its stream. That is also what makes
a graph possible: it holds the addresses and shapes with which it was captured.
"""

import logging
from contextlib import ExitStack

from ranking_models.tensorrt.border import Border
from service.engines.cuda import DeviceLost, Event, Graph, Stream
from service.engines.tensor_rt.buffers import Buffers, HostRows
from service.engines.tensor_rt.layout import layout_of
from service.engines.tensor_rt.on_device import PlanOnDevice, reason
from service.errors import EngineFailed

_LOG = logging.getLogger(__name__)


class Lane:
    """Copies in, runs and copies out one bucket, always in the same stream.

    Args:
        stack: Takes back the graph.
        profile: The number of the plan's profile that runs ``rows`` rows.

    Raises:
        EngineFailed: TensorRT makes no context, or does not take the shapes.
    """

    def __init__(
        self,
        plan: PlanOnDevice,
        stack: ExitStack,
        stream: Stream,
        buffers: Buffers,
        *,
        rows: int,
        profile: int,
    ) -> None:
        self._cuda, self._stack, self._stream = plan.cuda, stack, stream
        self._context, self._buffers, self._log = plan.new_context(), buffers, plan.log
        self._layout = layout_of(plan.border, rows)
        self._graph: Graph | None = None
        self.host = HostRows(buffers, plan.border, self._layout)
        self._set_up(plan.border, rows, profile)

    @property
    def rows(self) -> int:
        return self.host.rows

    @property
    def is_graph(self) -> bool:
        return self._graph is not None

    def capture(self) -> None:
        """Keep what `run` enqueues as a graph; where that fails, go on enqueueing it.

        The lane must have run once: loading kernels is not allowed in a capture.
        """
        try:
            self._graph = self._cuda.captured(self._stream, self._enqueue)
        except DeviceLost:
            raise
        except EngineFailed as failure:
            # As text: the failure itself would hold the context for as long as the log record.
            why = str(failure)
            _LOG.warning("no CUDA graph for %d rows, kernels are launched: %s", self.rows, why)
            return
        self._stack.callback(self._cuda.destroy_graph, self._graph)

    def run(self) -> None:
        """Enqueue the batch that `host` holds; returns before the device is done with it."""
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)

    def close(self) -> None:
        """Let go of the context, even where somebody still holds the lane, as a traceback may."""
        del self._context

    def run_marked(self, copied_in: Event, computed: Event) -> None:
        """`run` without a graph, with a mark after each of the first two steps."""
        self._copy_in()
        self._cuda.record(copied_in, self._stream)
        self._execute()
        self._cuda.record(computed, self._stream)
        self._copy_out()

    def _enqueue(self) -> None:
        self._copy_in()
        self._execute()
        self._copy_out()

    def _copy_in(self) -> None:
        block = self._buffers.inputs
        self._cuda.copy_in(block.device, block.host, self._layout.input_bytes, self._stream)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineFailed(f"TensorRT did not run {self.rows} rows: {reason(self._log)}")

    def _copy_out(self) -> None:
        block = self._buffers.outputs
        self._cuda.copy_out(block.host, block.device, self._layout.output_bytes, self._stream)

    def _set_up(self, border: Border, rows: int, profile: int) -> None:
        context, buffers, layout = self._context, self._buffers, self._layout
        stream = int(self._stream)
        self._require(context.set_optimization_profile_async(profile, stream), "the profile")
        if buffers.scratch_bytes:
            context.set_device_memory(buffers.scratch, buffers.scratch_bytes)
        for tensor in border.inputs:
            address = buffers.inputs.device + layout.inputs[tensor.name]
            shaped = context.set_input_shape(tensor.name, tensor.shape(rows))
            self._require(shaped, f"{rows} rows of {tensor.name!r}")
            self._require(context.set_tensor_address(tensor.name, address), "an address")
        for tensor in border.outputs:
            address = buffers.outputs.device + layout.outputs[tensor.name]
            self._require(context.set_tensor_address(tensor.name, address), "an address")
        if missing := context.infer_shapes():
            raise EngineFailed(f"TensorRT still wants a shape for {', '.join(missing)}")

    def _require(self, taken: bool, what: str) -> None:
        if not taken:
            bucket = f"the bucket of {self.rows} rows"
            raise EngineFailed(f"TensorRT did not take {what} for {bucket}: {reason(self._log)}")
