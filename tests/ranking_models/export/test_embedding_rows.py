"""Embedding rows in fewer bytes: the same interface, nearly the same scores."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from ranking_models.errors import InputError
from ranking_models.export.embedding_rows import (
    embedding_tables,
    quantised_rows,
    reduce_embedding_rows,
)
from ranking_models.export.graph_rules import check_graph
from ranking_models.export.to_onnx import export_graph
from ranking_models.nn import build
from tests.support.bundles import linear_graph
from tests.support.gated import SCHEMA, changed, random_rows, random_weights, ranker
from tests.support.plain_onnx import plain_scores
from tests.support.runs import DCN, DEEP_FM

ROWS = random_rows(500, seed=1)


@pytest.fixture(scope="module")
def fp32() -> bytes:
    torch.manual_seed(0)
    network = build(DCN, SCHEMA).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.normal_(0, 0.3)
    return export_graph(network, SCHEMA)


@pytest.mark.parametrize(("rows", "allowed"), [("fp16", 1e-3), ("int8", 1e-2)])
def test_the_graph_is_smaller_valid_and_scores_nearly_alike(fp32, rows, allowed):
    reduced = reduce_embedding_rows(fp32, rows)

    model = onnx.load_from_string(reduced)
    onnx.checker.check_model(model, full_check=True)
    check_graph(model, SCHEMA)
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    reference, scores = plain_scores(fp32, ROWS), plain_scores(reduced, ROWS)
    assert 0 < np.abs(scores - reference).max() < allowed
    assert len(reduced) < len(fp32)


@pytest.mark.parametrize(("rows", "bytes_per_row"), [("fp16", 2 * 4), ("int8", 4 + 8)])
def test_the_table_takes_the_bytes_that_the_option_promises(fp32, rows, bytes_per_row):
    before, after = onnx.load_from_string(fp32), reduce_embedding_rows(fp32, rows)
    (table,) = embedding_tables(before, rows)
    count = next(w.dims[0] for w in before.graph.initializer if w.name == table)

    parts = [w for w in onnx.load_from_string(after).graph.initializer if table in w.name]

    assert sum(numpy_helper.to_array(part).nbytes for part in parts) == count * bytes_per_row
    assert table not in {part.name for part in parts}


def test_every_gather_of_a_shared_table_is_replaced(fp32):
    """Ids and lists read one table."""
    model = onnx.load_from_string(reduce_embedding_rows(fp32, "int8"))
    gathered = [node.input[0].rpartition(".")[2] for node in model.graph.node if _is_table(node)]

    assert sorted(gathered) == ["int8", "int8", "offset", "offset", "scale", "scale"]


def _is_table(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gather" and "table" in node.input[0]


def test_columns_too_few_to_gain_anything_stay():
    """A number and its scale and offset are nine bytes in place of four."""
    torch.manual_seed(0)
    model = onnx.load_from_string(export_graph(build(DEEP_FM, SCHEMA), SCHEMA))

    assert len(embedding_tables(model, "fp16")) == 2
    (wide,) = embedding_tables(model, "int8")
    assert "first_order" not in wide


@pytest.mark.parametrize("rows", ["fp16", "int8"])
def test_a_graph_that_was_not_made_here_is_reduced_too(rows):
    graph = ranker(random_weights())

    scores = plain_scores(reduce_embedding_rows(graph, rows), ROWS)

    np.testing.assert_allclose(scores, plain_scores(graph, ROWS), rtol=0, atol=2e-2)


def test_a_table_that_is_used_otherwise_too_is_left_alone():
    model = onnx.load_from_string(ranker(random_weights()))
    node = onnx.helper.make_node("Identity", ["table"], ["second_reader"])
    model.graph.node.append(node)

    assert embedding_tables(model, "fp16") == ()


def test_a_graph_without_tables_is_refused():
    schema = SCHEMA
    graph = onnx.load_from_string(linear_graph(schema, seed=0))
    for node in graph.graph.node:
        if node.op_type == "Gather":
            node.attribute.append(onnx.helper.make_attribute("axis", 1))

    with pytest.raises(InputError, match="no float32 embedding table that int8 rows"):
        reduce_embedding_rows(graph.SerializeToString(), "int8")


def test_a_value_beyond_half_precision_is_named():
    spoilt = changed(random_weights(), table=lambda table: table * 1e5)

    with pytest.raises(InputError, match="'table' reach"):
        reduce_embedding_rows(ranker(spoilt), "fp16")
    reduce_embedding_rows(ranker(spoilt), "int8")


def test_the_same_graph_is_the_same_file(fp32):
    assert reduce_embedding_rows(fp32, "int8") == reduce_embedding_rows(fp32, "int8")


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.integers(1, 16)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_no_value_is_further_off_than_half_a_step_of_its_row(table):
    values, scale, offset = quantised_rows(table)

    restored = values * scale.astype(np.float64) + offset
    step = (table.max(axis=1, keepdims=True) - table.min(axis=1, keepdims=True)) / 255
    rounding = 1e-6 * np.abs(table).max(axis=1, keepdims=True)
    assert (np.abs(restored - table) <= step / 2 + rounding + 1e-30).all()


def test_a_row_of_equal_values_is_exact():
    table = np.array([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0], [-7e-9, -7e-9, -7e-9]], np.float32)

    values, scale, offset = quantised_rows(table)

    np.testing.assert_array_equal(values * scale + offset, table)


def test_a_row_of_small_values_is_as_exact_as_one_of_large_ones():
    """One scale for the whole table would round the first row to nothing."""
    row = np.linspace(-1, 1, 16, dtype=np.float32)
    values, scale, offset = quantised_rows(np.stack([row * 1e-4, row * 100]))

    restored = values * scale + offset

    np.testing.assert_allclose(restored[0] / 1e-4, restored[1] / 100, atol=1e-5)
