"""INT8 graphs are what their engines take: checked node by node, and run by plain ONNX Runtime."""

from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.export.half_graph import half_of_graph
from ranking_models.quantisation.layers import layers_of
from ranking_models.quantisation.ranges import METHODS, Range, activations
from ranking_models.quantisation.rewriting import with_int8
from tests.support.bundles import run_graph
from tests.support.gated import SCHEMA, random_rows, random_weights, ranker

ROWS = random_rows(600, seed=1)
FP32 = onnx.load_from_string(ranker(random_weights()))
FP16 = onnx.load_from_string(half_of_graph(FP32.SerializeToString(), SCHEMA))


def quantised(form: Literal["u8", "s8"], *names: str) -> onnx.ModelProto:
    model = FP32 if form == "u8" else FP16
    layers = [layer for layer in layers_of(model) if layer.name in names]
    values = activations(model, [layer.input for layer in layers], ROWS)
    ranges = {name: METHODS["min/max"](found, form == "s8") for name, found in values.items()}
    return onnx.load_from_string(with_int8(model, layers, ranges, form))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}


def zero_points(model: onnx.ModelProto, kind: str) -> list[np.ndarray]:
    found = constants(model)
    return [found[node.input[2]] for node in model.graph.node if node.op_type == kind]


def test_layers_are_found_under_the_names_of_their_weights() -> None:
    for model in (FP32, FP16):
        assert [layer.name for layer in layers_of(model)] == ["first", "second", "third", "head"]


def test_the_graph_for_the_cpu_has_unsigned_activations_and_signed_weights_per_output() -> None:
    model = quantised("u8", "first", "second")

    onnx.checker.check_model(model, full_check=True)
    zeros = zero_points(model, "QuantizeLinear")
    assert [(zero.dtype, zero.shape) for zero in zeros] == [(np.uint8, ())] * 2
    weights = constants(model)["first.int8"]
    assert weights.dtype == np.int8
    assert constants(model)["first.scale"].shape == (weights.shape[1],)
    assert np.abs(weights).max() == 127
    assert not {"DynamicQuantizeLinear"} & {node.op_type for node in model.graph.node}


def test_the_graph_for_tensorrt_is_symmetric_and_quantises_no_bias() -> None:
    model = quantised("s8", "first", "second")

    onnx.checker.check_model(model, full_check=True)
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        for zero in zero_points(model, kind):
            assert zero.dtype == np.int8
            assert not zero.any()
    scales = {n: v for n, v in constants(model).items() if n.endswith(".scale")}
    assert {scale.dtype for scale in scales.values()} == {np.dtype(np.float16)}
    assert not [w for w in model.graph.initializer if w.data_type == TensorProto.INT32]


@pytest.mark.parametrize("form", ["u8", "s8"])
def test_kept_layers_keep_their_weights_and_others_do_not(form: Literal["u8", "s8"]) -> None:
    ending = "" if form == "u8" else ".fp16"
    model = quantised(form, "first", "third")

    kept = np.float32 if form == "u8" else np.float16
    found = constants(model)
    assert found[f"second{ending}"].dtype == kept
    assert {f"first{ending}", f"third{ending}"}.isdisjoint(found)
    read = {name for node in model.graph.node for name in node.input}
    assert f"x1{ending}.rounded" not in read  # what the kept layer reads is not rounded


@pytest.mark.parametrize("form", ["u8", "s8"])
def test_plain_onnx_runtime_gives_nearly_the_scores_of_the_reference(
    form: Literal["u8", "s8"],
) -> None:
    model = quantised(form, "first", "second", "third")

    scores = run_graph(model.SerializeToString(), ROWS)
    reference = run_graph(FP32.SerializeToString(), ROWS)

    assert 0 < np.abs(scores - reference).mean() < 0.01
    assert model.ByteSize() < FP32.ByteSize()


def test_a_bias_follows_the_product_on_the_cpu_and_stays_inside_for_tensorrt() -> None:
    model = _with_bias()
    (layer,) = layers_of(model)
    ranges = {"dense": Range(-4.0, 4.0)}

    cpu = onnx.load_from_string(with_int8(model, [layer], ranges, "u8"))
    trt = onnx.load_from_string(with_int8(model, [layer], ranges, "s8"))

    assert layer.name == "mlp.layers.0"
    assert [n.op_type for n in cpu.graph.node][-2:] == ["Gemm", "Add"]
    assert [len(n.input) for n in trt.graph.node if n.op_type == "Gemm"] == [3]
    for quantised in (cpu, trt):
        onnx.checker.check_model(quantised, full_check=True)


def test_a_bias_moves_no_score_by_its_place() -> None:
    model = _with_bias()
    layers, ranges = layers_of(model), {"dense": Range(-4.0, 4.0)}
    rows = {"dense": np.linspace(-4, 4, 60, dtype=np.float32).reshape(20, 3)}

    expected = _run(model.SerializeToString(), rows)
    found = _run(with_int8(model, layers, ranges, "u8"), rows)

    np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_column_of_zeros_does_not_divide_by_zero() -> None:
    weights = random_weights()
    weights["second"][:, 0] = 0
    model = onnx.load_from_string(ranker(weights))
    layers = [layer for layer in layers_of(model) if layer.name == "second"]

    graph = with_int8(model, layers, {"x1": Range(0.0, 0.0)}, "u8")

    assert np.isfinite(run_graph(graph, ROWS)).all()


def test_an_old_operator_set_is_refused_with_the_one_that_is_needed() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(FP32)
    model.opset_import[0].version = 18

    with pytest.raises(InputError, match="opset 18, int8 needs 19"):
        with_int8(model, [], {}, "u8")


def test_products_that_cannot_be_quantised_are_not_layers() -> None:
    nodes = [
        helper.make_node("Gemm", ["dense", "w"], ["a"], alpha=0.5),
        helper.make_node("Gemm", ["dense", "w"], ["b"]),
        helper.make_node("MatMul", ["b", "a_t"], ["score"]),
        helper.make_node("Transpose", ["a"], ["a_t"]),
    ]
    model = _model([nodes[0], nodes[1], nodes[3], nodes[2]], {"w": np.ones((3, 8), np.float32)})

    assert [layer.node for layer in layers_of(model)] == ["b"]


def test_a_matrix_that_serves_twice_is_two_layers_with_names_of_their_own() -> None:
    square = np.eye(3, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["dense", "m.weight"], ["a"]),
        helper.make_node("MatMul", ["a", "m.weight"], ["score"]),
    ]
    model = _model(nodes, {"m.weight": square})
    layers = layers_of(model)
    ranges = {"dense": Range(-1.0, 1.0), "a": Range(-1.0, 1.0)}

    assert [layer.name for layer in layers] == ["m", "m (2)"]
    for chosen in (layers, layers[:1], layers[1:]):
        onnx.checker.check_model(
            onnx.load_from_string(with_int8(model, chosen, ranges, "u8")), full_check=True
        )


def _with_bias() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    node = helper.make_node("Gemm", ["dense", "module.body.mlp.layers.0.weight", "b"], ["score"])
    node.attribute.append(helper.make_attribute("transB", 1))
    weights = {
        "module.body.mlp.layers.0.weight": random.normal(size=(8, 3)).astype(np.float32),
        "b": np.arange(8, dtype=np.float32),
    }
    return _model([node], weights)


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", "columns"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def _run(graph: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])
