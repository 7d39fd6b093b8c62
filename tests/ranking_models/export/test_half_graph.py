"""FP16 of graphs that were not made here."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ranking_models.errors import InputError
from ranking_models.export.graph_rules import check_graph
from ranking_models.export.half import check_half
from ranking_models.export.half_graph import half_of_graph
from ranking_models.export.to_onnx import export_graph
from ranking_models.nn import build
from tests.support.gated import SCHEMA, changed, random_rows, random_weights, ranker
from tests.support.plain_onnx import plain_scores
from tests.support.runs import DCN, DEEP_FM

ROWS = random_rows(500, seed=1)


@pytest.fixture(scope="module")
def half() -> onnx.ModelProto:
    return onnx.load_from_string(half_of_graph(ranker(random_weights()), SCHEMA))


def test_a_third_partys_graph_scores_as_before():
    graph = ranker(random_weights())

    scores = plain_scores(half_of_graph(graph, SCHEMA), ROWS)

    assert scores.dtype == np.float32
    difference = np.abs(scores - plain_scores(graph, ROWS))
    assert 0 < difference.max() < 2e-3


@pytest.mark.parametrize("architecture", [DCN, DEEP_FM], ids=["dcn-v2", "deepfm"])
def test_the_exporters_own_graphs_convert_too(architecture):
    """They cast flags to floats, where a Cast that stays behind breaks the types."""
    torch.manual_seed(0)
    graph = export_graph(build(architecture, SCHEMA), SCHEMA)

    scores = plain_scores(half_of_graph(graph, SCHEMA), ROWS)

    np.testing.assert_allclose(scores, plain_scores(graph, ROWS), rtol=0, atol=2e-3)


def test_the_graph_is_valid_sorted_and_has_the_same_border(half):
    onnx.checker.check_model(half, full_check=True)
    check_graph(half, SCHEMA)
    assert (half.ir_version, half.opset_import[0].version) == (10, 20)
    made = {value.name for value in half.graph.input} | {w.name for w in half.graph.initializer}
    for node in half.graph.node:
        assert set(node.input) <= made
        made |= set(node.output)


def test_nothing_but_the_end_is_single(half):
    check_half(half, single_names=())
    inferred = onnx.shape_inference.infer_shapes(half).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
    single = [name for name, kind in kinds.items() if kind == TensorProto.FLOAT]

    assert sorted(single) == ["logit", "logits"]
    assert not any(w.data_type == TensorProto.FLOAT for w in half.graph.initializer)


def test_weights_beyond_half_precision_are_named():
    spoilt = changed(random_weights(), second=lambda weights: weights * 1e6)

    with pytest.raises(InputError, match="'second' reach"):
        half_of_graph(ranker(spoilt), SCHEMA)


def with_constant(value: float) -> bytes:
    """The ranker, its first input scaled by a Constant node."""
    model = onnx.load_from_string(ranker(random_weights()))
    tensor = numpy_helper.from_array(np.array(value, np.float32))
    constant = helper.make_node("Constant", [], ["factor"], value=tensor)
    scaled = helper.make_node("Mul", ["dense", "factor"], ["scaled"])
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == "dense" else name for name in node.input]
    model.graph.node.insert(0, scaled)
    model.graph.node.insert(0, constant)
    return bytes(model.SerializeToString())


def test_constants_inside_the_graph_become_half_too():
    graph = with_constant(0.5)

    scores = plain_scores(half_of_graph(graph, SCHEMA), ROWS)

    np.testing.assert_allclose(scores, plain_scores(graph, ROWS), rtol=0, atol=2e-3)
    with pytest.raises(InputError, match="Constant"):
        half_of_graph(with_constant(1e5), SCHEMA)


def test_a_graph_that_does_not_end_in_a_sigmoid_converts_too():
    model = onnx.load_from_string(ranker(random_weights()))
    model.graph.node[-1].output[0] = "early"
    model.graph.node.append(helper.make_node("Cast", ["early"], ["wide"], to=TensorProto.DOUBLE))
    model.graph.node.append(helper.make_node("Cast", ["wide"], ["score"], to=TensorProto.FLOAT))
    graph = model.SerializeToString()

    scores = plain_scores(half_of_graph(graph, SCHEMA), ROWS)

    np.testing.assert_allclose(scores, plain_scores(graph, ROWS), rtol=0, atol=2e-3)


def test_control_flow_is_refused_in_one_line():
    model = onnx.load_from_string(ranker(random_weights()))
    branch = helper.make_graph(
        [helper.make_node("Identity", ["logit"], ["same"])],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["rows"])],
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    model.graph.initializer.append(flag)
    chosen = helper.make_node("If", ["flag"], ["chosen"], then_branch=branch, else_branch=branch)
    model.graph.node[-1].input[0] = "chosen"
    model.graph.node.insert(len(model.graph.node) - 1, chosen)

    with pytest.raises(InputError, match=r"the operator If .* without control flow"):
        half_of_graph(model.SerializeToString(), SCHEMA)
