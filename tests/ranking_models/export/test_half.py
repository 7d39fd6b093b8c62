"""FP16 graphs of networks: half precision inside, float32 at the border, the same scores."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
)
from ranking_models.errors import InputError
from ranking_models.export.graph_rules import check_graph
from ranking_models.export.half import check_half, export_half, half_network, single_weights
from ranking_models.nn import RankingNetwork, build
from ranking_models.torch_scorer import torch_scorer
from tests.support.gated import SCHEMA, random_rows
from tests.support.plain_onnx import plain_scores
from tests.support.runs import DCN, DEEP_FM

ROWS = random_rows(500, seed=1)

EVERY = (
    LogisticRegression(),
    WideAndDeep(embedding_dim=4, hidden=(16, 8)),
    DEEP_FM,
    DCN,
    DCNv2(embedding_dim=4, cross_layers=2, cross_rank=3, cross_experts=2, hidden=(8,)),
    DLRM(embedding_dim=4, bottom=(8,), hidden=(16, 8)),
    TwoTower(embedding_dim=4, hidden=(16,), output_dim=6),
)


def network_of(architecture: Architecture, *, scale: float = 0.3) -> RankingNetwork:
    torch.manual_seed(0)
    network = build(architecture, SCHEMA).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, scale)
    return network


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return onnx.load_from_string(export_half(network_of(DCN), SCHEMA))


@pytest.mark.parametrize("architecture", EVERY, ids=lambda a: a.name)
def test_every_architecture_scores_as_in_single_precision(architecture):
    network = network_of(architecture)
    reference = torch_scorer(network, SCHEMA)(ROWS)

    serialised = export_half(network, SCHEMA)

    check_graph(onnx.load_from_string(serialised), SCHEMA)
    scores = plain_scores(serialised, ROWS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference, rtol=0, atol=2e-3)
    assert reference.std() > 0.02, "a constant would be easy to agree on"


@pytest.mark.parametrize("architecture", EVERY, ids=lambda a: a.name)
def test_rounding_after_every_operator_costs_no_more(architecture):
    """ONNX Runtime computes in single precision between the roundings; PyTorch rounds as a GPU."""
    network = network_of(architecture)

    scores = torch_scorer(half_network(network), SCHEMA)(ROWS)

    np.testing.assert_allclose(scores, torch_scorer(network, SCHEMA)(ROWS), rtol=0, atol=4e-3)


def test_the_border_is_that_of_the_fp32_graph(graph):
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
    assert kinds == {
        "dense": TensorProto.FLOAT,
        "ids": TensorProto.INT32,
        "multi_tags": TensorProto.INT32,
    }
    (score,) = graph.graph.output
    assert score.type.tensor_type.elem_type == TensorProto.FLOAT
    for value in (*graph.graph.input, score):
        assert value.type.tensor_type.shape.dim[0].dim_param == "rows"


def test_versions_are_within_what_engines_read(graph):
    assert graph.ir_version <= 13
    assert all(used.domain == "" and used.version <= 26 for used in graph.opset_import)
    onnx.checker.check_model(graph, full_check=True)


def test_only_the_last_layers_weights_are_single(graph):
    (name,) = single_weights(graph)

    assert name.endswith("body.head.weight")
    halves = [w for w in graph.graph.initializer if w.data_type == TensorProto.FLOAT16]
    assert len(halves) >= 7


def test_no_matrix_product_is_single(graph):
    """TensorRT refuses those on a T4."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
    products = [node for node in inferred.node if node.op_type in {"Gemm", "MatMul"}]

    assert len(products) == 4
    assert {kinds[node.output[0]] for node in products} == {TensorProto.FLOAT16}


def test_the_sum_before_the_sigmoid_is_not_rounded_to_half():
    """Logits of 2 and a little, rounded to 11 bits, would be two or three different ones."""
    network = network_of(DCN)
    with torch.no_grad():
        network.body.head.weight.normal_(0, 1e-4)
        network.body.head.bias.fill_(2.0)

    scores = plain_scores(export_half(network, SCHEMA), ROWS)

    assert len(np.unique(scores)) > 100


def test_the_network_itself_is_left_alone():
    network = network_of(DCN)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    export_half(network, SCHEMA)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.body.head.weight.dtype == torch.float32


@pytest.mark.parametrize("value", [7e4, -7e4, float("nan"), float("inf")])
def test_weights_that_half_precision_cannot_hold_are_named(value):
    network = network_of(DCN)
    with torch.no_grad():
        network.body.mlp.layers[0].bias[3] = value

    with pytest.raises(InputError, match=r"'body\.mlp\.layers\.0\.bias' reach") as caught:
        export_half(network, SCHEMA)
    assert "65504" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_fp32_graph_is_not_taken_for_fp16():
    from ranking_models.export.to_onnx import export_graph

    model = onnx.load_from_string(export_graph(network_of(DCN), SCHEMA))

    with pytest.raises(InputError, match="keeps float32 weights"):
        check_half(model, single_names=())
    with pytest.raises(InputError, match="float32 matrix products"):
        check_half(model, single_names={weights.name for weights in model.graph.initializer})
