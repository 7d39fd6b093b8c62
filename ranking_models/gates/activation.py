"""The largest number inside a graph: half precision ends at 65504 and then says infinity."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ranking_models.errors import InputError
from ranking_models.gates.measuring import LARGEST
from ranking_models.schema import FeatureBatch

if TYPE_CHECKING:
    import onnx

_BLOCK_ROWS = 512
"""All values inside a graph are kept at once, so blocks are small."""

_FLOATS = {"tensor(float)", "tensor(float16)", "tensor(double)"}


def largest_activation(graph: bytes | Path, rows: FeatureBatch) -> float:
    """The largest absolute value of any float tensor that the graph computes for the rows.

    Weights do not count, nor do the tensors inside the branches of a
    conditional or a loop.

    Args:
        graph: The reference, serialised or a file.
        rows: At least one.

    Returns:
        Finite: infinity and NaN stand as the largest float32.

    Raises:
        InputError: the graph cannot be read, loaded or run.
    """
    from ranking_models.onnx_runtime import open_session

    try:
        model = _with_every_value_as_output(graph)
        session = open_session(model)
        names = [value.name for value in session.get_inputs()]
        floats = [value.name for value in session.get_outputs() if value.type in _FLOATS]
        largest = float(np.abs(rows.dense).max(initial=0.0))
        for first in range(0, rows.rows, _BLOCK_ROWS):
            inputs = rows.take(slice(first, first + _BLOCK_ROWS)).inputs()
            for values in session.run(floats, {name: inputs[name] for name in names}):
                # maximum, unlike max, lets NaN through.
                largest = float(np.maximum(largest, np.abs(values).max(initial=0.0)))
    except Exception as error:  # protobuf's and the runtime's have no class in common
        where = graph if isinstance(graph, Path) else "the reference graph"
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: cannot be looked into: {reason}") from error
    return largest if np.isfinite(largest) else LARGEST


def _with_every_value_as_output(graph: bytes | Path) -> bytes:
    import onnx

    model = onnx.load(graph) if isinstance(graph, Path) else onnx.load_from_string(graph)
    present = {value.name for value in model.graph.output}
    names = dict.fromkeys(_computed(model.graph.node))
    # The runtime finds out the types by itself.
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    return bytes(model.SerializeToString())


def _computed(nodes: "Iterable[onnx.NodeProto]") -> Iterable[str]:
    for node in nodes:
        if node.op_type != "Constant":
            yield from (name for name in node.output if name)
