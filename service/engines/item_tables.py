"""The item half of a split model, computed once for the whole catalogue.

A table may be as large as all the rest of a worker, so its size is known and
judged before anything is computed, and all engines of one bundle share it.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.manifest import ExactSplit
from ranking_models.schema import Encoder, FeatureBatch, Float32
from service.errors import EngineFailed

MIB = 1 << 20
CHUNK_ROWS = 512
"""Items per call of the item half: as a batch, small enough to stay in the core's cache."""

ItemHalf = Callable[[FeatureBatch], Float32]


class ItemTable:
    """What ``split/item.onnx`` gives for every item: float32 ``[items + 1, I]``, read only.

    The last row is that of the unknown item, so position -1 finds it.

    Args:
        half: Gives it.
        bundle: Whose items.
        sums: So many columns are an array of their own, where the row half takes sums.

    Raises:
        EngineFailed: the half gives rows of another width than its bundle says.
    """

    def __init__(self, half: ItemHalf, bundle: Bundle, sums: int | None = None) -> None:
        unknown = half(Encoder(bundle.schema.of("item")).encode_rows([{}]))
        width = _split(bundle).item_width
        if unknown.shape != (1, width):
            raise EngineFailed(f"split/item.onnx gives {unknown.shape[1:]} numbers, not {width}")
        n = bundle.items.rows
        columns = [slice(width)] if sums is None else [slice(sums), slice(sums, width)]
        self.parts: tuple[Float32, ...] = tuple(
            np.empty((n + 1, len(range(width)[of])), np.float32) for of in columns
        )
        """The columns, in one array or in two."""
        for start in range(0, n, CHUNK_ROWS):
            chunk = slice(start, min(start + CHUNK_ROWS, n))
            values = half(bundle.items.take(chunk))
            for part, of in zip(self.parts, columns, strict=True):
                part[chunk] = values[:, of]
        for part, of in zip(self.parts, columns, strict=True):
            part[n:] = unknown[:, of]
            part.flags.writeable = False


def table_bytes(bundle: Bundle) -> int:
    """What the item table of a bundle that has a split takes."""
    return (bundle.items.rows + 1) * _split(bundle).item_width * np.float32().nbytes


_shared: WeakValueDictionary[Path, ItemTable] = WeakValueDictionary()
_lock = threading.Lock()


def shared_table(bundle: Bundle, half: ItemHalf, sums: int | None = None) -> ItemTable:
    """The table of a bundle: computed by its first engine, gone with its last. From any thread."""
    with _lock:
        table = _shared.get(bundle.path)
        if table is None:
            table = _shared[bundle.path] = ItemTable(half, bundle, sums)
        return table


def _split(bundle: Bundle) -> ExactSplit:
    assert bundle.manifest.split is not None
    return bundle.manifest.split
