"""Training goes on from a bundle: what it knew stays, what is new starts fresh."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.architectures import Imported
from ranking_models.bundle import Bundle
from ranking_models.continuing import Parent, check_declared, grown, read_parent
from ranking_models.data import encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.export.to_bundle import export_run
from ranking_models.fitting import FitOptions, scores
from ranking_models.logs import Logs, read_logs
from ranking_models.manifest import Lineage
from ranking_models.nn import restore
from ranking_models.run import TrainedRun
from ranking_models.train import train_run
from tests.support.logs import SCHEMA, small_tables, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder

FEW_EPOCHS = replace(OPTIONS, epochs=2)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return read_logs(write_log(tmp_path_factory.mktemp("log"), small_tables()))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """Another month: other clicks, other prices, and a category that is new."""
    tables = small_tables(seed=5)
    for item in tables["items"][:6]:
        item.update(category="new", price="900")
    return read_logs(write_log(tmp_path_factory.mktemp("later"), tables))


def trained(
    logs: Logs, *, parent: Parent | None = None, options: FitOptions = FEW_EPOCHS
) -> TrainedRun:
    return train_run(
        logs,
        NETWORK,
        options,
        split="user",
        directory=Path("runs/small"),
        progress=Recorder(),
        parent=parent,
    )


@pytest.fixture(scope="module")
def run(logs: Logs) -> TrainedRun:
    return trained(logs)


@pytest.fixture(scope="module")
def bundle(run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("bundles")
    return Bundle.open(export_run(run, root, name="small", created=datetime.now(UTC)))


@pytest.fixture(scope="module")
def parent(bundle: Bundle) -> Parent:
    return read_parent(bundle)


def test_a_bundle_gives_back_the_weights_that_were_trained(
    run: TrainedRun, bundle: Bundle, parent: Parent
) -> None:
    assert parent.reference == f"small@{bundle.manifest.version}"
    assert parent.architecture == NETWORK
    for name, weights in run.weights.items():
        np.testing.assert_array_equal(parent.start.weights[name], weights)


def test_weights_that_do_not_make_the_golden_scores_are_refused(bundle: Bundle) -> None:
    _, golden = bundle.golden
    arrays = replace(bundle.arrays, golden_scores=golden + np.float32(0.01))

    with pytest.raises(InputError, match=r"the weights of small@.*: row \d+ of 256 scores"):
        read_parent(replace(bundle, arrays=arrays))


def test_an_imported_bundle_is_refused_before_anything_is_read(bundle: Bundle) -> None:
    imported = Imported(producer="other", sha256="0" * 64)

    with pytest.raises(InputError, match="imported as an ONNX graph, so it cannot be trained"):
        read_parent(replace(bundle, manifest=replace(bundle.manifest, architecture=imported)))


def test_vocabularies_grow_behind_what_was_known_and_scales_stay(
    later: Logs, parent: Parent
) -> None:
    rows = np.arange(len(later.label))
    learned = fit_schema(later, rows)

    schema = grown(learned, parent.start.schema)

    before = {spec.name: spec for spec in parent.start.schema.features}
    after = {spec.name: spec for spec in schema.features}
    assert after["category"].vocabulary == (*before["category"].vocabulary, "new")
    assert after["price"] == before["price"]
    assert next(s for s in learned.features if s.name == "price") != before["price"]


def test_a_continued_run_begins_where_its_parent_ended_and_says_so(
    logs: Logs, later: Logs, parent: Parent
) -> None:
    standing_still = replace(FEW_EPOCHS, epochs=1, learning_rate=1e-9)

    run = trained(later, parent=parent, options=standing_still)

    assert run.lineage == Lineage(
        method="continued",
        parent=parent.reference,
        options={"log": "small log", "epochs": 1, "learning_rate": 1e-9},
    )
    table = "body.embedding.table.weight"
    for name, weights in run.weights.items():
        if name != table:
            np.testing.assert_allclose(weights, parent.start.weights[name], atol=1e-6)
    assert len(run.weights[table]) == len(parent.start.weights[table]) + 1, "the new category"
    rows = np.arange(len(logs.label))
    known = encode(logs, parent.start.schema), encode(logs, run.schema)
    before = restore(NETWORK, parent.start.schema, parent.start.weights)
    np.testing.assert_allclose(
        scores(run.module(), known[1], rows), scores(before, known[0], rows), atol=1e-6
    )
    assert trained(later).lineage is None


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (SCHEMA.replace("log = true\n", ""), "'price': log is False in the log and True in small@"),
        (SCHEMA.replace("max_length = 2", "max_length = 4"), "max_length is 4 in the log and 2"),
        (SCHEMA[: SCHEMA.rindex("[[features]]")], "takes the features .*, position, the log"),
    ],
)
def test_a_log_whose_features_mean_something_else_is_refused(
    tmp_path: Path, parent: Parent, schema: str, reason: str
) -> None:
    logs = read_logs(write_log(tmp_path, small_tables(), schema=schema))

    with pytest.raises(InputError, match=reason):
        check_declared(parent, logs.declared)
