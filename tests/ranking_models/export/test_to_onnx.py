"""Every exported graph is one that ONNX Runtime and TensorRT take, whatever the schema."""

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from ranking_models.errors import InputError
from ranking_models.export.to_onnx import export_graph
from ranking_models.nn import build
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import Encoder, FeatureSchema
from ranking_models.torch_scorer import torch_scorer
from tests.support.bundles import tiny_schema
from tests.support.runs import DCN, DEEP_FM

SCHEMA = tiny_schema(items=50, users=20)


def only(*kinds: str) -> FeatureSchema:
    return FeatureSchema(features=tuple(f for f in SCHEMA.features if f.kind in kinds))


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    torch.manual_seed(0)
    return onnx.load_from_string(export_graph(build(DCN, SCHEMA), SCHEMA))


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        (DCN, ("numeric", "categorical", "multi")),
        (DCN, ("categorical",)),
        (DCN, ("numeric",)),
        (DCN, ("multi",)),
        (DEEP_FM, ("numeric", "categorical", "multi")),
        (DEEP_FM, ("numeric",)),
    ],
)
def test_inputs_without_columns_are_left_out_and_the_scores_are_torchs(architecture, kinds):
    schema = only(*kinds)
    torch.manual_seed(0)
    module = build(architecture, schema).eval()
    rows = Encoder(schema).encode_rows(
        [
            {"price": 3, "tags": ["new", "used"], "category": "toys", "item_id": "i4"},
            {},
            {"age": 3, "user_id": "u2", "hour": 99},
        ]
    )

    graph = export_graph(module, schema)

    loaded = onnx.load_from_string(graph)
    expected = {"numeric": "dense", "categorical": "ids", "multi": "multi_tags"}
    assert [value.name for value in loaded.graph.input] == [expected[kind] for kind in kinds]
    score, reference = onnx_runtime_scorer(graph), torch_scorer(module, schema)(rows)
    for size in (1, 2, 3):
        np.testing.assert_allclose(
            score(rows.take(slice(0, size))), reference[:size], rtol=0, atol=1e-6
        )


def test_all_rows_are_one_named_axis(graph):
    for value in (*graph.graph.input, *graph.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "rows"
    assert [value.name for value in graph.graph.output] == ["score"]


def test_versions_are_within_what_onnx_runtime_reads(graph):
    assert graph.ir_version <= 13
    assert [(used.domain, used.version) for used in graph.opset_import] == [("", 20)]


def test_the_file_says_nothing_of_the_machine_that_made_it(graph):
    text = graph.SerializeToString()

    assert b"stack_trace" not in text
    assert b".py" not in text


def test_the_same_network_is_the_same_file_and_nothing_is_printed(graph, capfd):
    torch.manual_seed(0)

    assert onnx.load_from_string(export_graph(build(DCN, SCHEMA), SCHEMA)) == graph
    assert capfd.readouterr() == ("", "")


def test_dropout_is_off_in_the_graph(graph):
    assert "Dropout" not in {node.op_type for node in graph.graph.node}


def test_nothing_in_it_is_left_to_be_made_faster(graph):
    nodes = graph.graph.node
    read = {name for node in nodes for name in node.input} | {"score"}
    operators = [node.op_type for node in nodes]

    assert all(set(node.output) & read for node in nodes)  # nothing computed for nobody
    assert {weights.name for weights in graph.graph.initializer} <= read
    assert not {"Identity", "Constant", "MatMul"} & set(operators)  # folded, and fused into Gemm
    assert operators.count("Gather") == 2  # one for all ids, one for the list


def test_a_schema_without_features_is_refused():
    with pytest.raises(InputError, match="no features"):
        export_graph(build(DCN, SCHEMA), FeatureSchema(features=()))


class DependsOnValues(nn.Module):
    """Cannot be traced: which way it goes depends on the rows."""

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        return dense[:, 0].sigmoid() if dense.sum().item() > 0 else dense[:, 1].sigmoid()


class TwoColumns(nn.Module):
    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        return dense[:, :2].sigmoid()


class FixedRows(nn.Module):
    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        return (dense.sum(dim=1) + torch.zeros(3)).sigmoid()


def test_a_network_that_cannot_be_exported_is_one_line():
    with pytest.raises(InputError, match="cannot be exported to ONNX") as caught:
        export_graph(DependsOnValues(), SCHEMA)
    assert "\n" not in str(caught.value)


def test_a_network_that_takes_only_so_many_rows_is_refused():
    with pytest.raises(InputError, match="holds only for some numbers of rows"):
        export_graph(FixedRows(), SCHEMA)


def test_a_network_with_another_output_is_refused():
    with pytest.raises(
        InputError,
        match=r"output 'score' is float32 \[rows, 2\], the schema asks for float32 \[rows\]",
    ):
        export_graph(TwoColumns(), SCHEMA)
