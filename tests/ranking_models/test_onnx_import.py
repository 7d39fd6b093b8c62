"""A graph from elsewhere is adapted without changing a score, or refused with the reason."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ranking_models.bundle import Bundle, BundleContents, write_bundle
from ranking_models.errors import InputError
from ranking_models.logs import log_files_in, read_logs
from ranking_models.metrics import auc
from ranking_models.onnx_import import import_ranker, read_schema
from ranking_models.schema import FeatureSchema, FeatureSpec
from service.cli import run

SCHEMA = FeatureSchema(
    features=(
        FeatureSpec(name="age", source="user", kind="numeric", mean=40.0, scale=10.0),
        FeatureSpec(name="colour", source="item", kind="categorical", vocabulary=("blue", "red")),
    )
)
WEIGHT, COLOURS = np.float32(0.7), np.array([0.0, -1.0, 1.5], np.float32)
AGES = {"u0": 25, "u1": 40, "u2": 60}
COLOUR = {"i0": "red", "i1": "blue", "i2": "green"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = ["user_id,item_id,at,clicked"]
    for second in range(120):
        user, item = random.choice(list(AGES)), random.choice(list(COLOUR))
        click = int(random.random() < (0.8 if COLOUR[item] == "red" else 0.3))
        lines.append(f"{user},{item},{second},{click}")
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    users = "".join(f"{user},{age}\n" for user, age in AGES.items())
    items = "".join(f"{item},{colour}\n" for item, colour in COLOUR.items())
    (folder / "users.csv").write_text(f"user_id,age\n{users}")
    (folder / "items.csv").write_text(f"item_id,colour\n{items}")
    (folder / "schema.toml").write_text(
        """
name = "shop"
licence = "CC0"
features = [
  {name = "age", source = "user", kind = "numeric"},
  {name = "colour", source = "item", kind = "categorical"},
]
[interactions]
user = "user_id"
item = "item_id"
timestamp = "at"
label = "clicked"
"""
    )
    return folder


def foreign(
    file: Path,
    *,
    dense: str = "dense",
    rows: str | int = "rows",
    ids_kind: int = TensorProto.INT32,
    output: str = "score",
    flat: bool = True,
    probability: bool = True,
    width: int | str = 1,
    table: str = "table",
    odds: str = "odds",
) -> Path:
    """``sigmoid(weight * age + weight of the colour)`` in the spelling asked for."""
    constants = {"w": WEIGHT.reshape(1, 1), table: COLOURS}
    nodes = [
        helper.make_node("MatMul", [dense, "w"], ["of_age"]),
        helper.make_node("Gather", [table, "ids"], ["of_colour"]),
        helper.make_node("Add", ["of_age", "of_colour"], [odds]),
        helper.make_node("Sigmoid" if probability else "Identity", [odds], ["columns"]),
    ]
    if flat:
        constants["shape"] = np.array([-1], np.int64)
        nodes.append(helper.make_node("Reshape", ["columns", "shape"], [output]))
    else:
        nodes.append(helper.make_node("Identity", ["columns"], [output]))
    score = helper.make_tensor_value_info(output, TensorProto.FLOAT, [rows] if flat else [rows, 1])
    inputs = [
        helper.make_tensor_value_info(dense, TensorProto.FLOAT, [rows, width]),
        helper.make_tensor_value_info("ids", ids_kind, [rows, 1]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "foreign", inputs, [score], weights)
    model = helper.make_model(
        graph,
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
        producer_name="elsewhere",
        producer_version="7",
    )
    onnx.save(model, file)
    return file


def imported(file: Path, data: Path, **inputs: str) -> BundleContents:
    logs = read_logs(log_files_in(data))
    created = datetime(2026, 11, 1, tzinfo=UTC)
    return import_ranker(file, SCHEMA, logs, inputs=inputs, name="foreign", created=created)


@pytest.mark.parametrize(
    ("spelling", "inputs"),
    [
        ({}, {}),
        ({"dense": "numbers"}, {"numbers": "dense"}),
        ({"rows": "batch_size"}, {}),
        ({"ids_kind": TensorProto.INT64}, {}),
        ({"output": "p"}, {}),
        ({"flat": False}, {}),
        ({"odds": "score", "output": "p"}, {}),
        ({"dense": "numbers", "table": "dense"}, {"numbers": "dense"}),
        ({"dense": "score", "odds": "dense", "output": "p"}, {"score": "dense"}),
        ({"flat": False, "output": "p", "rows": "N", "ids_kind": TensorProto.INT64}, {}),
    ],
)
def test_every_spelling_scores_as_the_formula_says(tmp_path, data, spelling, inputs):
    contents = imported(foreign(tmp_path / "m.onnx", **spelling), data, **inputs)
    bundle = Bundle.open(write_bundle(tmp_path / "bundles", contents))

    rows, scores = bundle.golden
    odds = WEIGHT * rows.dense[:, 0] + COLOURS[rows.ids[:, 0]]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-odds)), atol=1e-6)
    assert bundle.item_ids.tolist() == list(COLOUR)
    assert bundle.items.ids[:, 0].tolist() == [2, 1, 0]
    assert bundle.manifest.architecture.producer == "elsewhere 7"
    assert bundle.segments is not None


def test_the_quality_is_that_of_the_scores_on_the_given_log(tmp_path, data):
    contents = imported(foreign(tmp_path / "m.onnx"), data)

    logs = read_logs(log_files_in(data))
    ages = np.array([AGES[logs.users.ids[user]] for user in logs.user])
    colours = np.array(
        [{"blue": -1.0, "red": 1.5}.get(COLOUR[logs.items.ids[i]], 0) for i in logs.item]
    )
    odds = (0.7 * (ages - 40) / 10 + colours).astype(np.float32)
    assert contents.quality.auc == pytest.approx(auc(odds, logs.label), abs=1e-9)
    assert contents.quality.rows == 120
    assert contents.data.name == "shop"


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        ({"rows": 8}, "takes 8 rows and no other number; export the model with a dynamic first"),
        ({"dense": "numbers"}, "input 'numbers' is none of the schema's dense, ids"),
        ({"ids_kind": TensorProto.INT16}, "input 'ids' is INT16, not INT32"),
        ({"width": 2}, r"shape \['rows', 2\], the schema asks for \[rows, 1\]"),
        (
            {"width": "columns"},
            "'dense' has a dynamic second axis.*export the model with 1 columns",
        ),
        ({"probability": False}, "where a probability is due; end the graph with a Sigmoid"),
    ],
)
def test_what_cannot_be_adapted_is_explained(tmp_path, data, spelling, reason):
    with pytest.raises(InputError, match=reason):
        imported(foreign(tmp_path / "m.onnx", **spelling), data)


def test_a_graph_that_breaks_a_rule_is_named(tmp_path, data):
    file = foreign(tmp_path / "m.onnx")
    model = onnx.load(file)
    model.graph.node[0].input[0] = "nothing"
    onnx.save(model, file)

    with pytest.raises(InputError, match=r"m\.onnx: the graph is not valid ONNX"):
        imported(file, data)


def test_a_log_without_labels_is_refused(tmp_path, data):
    log = data / "interactions.csv"
    log.write_text("\n".join(line.rsplit(",", 1)[0] for line in log.read_text().splitlines()))

    with pytest.raises(InputError, match="clicked"):
        imported(foreign(tmp_path / "m.onnx"), data)


def test_a_feature_that_the_log_does_not_have_is_refused(tmp_path, data):
    declared = data / "schema.toml"
    declared.write_text(
        declared.read_text().replace('"age", source = "user"', '"age", source = "item"')
    )
    (data / "items.csv").write_text("item_id,colour,age\ni0,red,1\ni1,blue,2\ni2,green,3\n")

    with pytest.raises(InputError, match="user feature 'age'"):
        imported(foreign(tmp_path / "m.onnx"), data)


def test_an_input_that_the_graph_does_not_have_is_refused(tmp_path, data):
    with pytest.raises(InputError, match="has no input 'numbers'; it has dense, ids"):
        imported(foreign(tmp_path / "m.onnx"), data, numbers="dense")


def test_what_is_no_model_or_no_schema_is_refused(tmp_path, data):
    (tmp_path / "m.onnx").write_text("not a model")
    (tmp_path / "features.json").write_text('{"features": [{"name": "age"}]}')

    with pytest.raises(InputError, match="is not an ONNX model"):
        imported(tmp_path / "m.onnx", data)
    with pytest.raises(InputError, match="is not a schema of features"):
        read_schema(tmp_path / "features.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_schema(tmp_path / "none.json")


def test_the_command_writes_a_bundle(tmp_path, data, capsys):
    foreign(tmp_path / "m.onnx", dense="numbers")
    (tmp_path / "features.json").write_bytes(msgspec.json.encode(SCHEMA))
    arguments = ["bundle", "import", str(tmp_path / "m.onnx"), "--data", str(data)]
    arguments += ["--schema", str(tmp_path / "features.json"), "--name", "foreign"]
    arguments += ["--out", str(tmp_path / "bundles")]

    assert run([*arguments, "--input", "numbers=dense"]) == 0
    assert "AUC 0." in capsys.readouterr().out
    assert run(["bundle", "inspect", "foreign", "--bundles", str(tmp_path / "bundles")]) == 0
    assert "imported" in capsys.readouterr().out
    assert run([*arguments, "--input", "numbers"]) == 2
    assert "theirs=ours" in capsys.readouterr().err
