"""Puts the 8-bit steps into a graph: QuantizeLinear and DequantizeLinear around products.

Only the product itself reads the rounded values. ONNX Runtime's own quantiser
hands them to every reader of the tensor, so that in a cross layer
``x_0 * (W x) + x`` both x_0 and x are rounded as well, which moves the scores
much further and makes nothing faster. That is why these nodes are put in here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.quantisation.layers import Layer, weights_of
from ranking_models.quantisation.ranges import Range

Activations = Literal["u8", "s8"]

_HALF_OPSET = 19
"""The first operator set whose QuantizeLinear takes half precision."""

_MIN_SCALE = {np.dtype(np.float32): 2.0**-126, np.dtype(np.float16): 2.0**-14}
"""Smallest normal numbers: engines may take what is below for zero, and divide by it."""


def with_int8(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    ranges: Mapping[str, Range],
    activations: Activations,
) -> bytes:
    """The graph with these layers in 8 bits, and all else as it is.

    Weights are signed, symmetric, and have one scale per output. Activations
    have one scale per tensor: ``u8`` with a zero point, or ``s8`` around zero.

    With ``u8`` every product is a Gemm with its bias behind it, because ONNX
    Runtime computes in float what has a bias that is no int32, or a ReLU
    behind it, and makes that of a MatMul and an Add. With ``s8`` the bias
    stays inside, in the precision of the graph: TensorRT takes no other.

    Args:
        model: The graph; it is left alone.
        layers: Which of its layers.
        ranges: By the name of the layers' input tensors.
        activations: Which form.

    Raises:
        InputError: the graph's operator set is too old.
    """
    _check_opset(model)
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    writer = _Writer(quantised, ranges, activations)
    chosen = {layer.node: layer for layer in layers}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        layer = chosen.get(node.output[0])
        nodes.extend([node] if layer is None else writer.product(node, layer))
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    _drop_unread_weights(quantised.graph)
    return bytes(quantised.SerializeToString(deterministic=True))


class _Writer:
    """Makes the nodes of quantised layers; each tensor is rounded once, however many read it."""

    def __init__(
        self, model: onnx.ModelProto, ranges: Mapping[str, Range], activations: Activations
    ) -> None:
        self._model, self._ranges, self._activations = model, ranges, activations
        self._done: set[str] = set()

    def product(self, node: NodeProto, layer: Layer) -> Iterator[NodeProto]:
        stored = next(w for w in self._model.graph.initializer if w.name == layer.weights)
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(stored.data_type))
        yield from self._rounded_input(layer.input, kind)
        yield from self._rounded_weights(layer, kind)
        product = NodeProto()
        product.CopyFrom(node)
        product.input[0] = f"{layer.input}.rounded"
        product.input[1] = f"{layer.weights}.rounded"
        if self._activations == "u8":
            product.op_type = "Gemm"
        if self._activations == "u8" and len(node.input) > 2:
            del product.input[2:]
            product.output[0] = f"{layer.node}.product"
            added = [product.output[0], node.input[2]]
            bias = helper.make_node("Add", added, [layer.node], name=f"{layer.node}.bias")
            yield from (product, bias)
        else:
            yield product

    def _rounded_input(self, tensor: str, kind: np.dtype[np.generic]) -> Iterator[NodeProto]:
        if tensor in self._done:
            return
        scale, zero = _steps(self._ranges[tensor], self._activations, kind)
        parameters = self._parameters(tensor, scale, zero)
        yield helper.make_node(
            "QuantizeLinear", [tensor, *parameters], [f"{tensor}.int8"], name=f"{tensor}.quantise"
        )
        yield self._widened(tensor, parameters)

    def _rounded_weights(self, layer: Layer, kind: np.dtype[np.generic]) -> Iterator[NodeProto]:
        if layer.weights in self._done:
            return
        axis = layer.channel_axis
        matrix = weights_of(self._model, layer)
        scale = _scale(np.abs(matrix).max(axis=1 - axis, initial=0.0) / 127, kind)
        steps = matrix / np.expand_dims(scale.astype(np.float64), 1 - axis)
        rounded = np.clip(np.rint(steps), -127, 127).astype(np.int8)
        self._keep(f"{layer.weights}.int8", rounded)
        parameters = self._parameters(layer.weights, scale, np.zeros(scale.shape, np.int8))
        yield self._widened(layer.weights, parameters, axis=axis)

    def _parameters(
        self, tensor: str, scale: npt.NDArray[np.floating], zero: npt.NDArray[np.integer]
    ) -> list[str]:
        self._done.add(tensor)
        self._keep(f"{tensor}.scale", scale)
        self._keep(f"{tensor}.zero", zero)
        return [f"{tensor}.scale", f"{tensor}.zero"]

    def _widened(self, tensor: str, parameters: list[str], axis: int | None = None) -> NodeProto:
        return helper.make_node(
            "DequantizeLinear",
            [f"{tensor}.int8", *parameters],
            [f"{tensor}.rounded"],
            name=f"{tensor}.dequantise",
            axis=axis,  # left out where it is None
        )

    def _keep(self, name: str, values: npt.NDArray[np.generic]) -> None:
        self._model.graph.initializer.append(numpy_helper.from_array(values, name))


def _steps(
    span: Range, activations: Activations, kind: np.dtype[np.generic]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]:
    """The width of a step, and the step that stands for zero."""
    if activations == "s8":
        end = max(-span.low, span.high)
        return _scale(np.array(end / 127), kind), np.array(0, np.int8)
    scale = _scale(np.array((span.high - span.low) / 255), kind)
    zero = np.clip(np.rint(-span.low / float(scale)), 0, 255)
    return scale, np.array(zero, np.uint8)


def _scale(values: npt.NDArray[np.float64], kind: np.dtype[np.generic]) -> npt.NDArray[np.floating]:
    # Rounded up to what an engine surely takes as a number; finer steps are not needed.
    scale: npt.NDArray[np.floating] = np.maximum(values, _MIN_SCALE[kind]).astype(kind)
    return scale


def _check_opset(model: onnx.ModelProto) -> None:
    opset = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if opset < _HALF_OPSET:
        raise InputError(
            f"the graph has opset {opset}, int8 needs {_HALF_OPSET} or higher; "
            "export the model with a newer one"
        )


def _drop_unread_weights(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept: list[TensorProto] = [w for w in graph.initializer if w.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
