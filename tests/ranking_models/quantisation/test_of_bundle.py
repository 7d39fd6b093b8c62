"""Rows for INT8 out of a log that the model has not seen: two parts that share none."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle, BundleArrays, Graph, id_array, write_bundle
from ranking_models.data import encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.logs import Logs, read_logs
from ranking_models.quantisation.of_bundle import material_of_log
from ranking_models.schema import FeatureBatch
from tests.support.bundles import linear_graph, run_graph, tiny_contents, write_tiny_bundle
from tests.support.logs import small_tables, write_log


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return read_logs(write_log(tmp_path / "log", small_tables()))


def test_a_fifth_of_the_log_calibrates_and_all_else_is_for_the_gate(
    logs: Logs, tmp_path: Path
) -> None:
    bundle = _bundle_for(logs, tmp_path / "bundles")

    material = material_of_log(logs, bundle)

    every = encode(logs, bundle.schema).inputs(np.arange(len(logs.label)))
    calibration, evidence = material.calibration, material.evidence
    assert calibration.rows == every.rows // 5
    parts = FeatureBatch.concatenate([calibration, evidence.held_out])
    np.testing.assert_array_equal(_sorted(parts), _sorted(every))
    assert evidence.lists.list_items == len(logs.items.ids)
    assert set(evidence.labels) == {0.0, 1.0}
    assert "which the model was not trained on" in evidence.words


def test_a_log_without_the_models_features_is_refused(logs: Logs, tmp_path: Path) -> None:
    other = Bundle.open(write_tiny_bundle(tmp_path / "bundles"))

    with pytest.raises(InputError, match=r"the model takes the .* feature"):
        material_of_log(logs, other)


def _bundle_for(logs: Logs, root: Path) -> Bundle:
    """Random weights behind the features of a log."""
    rows = np.arange(len(logs.label))
    schema = fit_schema(logs, rows)
    data = encode(logs, schema)
    graph, golden = linear_graph(schema, seed=0), data.inputs(rows[:32])
    items, users = len(logs.items.ids), len(logs.users.ids)
    positions = np.arange(items, dtype=np.int32)
    contents = replace(
        tiny_contents(),
        schema=schema,
        graphs={"fp32": Graph(onnx=graph, tolerance=1e-5, parity=0.0)},
        arrays=BundleArrays(
            item_ids=id_array(logs.items.ids, "items"),
            items=data.tables["item"].take(slice(0, items)),
            user_ids=id_array(logs.users.ids, "users"),
            users=data.tables["user"].take(slice(0, users)),
            candidates=np.roll(positions, 1).reshape(items, 1),
            popularity=positions,
            golden=golden,
            golden_scores=run_graph(graph, golden),
        ),
    )
    return Bundle.open(write_bundle(root, contents))


def _sorted(batch: FeatureBatch) -> np.ndarray:
    wide = np.hstack([values.astype(np.float64) for values in batch.inputs().values()])
    return wide[np.lexsort(wide.T)]
