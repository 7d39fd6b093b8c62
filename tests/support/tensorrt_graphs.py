"""Small ONNX rankers for TensorRT: right ones, and ones that it must refuse.

All but the wrong ones take ``dense`` float32 ``[rows, 13]`` and ``ids`` int32
``[rows, 2]``, as `SCHEMA` says, and give ``score`` float32 ``[rows]``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ranking_models.schema import FeatureSchema, FeatureSpec

COLUMNS, WORDS, HIDDEN = 13, 50, 16

SCHEMA = FeatureSchema(
    features=(
        *(FeatureSpec(name=f"n{i}", source="item", kind="numeric") for i in range(COLUMNS)),
        *(
            FeatureSpec(
                name=f"c{i}",
                source="user",
                kind="categorical",
                vocabulary=tuple(f"v{v}" for v in range(WORDS - 1)),
            )
            for i in range(2)
        ),
    )
)

Axis = str | int
Value = tuple[str, int, Sequence[Axis]]

DENSE: Value = ("dense", TensorProto.FLOAT, ["rows", COLUMNS])
IDS: Value = ("ids", TensorProto.INT32, ["rows", 2])
SCORE: Value = ("score", TensorProto.FLOAT, ["rows"])


def half_graph(dense: Value = DENSE, ids: Value = IDS) -> bytes:
    """Embedding, cross and MLP in fp16, the sigmoid in fp32."""
    return _ranker(TensorProto.FLOAT16, np.float16, dense=dense, ids=ids)


def single_graph() -> bytes:
    """The same in fp32 throughout: its matrix products are not for a T4."""
    return _ranker(TensorProto.FLOAT, np.float32)


def other_rows_graph() -> bytes:
    """Each input has a row axis of its own."""
    return half_graph(ids=("ids", TensorProto.INT32, ["pairs", 2]))


def mixed_graph() -> bytes:
    """Adds an fp16 to an fp32 tensor; ONNX forbids it, and TensorRT casts nothing."""
    nodes = [
        _node("Cast", ["dense"], "x", to=TensorProto.FLOAT16),
        _node("Add", ["x", "dense"], "sum", name="mixed_add"),
        _node("ReduceSum", ["sum", "last"], "score", keepdims=0),
    ]
    return _model(nodes, [DENSE], {"last": np.array([1])})


def quantised_graph(kind: type[np.generic] = np.int8, zero: int = 0) -> bytes:
    """Q/DQ around the matrix product of an fp16 ranker; symmetric s8 unless said otherwise."""
    scale, weight_scale = np.array(0.05, np.float16), np.array(0.01, np.float16)
    weights = _random(COLUMNS, HIDDEN) / 0.01
    nodes = [
        _node("Cast", ["dense"], "x", to=TensorProto.FLOAT16),
        _node("QuantizeLinear", ["x", "scale", "zero"], "xq", name="quantise_x"),
        _node("DequantizeLinear", ["xq", "scale", "zero"], "xd"),
        _node("DequantizeLinear", ["wq", "weight_scale", "weight_zero"], "w"),
        _node("MatMul", ["xd", "w"], "hidden"),
        _node("Relu", ["hidden"], "active"),
        _node("MatMul", ["active", "last_weights"], "logit16"),
        *_head("logit16"),
    ]
    constants = {
        "scale": scale,
        "zero": np.array(zero, kind),
        "wq": np.clip(weights.round(), -127, 127).astype(np.int8),
        "weight_scale": weight_scale,
        "weight_zero": np.array(0, np.int8),
        "last_weights": _random(HIDDEN, 1).astype(np.float16),
        "last": np.array([1]),
    }
    return _model(nodes, [DENSE], constants)


def quantised_bias_graph() -> bytes:
    """An int32 bias under DequantizeLinear, as ONNX Runtime's tool writes by default."""
    nodes = [
        _node("DequantizeLinear", ["bias_q", "scale", "zero"], "bias", name="bias_dq"),
        _node("Cast", ["dense"], "x", to=TensorProto.FLOAT16),
        _node("MatMul", ["x", "w"], "product"),
        _node("Add", ["product", "bias"], "logit16"),
        *_head("logit16"),
    ]
    constants = {
        "bias_q": np.array([3], np.int32),
        "scale": np.array(0.1, np.float16),
        "zero": np.array(0, np.int32),
        "w": _random(COLUMNS, 1).astype(np.float16),
        "last": np.array([1]),
    }
    return _model(nodes, [DENSE], constants)


def missing_operator_graph() -> bytes:
    """A standard operator that TensorRT does not build."""
    return _model([_node("Det", ["dense"], "score", name="determinant")], [DENSE], {})


def custom_operator_graph() -> bytes:
    """An operator of somebody's own."""
    node = _node("Rank", ["dense"], "score", name="mine", domain="acme")
    return _model([node], [DENSE], {}, {"acme": 1})


def dense_schema() -> FeatureSchema:
    """`SCHEMA` without its ids."""
    return FeatureSchema(features=SCHEMA.dense)


def _ranker(kind: int, dtype: type[np.generic], *, dense: Value = DENSE, ids: Value = IDS) -> bytes:
    nodes = [
        _node("Cast", ["dense"], "numbers", to=kind),
        _node("Gather", ["table", "ids"], "embedded"),
        _node("Reshape", ["embedded", "flat"], "vectors"),
        _node("Concat", ["numbers", "vectors"], "x0", axis=1),
        _node("MatMul", ["x0", "cross"], "crossed", name="cross_layer"),
        _node("Mul", ["x0", "crossed"], "product"),
        _node("Add", ["product", "x0"], "x1"),
        _node("MatMul", ["x1", "weights"], "hidden"),
        _node("Relu", ["hidden"], "active"),
        _node("MatMul", ["active", "last_weights"], "logit16"),
        *_head("logit16"),
    ]
    width = COLUMNS + 2 * 4
    constants = {
        "table": _random(WORDS, 4).astype(dtype),
        "flat": np.array([-1, 8]),
        "cross": _random(width, width).astype(dtype),
        "weights": _random(width, HIDDEN).astype(dtype),
        "last_weights": _random(HIDDEN, 1).astype(dtype),
        "last": np.array([1]),
    }
    return _model(nodes, [dense, ids], constants)


def _head(logit: str) -> list[NodeProto]:
    return [
        _node("Cast", [logit], "logit", to=TensorProto.FLOAT),
        _node("Sigmoid", ["logit"], "column"),
        _node("Squeeze", ["column", "last"], "score"),
    ]


def _random(*shape: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 0.2, shape)


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def _model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Value],
    constants: Mapping[str, npt.NDArray[np.generic]],
    domains: Mapping[str, int] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*SCORE)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid(*used) for used in {"": 20, **(domains or {})}.items()]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets).SerializeToString()
