"""FP16 from an ONNX graph alone, for models whose network is not at hand.

A network that was trained here is better exported anew (`export_half`): its
last sum then stays in single precision. Of a graph, only what follows that
sum can: the sigmoid, and what merely reshapes. Everything before it is
rounded to half precision. The graph keeps its inputs, its output and the
order of its nodes.

onnxconverter-common 1.16 does the same for many more operators, but leaves
``Cast`` nodes to float32 behind, which `onnx.checker` refuses.
"""

from collections.abc import Iterator

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.export.graph_rules import check_graph
from ranking_models.export.half import check_half, check_range
from ranking_models.schema import FeatureSchema

_HEAD = frozenset({"Sigmoid", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity"})
"""Operators that may stand behind the last sum."""

_HALF = ".fp16"


def half_of_graph(serialised: bytes, schema: FeatureSchema) -> bytes:
    """The FP16 form of a float32 graph, with the same inputs and output.

    Raises:
        InputError: a weight does not fit half precision, or the graph holds
            what has no half form.
    """
    model = onnx.load_from_string(serialised)
    _refuse_parts_inside(model.graph)
    single = _single_values(model)
    head = _head_nodes(model.graph)
    kept = {name for node in head for name in node.input} | {model.graph.output[0].name}
    body = [node for node in model.graph.node if node not in head]
    used = {name for node in body for name in node.input} & single
    nodes = [_cast(v.name, TensorProto.FLOAT16) for v in model.graph.input if v.name in used]
    _narrow_weights(model.graph, used, kept)
    for node in body:
        nodes.extend(_in_half(node, single, kept))
    nodes.extend(head)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    try:
        check_graph(model, schema)
        check_half(model, single_names=kept)
    except InputError as error:
        raise InputError(f"the graph cannot be converted to fp16: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))


def _refuse_parts_inside(graph: onnx.GraphProto) -> None:
    kinds = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
    for node in graph.node:
        if any(attribute.type in kinds for attribute in node.attribute):
            raise InputError(
                f"the operator {node.op_type} ({node.output[0]}) holds a graph of its own, which "
                "is not converted to fp16: export the model without control flow"
            )


def _single_values(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 values."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    wide = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return wide | {w.name for w in graph.initializer if w.data_type == TensorProto.FLOAT}


def _head_nodes(graph: onnx.GraphProto) -> list[NodeProto]:
    """What makes the score out of the last sum, in order; it stays in single precision."""
    made_by = {name: node for node in graph.node for name in node.output}
    head: list[NodeProto] = []
    node = made_by.get(graph.output[0].name)
    while node is not None and node.op_type in _HEAD and _readers(graph, node) <= 1:
        head.insert(0, node)
        node = made_by.get(node.input[0])
    return head


def _readers(graph: onnx.GraphProto, node: NodeProto) -> int:
    return sum(node.output[0] in reader.input for reader in graph.node)


def _narrow_weights(graph: onnx.GraphProto, used: set[str], kept: set[str]) -> None:
    weights = {w.name: w for w in graph.initializer}
    for name in sorted(used & set(weights)):
        values = numpy_helper.to_array(weights[name])
        check_range(name, values)
        graph.initializer.append(numpy_helper.from_array(values.astype("float16"), name + _HALF))
        if name not in kept:
            graph.initializer.remove(weights[name])


def _in_half(node: NodeProto, single: set[str], kept: set[str]) -> Iterator[NodeProto]:
    """A node of the body on half values, and the way back to those that the head reads."""
    half = NodeProto()
    half.CopyFrom(node)
    half.input[:] = [name + _HALF if name in single else name for name in node.input]
    half.output[:] = [name + _HALF if name in single else name for name in node.output]
    for attribute in half.attribute:
        _narrow(node.op_type, attribute)
    yield half
    for name in node.output:
        if name in kept and name in single:
            yield _cast(name, TensorProto.FLOAT)


def _narrow(operator: str, attribute: onnx.AttributeProto) -> None:
    if operator == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
        attribute.i = TensorProto.FLOAT16
    if operator in {"Constant", "ConstantOfShape"} and attribute.t.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(attribute.t)
        check_range(f"of a {operator}", values)
        attribute.t.CopyFrom(numpy_helper.from_array(values.astype("float16")))


def _cast(name: str, to: int) -> NodeProto:
    """From or to the half form of a value."""
    half = name + _HALF
    there = to == TensorProto.FLOAT16
    return helper.make_node("Cast", [name if there else half], [half if there else name], to=to)
