"""The shared memory of one caller: room for the rows of a call, their scores, and a reason."""

import mmap
import os
import tempfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch, FeatureSchema, Float32

_ALIGNMENT: Final = 64
"""Of every array: a line of the processor's cache."""
_REASON_BYTES: Final = 1024


class SlotLayout(Struct, frozen=True, kw_only=True):
    """What a slot has room for. The rows of a model have these columns."""

    rows: int
    dense: int
    ids: int
    multi: tuple[tuple[str, int], ...]
    """Name and length of each."""

    @staticmethod
    def of(schema: FeatureSchema, rows: int) -> "SlotLayout":
        return SlotLayout(
            rows=rows,
            dense=len(schema.dense),
            ids=len(schema.ids),
            multi=tuple((spec.name, spec.max_length) for spec in schema.multi),
        )

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.dense, self.ids, *(length for _, length in self.multi))

    @property
    def bytes(self) -> int:
        """Of the whole slot; pages that no call has used yet take no memory."""
        arrays = sum(_aligned(4 * self.rows * width) for width in (1, *self.widths))
        return _aligned(_REASON_BYTES) + arrays


def new_memory(layout: SlotLayout) -> int:
    """A descriptor of memory for a slot; the memory is freed with its last descriptor and map."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("podium-slot")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, layout.bytes)
    return descriptor


class Slot:
    """A slot as arrays. Two processes have the same one; whose turn it is, `wire` says.

    Args:
        descriptor: Of the memory; may be closed afterwards.
        layout: What the memory was made for.

    Raises:
        ValueError: the memory is too small for the layout.
    """

    def __init__(self, descriptor: int, layout: SlotLayout) -> None:
        self.layout = layout
        self._memory = mmap.mmap(descriptor, layout.bytes)
        self._end = _aligned(_REASON_BYTES)
        rows = layout.rows
        self.scores: Float32 = self._array(np.float32, rows, 1).reshape(rows)
        self._inputs = FeatureBatch(
            dense=self._array(np.float32, rows, layout.dense),
            ids=self._array(np.int32, rows, layout.ids),
            multi={name: self._array(np.int32, rows, length) for name, length in layout.multi},
        )

    def rows(self, count: int) -> FeatureBatch:
        """The first rows, to write or to read where they are."""
        return self._inputs.take(slice(0, count))

    def takes(self, batch: FeatureBatch) -> bool:
        """Whether rows have the columns that this slot has room for."""
        return batch.rows <= self.layout.rows and _columns(batch) == _columns(self._inputs)

    def write(self, batch: FeatureBatch) -> None:
        """Copy rows that it `takes` to the first rows."""
        given = batch.inputs()
        for name, room in self.rows(batch.rows).inputs().items():
            room[:] = given[name]

    def explain(self, reason: str) -> int:
        """Leave a text for the other side; its length in bytes."""
        text = reason.encode()[:_REASON_BYTES]
        self._memory[: len(text)] = text
        return len(text)

    def reason(self, length: int) -> str:
        """The text that was left."""
        return self._memory[:length].decode(errors="replace")

    def _array(self, kind: npt.DTypeLike, rows: int, width: int) -> npt.NDArray[Any]:
        start, count = self._end, rows * width
        self._end += _aligned(4 * count)
        return np.frombuffer(self._memory, kind, count, start).reshape(rows, width)


def _columns(batch: FeatureBatch) -> dict[str, int]:
    return {name: values.shape[1] for name, values in batch.inputs().items()}


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
