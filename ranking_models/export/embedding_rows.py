"""Embedding tables in fewer bytes: the rows of an ONNX graph as fp16 or int8.

Large models are mostly table. Each row is read as it is stored and widened
after the gather, so everything behind computes as before and the graph takes
and gives what it always did.

* ``fp16``: half the bytes.
* ``int8``: row ``r`` is kept as ``q_r`` with ``x_r = q_r * scale_r + offset_r``,
  the two numbers in float32 beside it, so a row with small values is as exact
  as one with large ones. A table of dimension ``d`` takes ``d + 8`` bytes per
  row for ``4 d``; tables of one or two columns would grow and are left alone.

Source: Guan et al. (2019), "Post-training 4-bit quantization on embedding
tables", arXiv:1911.02079 (row-wise affine quantisation; here with 8 bits).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.export.half import check_range
from ranking_models.schema import Float32

Rows = Literal["fp16", "int8"]

_SCALE_BYTES = 8
"""Per row, beside its int8 values."""


def reduce_embedding_rows(serialised: bytes, rows: Rows) -> bytes:
    """The graph with its embedding tables stored in fewer bytes.

    Args:
        serialised: An ONNX model whose tables are float32.
        rows: How each row is stored.

    Raises:
        InputError: there is no table that would become smaller, or a value
            does not fit fp16.
    """
    model = onnx.load_from_string(serialised)
    tables = embedding_tables(model, rows)
    if not tables:
        raise InputError(
            f"the graph has no float32 embedding table that {rows} rows would make smaller; "
            "export it without --embedding-rows"
        )
    nodes = list(model.graph.node)
    for name in tables:
        nodes = _reduced(model.graph, name, nodes, rows)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))


def embedding_tables(model: onnx.ModelProto, rows: Rows) -> tuple[str, ...]:
    """Names of the float32 matrices that are only ever gathered by row, and would shrink."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input if not _gathers(node, name)}
    return tuple(
        table.name
        for table in graph.initializer
        if table.data_type == TensorProto.FLOAT
        and len(table.dims) == 2
        and table.name not in used
        and any(_gathers(node, table.name) for node in graph.node)
        and (rows == "fp16" or table.dims[1] + _SCALE_BYTES < 4 * table.dims[1])
    )


def _gathers(node: NodeProto, name: str) -> bool:
    axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 0)
    is_data = node.input[0] == name and name not in node.input[1:]
    return node.op_type == "Gather" and is_data and axis == 0


def _reduced(
    graph: onnx.GraphProto, name: str, nodes: Sequence[NodeProto], rows: Rows
) -> list[NodeProto]:
    """The nodes with every gather from one table replaced; its weights too."""
    index = next(i for i, weights in enumerate(graph.initializer) if weights.name == name)
    table = numpy_helper.to_array(graph.initializer[index])
    stored = _as_half(name, table) if rows == "fp16" else _as_int8(name, table)
    del graph.initializer[index]
    graph.initializer.extend(numpy_helper.from_array(a, part) for part, a in stored.items())
    widened = _half_gather if rows == "fp16" else _int8_gather
    changed: list[NodeProto] = []
    for node in nodes:
        changed.extend(widened(node) if _gathers(node, name) else (node,))
    return changed


def _as_half(name: str, table: Float32) -> dict[str, npt.NDArray[np.generic]]:
    check_range(name, table)
    return {f"{name}.fp16": table.astype(np.float16)}


def _as_int8(name: str, table: Float32) -> dict[str, npt.NDArray[np.generic]]:
    values, scale, offset = quantised_rows(table)
    return {f"{name}.int8": values, f"{name}.scale": scale, f"{name}.offset": offset}


def quantised_rows(table: Float32) -> tuple[npt.NDArray[np.int8], Float32, Float32]:
    """``(q, scale, offset)`` with ``table ~ q * scale + offset``, row by row.

    Shapes:
        ``table`` and ``q`` ``[n, d]``, ``scale`` and ``offset`` ``[n, 1]``.
        The largest error of a row is half its scale, ``(max - min) / 510``.
    """
    low = table.min(axis=1, keepdims=True).astype(np.float64)
    high = table.max(axis=1, keepdims=True).astype(np.float64)
    step = (high - low) / 255
    scale = np.where(step > 0, step, 1.0)
    offset = np.where(step > 0, low + 128 * scale, low)  # equal values are their row's offset
    values = np.clip(np.rint((table - offset) / scale), -128, 127).astype(np.int8)
    return values, scale.astype(np.float32), offset.astype(np.float32)


def _half_gather(gather: NodeProto) -> Iterator[NodeProto]:
    table, indices, out = gather.input[0], gather.input[1], gather.output[0]
    yield helper.make_node("Gather", [f"{table}.fp16", indices], [f"{out}.fp16"])
    yield helper.make_node("Cast", [f"{out}.fp16"], [out], to=TensorProto.FLOAT)


def _int8_gather(gather: NodeProto) -> Iterator[NodeProto]:
    table, indices, out = gather.input[0], gather.input[1], gather.output[0]
    for part in ("int8", "scale", "offset"):
        yield helper.make_node("Gather", [f"{table}.{part}", indices], [f"{out}.{part}"])
    yield helper.make_node("Cast", [f"{out}.int8"], [f"{out}.wide"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{out}.wide", f"{out}.scale"], [f"{out}.scaled"])
    yield helper.make_node("Add", [f"{out}.scaled", f"{out}.offset"], [out])
