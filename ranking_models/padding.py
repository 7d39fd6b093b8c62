"""A batch in arrays of a fixed number of rows, for graphs that want the same shapes every time."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from ranking_models.schema import FeatureBatch


def fill_padded(rooms: Mapping[str, npt.NDArray[Any]], batch: FeatureBatch) -> None:
    """Write a batch into the arrays of a graph's inputs; the rows behind it become zeros.

    Zero is an id that every table has. Nothing is written if anything does not fit.

    Args:
        rooms: By the name of the input, each with as many rows as the batch or more.
        batch: What the graph is asked.

    Raises:
        ValueError: the batch lacks an input, or has it in another type or width.
    """
    given, rows = batch.inputs(), batch.rows
    for name, room in rooms.items():
        if name not in given:
            raise ValueError(f"the graph wants input {name!r}, the batch has none")
        array = given[name]
        if array.dtype != room.dtype or array.shape != (rows, *room.shape[1:]):
            wanted = f"{room.dtype} (rows, {room.shape[1]})"
            raise ValueError(f"input {name!r} is {array.dtype} {array.shape}, not {wanted}")
    for name, room in rooms.items():
        room[:rows] = given[name]
        room[rows:] = 0
