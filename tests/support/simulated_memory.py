"""Memory of a simulated GPU and of its host: real addresses, poisoned until somebody writes."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

POISON = 0x7FC0
"""Repeated: NaN as float32 or float16, and as an id larger than any table."""

ALIGNMENT = 256

Range = tuple[int, int]
"""First address, and bytes."""


class Allocation:
    """Memory of the device or pinned memory of the host, poisoned."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size
        self._memory = ctypes.create_string_buffer(size + 2 * ALIGNMENT)
        start = ctypes.addressof(self._memory)
        self.address = start + -start % ALIGNMENT
        poison((self.address, size))


def content(memory: Range) -> bytes:
    return ctypes.string_at(*memory)


def array(address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A copy of what is there."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(content((address, size)), dtype).reshape(shape)


def is_poison(values: npt.NDArray[Any]) -> bool:
    """Whether any element was never written."""
    return bool((np.ascontiguousarray(values).view(np.uint32) == POISON * 0x10001).any())


def poison(memory: Range) -> None:
    address, size = memory
    pattern = np.full(size // 2 + 1, POISON, np.uint16).tobytes()[:size]
    ctypes.memmove(address, pattern, size)


def overlap(a: Range, b: Range) -> bool:
    return a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


def within(inner: Range, outer: Range) -> bool:
    return outer[0] <= inner[0] and inner[0] + inner[1] <= outer[0] + outer[1]
