"""What no engine could load, or would have to guess at, is refused: what, where, what to do."""

import onnx
import pytest
from onnx import TensorProto, helper

from ranking_models.errors import InputError
from ranking_models.export.graph_rules import check_graph, place_of
from ranking_models.schema import FeatureSchema
from tests.support.bundles import linear_graph, tiny_schema

SCHEMA = tiny_schema(items=50, users=20)


def changed(**changes: object) -> onnx.ModelProto:
    model = onnx.load_from_string(linear_graph(SCHEMA, seed=0))
    for name, change in changes.items():
        setattr(model, name, change)
    return model


def axis(model: onnx.ModelProto, name: str, number: int) -> onnx.TensorShapeProto.Dimension:
    values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    return values[name].type.tensor_type.shape.dim[number]


def test_a_hand_written_graph_passes():
    check_graph(changed(), SCHEMA)


def test_a_newer_file_format_is_refused():
    with pytest.raises(InputError, match="IR version 14, at most 13 is read; save it with"):
        check_graph(changed(ir_version=14), SCHEMA)


def test_a_newer_operator_set_is_refused():
    model = changed()
    model.opset_import[0].version = 27

    with pytest.raises(InputError, match="opset 27, at most 26 is read; export it with"):
        check_graph(model, SCHEMA)


def test_operators_of_one_vendor_are_refused_and_where_they_are_is_said():
    model = changed()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node.append(
        helper.make_node("FusedGemm", ["dense"], ["x"], name="fused", domain="com.microsoft")
    )

    with pytest.raises(InputError, match=r"'com\.microsoft' \(FusedGemm in node 'fused'\)"):
        check_graph(model, SCHEMA)


def test_nodes_out_of_order_are_refused():
    model = changed()
    model.graph.node.insert(0, model.graph.node.pop())

    with pytest.raises(InputError, match=r"not valid ONNX.*topological"):
        check_graph(model, SCHEMA)


@pytest.mark.parametrize(
    ("operator", "advice"),
    [("NonZero", "torch.where"), ("Unique", "look every row up"), ("RandomUniformLike", "random")],
)
def test_operators_that_no_plan_can_hold_are_refused(operator, advice):
    model = changed()
    model.graph.node.append(helper.make_node(operator, ["dense"], ["x"], name="odd"))

    with pytest.raises(InputError, match=f"node 'odd': {operator} is refused: .*{advice}"):
        check_graph(model, SCHEMA)


def test_a_refused_operator_inside_a_branch_is_found():
    inner = helper.make_graph(
        [helper.make_node("NonZero", ["dense"], ["y"], name="inside")], "branch", [], []
    )
    model = changed()
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], name="odd", then_branch=inner, else_branch=inner)
    )

    with pytest.raises(InputError, match=r"node 'odd': If is refused: .*torch\.where"):
        check_graph(model, SCHEMA)


def test_a_node_tells_the_module_it_came_from():
    node = helper.make_node("Relu", ["x"], ["y"])
    scopes = "['', 'module', 'module.module', 'module.module.body.mlp.layers.1', 'relu']"
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)

    assert place_of(node) == "body.mlp.layers.1"


@pytest.mark.parametrize(("name", "said"), [("batch", "'batch'"), ("", "'nothing'")])
def test_an_axis_of_another_name_is_refused(name, said):
    model = changed()
    axis(model, "ids", 0).dim_param = name

    with pytest.raises(
        InputError, match=f"input 'ids', axis 0: the dynamic axis is named {said}.*'rows'"
    ):
        check_graph(model, SCHEMA)


def test_a_dynamic_axis_in_the_wrong_place_is_named():
    model = changed()
    axis(model, "dense", 1).dim_param = "width"

    with pytest.raises(
        InputError, match=r"input 'dense', axis 1: it is dynamic \(width\).*fix this one at 3"
    ):
        check_graph(model, SCHEMA)


def test_a_fixed_number_of_rows_is_refused():
    model = changed()
    axis(model, "dense", 0).dim_value = 8

    with pytest.raises(InputError, match=r"input 'dense', axis 0: it is fixed at 8.*a dynamic"):
        check_graph(model, SCHEMA)


def test_an_input_that_the_schema_does_not_ask_for_is_refused():
    smaller = FeatureSchema(features=tuple(f for f in SCHEMA.features if f.kind != "multi"))

    with pytest.raises(InputError, match="has input 'multi_tags' that the schema does not ask for"):
        check_graph(changed(), smaller)


def test_an_input_of_another_type_is_refused():
    model = changed()
    ids = next(value for value in model.graph.input if value.name == "ids")
    ids.type.tensor_type.elem_type = TensorProto.INT64

    with pytest.raises(
        InputError,
        match=r"not valid ONNX|input 'ids' is int64 \[rows, 5\].*int32 \[rows, 5\]; cast",
    ):
        check_graph(model, SCHEMA)


def test_an_output_of_another_name_is_refused():
    model = changed()
    model.graph.node.append(helper.make_node("Identity", ["score"], ["p"]))
    model.graph.output[0].name = "p"

    with pytest.raises(
        InputError, match=r"asks for output 'score' .*; the graph's outputs are 'p'"
    ):
        check_graph(model, SCHEMA)


def test_weights_outside_of_the_file_are_refused():
    model = changed()
    weights = next(w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")

    with pytest.raises(InputError, match=r"outside of the graph's file, in 'weights\.bin'; load"):
        check_graph(model, SCHEMA)
