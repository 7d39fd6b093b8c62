"""The largest value inside a graph, wherever in it and in whichever row."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.gates import largest_activation
from ranking_models.schema import FeatureBatch
from tests.support.gated import changed, evidence, random_weights, ranker


def rows_of(dense: list[float]) -> FeatureBatch:
    return FeatureBatch(
        dense=np.array(dense, np.float32)[:, None], ids=np.zeros((len(dense), 0), np.int32)
    )


def squared(*, factor: float = -3.0) -> bytes:
    """``sigmoid(sum(factor * x * x))``: the product is the largest value inside."""
    nodes = [
        helper.make_node("Mul", ["dense", "dense"], ["square"]),
        helper.make_node("Mul", ["square", "factor"], ["product"]),
        helper.make_node("Clip", ["product", "low", "high"], ["clipped"]),
        helper.make_node("ReduceSum", ["clipped", "axis"], ["logit"], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    constants = {
        "factor": np.float32(factor),
        "low": np.float32(-1),
        "high": np.float32(1),
        "axis": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "squared",
        [helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, ir_version=10, opset_imports=opset).SerializeToString()


def test_it_is_found_inside_the_graph_with_its_sign_left_out():
    """The clip after the product hides it from whoever looks at the output."""
    assert largest_activation(squared(), rows_of([1, -5, 2])) == 75.0


def test_the_input_counts_too():
    assert largest_activation(squared(factor=0.001), rows_of([0.5, -0.75])) == 0.75


def test_every_row_counts_however_many_there_are():
    dense = [0.0] * 1300
    dense[-1] = 10.0

    assert largest_activation(squared(), rows_of(dense)) == 300.0


@pytest.mark.parametrize("x", [1e30, np.nan])
def test_what_overflows_is_the_largest_number(x):
    assert largest_activation(squared(), rows_of([1, x])) == np.finfo(np.float32).max


def test_a_file_is_as_good_as_its_bytes(tmp_path):
    file = tmp_path / "ranker.onnx"
    file.write_bytes(squared())

    assert largest_activation(file, rows_of([2])) == 12.0


def test_a_layer_that_half_precision_cannot_hold_is_found():
    """Scores saturate and look sound; a thousandfold hidden value does not fit."""
    weights = random_weights()
    rows = evidence(weights, rows=100).held_out
    grown = changed(weights, second=lambda w: 1e6 * w, third=lambda w: 1e-6 * w)

    assert largest_activation(ranker(weights), rows) < 100
    assert largest_activation(ranker(grown), rows) > 65504


@pytest.mark.parametrize("graph", [b"not a graph", onnx.ModelProto().SerializeToString()])
def test_what_is_no_graph_is_told_in_one_line(graph):
    with pytest.raises(InputError, match=r"^the reference graph: cannot be looked into: .+$"):
        largest_activation(graph, rows_of([1]))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"ranker\.onnx: cannot be looked into"):
        largest_activation(tmp_path / "ranker.onnx", rows_of([1]))
