"""The layers of a graph that 8 bits can speed up: products with a matrix of weights."""

from itertools import chain, count

import numpy as np
import numpy.typing as npt
import onnx
from msgspec import Struct
from onnx import numpy_helper

_WEIGHT_ENDINGS = (".fp16", ".weight")
"""What the exports put behind the name of a layer in that of its weights."""


class Layer(Struct, frozen=True, kw_only=True):
    """One matrix product ``x W`` (or ``x W^T``) of a graph."""

    name: str
    """As in the network, such as ``cross.layers.0``; else the node's own, or its weights'."""
    node: str
    """The node, by its output: nodes may lack names, outputs may not."""
    input: str
    """The tensor ``x``."""
    weights: str
    """The initialiser that holds ``W``."""
    channel_axis: int
    """The axis of ``W`` that runs over the outputs: 0 where it is transposed."""
    inputs: int
    outputs: int

    @property
    def products(self) -> int:
        """Multiplications per row."""
        return self.inputs * self.outputs


def layers_of(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """The products with constant matrices, in the order of the graph.

    Others stay as they are: products of two computed tensors, of an input that
    is no matrix ``[rows, inputs]``, a ``Gemm`` with factors or a transposed
    input, and one that reads a matrix in another direction than the first.
    """
    weights = {w.name: w for w in model.graph.initializer if len(w.dims) == 2}
    matrices = _computed_matrices(model)
    axes: dict[str, int] = {}
    names: set[str] = set()
    found = []
    for node in model.graph.node:
        if node.op_type not in {"Gemm", "MatMul"} or node.input[1] not in weights:
            continue
        if node.input[0] not in matrices or not _is_plain(node):
            continue
        layer = _layer(node, weights[node.input[1]], _distinct(_layer_name(node), names))
        if axes.setdefault(layer.weights, layer.channel_axis) == layer.channel_axis:
            found.append(layer)
            names.add(layer.name)
    return tuple(found)


def _computed_matrices(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*graph.input, *graph.value_info)
        if len(value.type.tensor_type.shape.dim) == 2
    }


def weights_of(model: onnx.ModelProto, layer: Layer) -> npt.NDArray[np.float64]:
    """A layer's matrix as it is stored, in double precision."""
    stored = next(w for w in model.graph.initializer if w.name == layer.weights)
    return numpy_helper.to_array(stored).astype(np.float64)


def _layer(node: onnx.NodeProto, weights: onnx.TensorProto, name: str) -> Layer:
    transposed = bool(_attributes(node).get("transB", 0))
    rows, columns = weights.dims
    return Layer(
        name=name,
        node=node.output[0],
        input=node.input[0],
        weights=weights.name,
        channel_axis=0 if transposed else 1,
        inputs=columns if transposed else rows,
        outputs=rows if transposed else columns,
    )


def _is_plain(node: onnx.NodeProto) -> bool:
    values = _attributes(node)
    factors = (values.get("alpha", 1.0), values.get("beta", 1.0))
    return factors == (1.0, 1.0) and not values.get("transA", 0)


def _attributes(node: onnx.NodeProto) -> dict[str, float]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _layer_name(node: onnx.NodeProto) -> str:
    name = str(node.input[1])
    if not name.endswith(_WEIGHT_ENDINGS):
        return str(node.name or name)  # folded weights have a number for a name
    for ending in _WEIGHT_ENDINGS:
        name = name.removesuffix(ending)
    _, _, inside = name.rpartition("body.")
    return inside.removeprefix("module.")


def _distinct(name: str, taken: set[str]) -> str:
    """The name, numbered from its second use on: one matrix can serve two products."""
    numbered = (f"{name} ({use})" for use in count(2))
    return next(n for n in chain([name], numbered) if n not in taken)
