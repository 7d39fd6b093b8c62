"""The memory of one slot: pinned on the host, its twin on the device, scratch for TensorRT."""

import ctypes
import math
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch, Float32
from ranking_models.tensorrt.border import Border
from service.engines.cuda import Address, CudaRuntime
from service.engines.tensor_rt.layout import Layout, layout_of
from service.errors import EngineFailed

_DTYPES = {"FLOAT": np.float32, "INT32": np.int32}


class Block(Struct, frozen=True, kw_only=True):
    """The same bytes twice: what is copied from one to the other."""

    host: Address
    device: Address


class Buffers:
    """All memory of one slot, large enough for the largest bucket.

    Args:
        stack: Takes back what is allocated here, in reverse order.

    Raises:
        EngineFailed: there is not so much memory.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        stack: ExitStack,
        border: Border,
        *,
        largest_rows: int,
        scratch_bytes: int,
    ) -> None:
        self._cuda, self._stack = cuda, stack
        largest = layout_of(border, largest_rows)
        self.inputs = self._block(largest.input_bytes)
        self.outputs = self._block(largest.output_bytes)
        self.scratch_bytes = scratch_bytes
        self.scratch = self._device(scratch_bytes) if scratch_bytes else 0

    def _block(self, size_bytes: int) -> Block:
        host = self._cuda.allocate_pinned(size_bytes)
        self._stack.callback(self._cuda.free_pinned, host)
        return Block(host=host, device=self._device(size_bytes))

    def _device(self, size_bytes: int) -> Address:
        device = self._cuda.allocate(size_bytes)
        self._stack.callback(self._cuda.free, device)
        return device


class HostRows:
    """The pinned memory of one bucket as arrays. Nobody may touch it while the device does."""

    def __init__(self, buffers: Buffers, border: Border, layout: Layout) -> None:
        self.rows = layout.rows
        self._inputs = {
            tensor.name: _array(
                buffers.inputs.host + layout.inputs[tensor.name],
                tensor.shape(layout.rows),
                _DTYPES[tensor.dtype],
            )
            for tensor in border.inputs
        }
        (score,) = border.outputs
        self._scores: Float32 = _array(
            buffers.outputs.host + layout.outputs[score.name], score.shape(layout.rows), np.float32
        )

    def clear(self) -> None:
        """Make all rows zeros, which every graph takes."""
        for pinned in self._inputs.values():
            pinned[:] = 0

    def write(self, batch: FeatureBatch) -> None:
        """Copy a batch in; what is left of the bucket becomes rows of zeros, an id that exists.

        Raises:
            EngineFailed: the batch lacks an input, or has one of another shape or type.
        """
        given, rows = batch.inputs(), batch.rows
        for name, pinned in self._inputs.items():
            if name not in given:
                raise EngineFailed(f"the plan wants input {name!r}, the batch has none")
            array = given[name]
            if array.shape != (rows, *pinned.shape[1:]) or array.dtype != pinned.dtype:
                got = f"{array.dtype} {array.shape}, not {pinned.dtype} (rows, {pinned.shape[1]})"
                raise EngineFailed(f"input {name!r} of the batch is {got}")
        for name, pinned in self._inputs.items():
            pinned[:rows] = given[name]
            pinned[rows:] = 0

    def scores(self, rows: int) -> Float32:
        """A copy of the first ``rows`` scores."""
        return self._scores[:rows].copy()


def _array(address: Address, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    kind = np.dtype(dtype)
    memory = (ctypes.c_ubyte * (math.prod(shape) * kind.itemsize)).from_address(address)
    return np.frombuffer(memoryview(memory), kind).reshape(shape)
