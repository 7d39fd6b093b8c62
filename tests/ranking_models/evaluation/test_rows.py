"""Rows to measure on: those that training held out, encoded as each model takes them."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.data import encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.evaluation import encoded_rows, rows_of_log, rows_of_run
from ranking_models.logs import Logs, read_logs
from ranking_models.schema import FeatureSchema, FeatureSpec
from ranking_models.split import split_logs
from tests.support.logs import SCHEMA, small_tables, with_cell, write_log
from tests.support.runs import tiny_run


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return read_logs(write_log(tmp_path, small_tables()))


@pytest.mark.parametrize("split", ["user", "global"])
def test_the_test_rows_are_those_of_training(logs: Logs, split: str) -> None:
    found = rows_of_log(logs, rows="test", split=split)

    parts = split_logs(logs, split)
    assert found.rows.tolist() == parts.test.tolist()
    assert found.labels.tolist() == logs.label[parts.test].tolist()
    assert found.units.tolist() == logs.unit[parts.test].tolist()
    assert found.lists.tolist() == found.units.tolist()
    assert found.evidence == f"small log: {parts.description}"


def test_all_rows_are_all_rows(logs: Logs) -> None:
    found = rows_of_log(logs, rows="all", split="user")

    assert found.rows.tolist() == list(range(240))
    assert found.evidence == "small log: all rows"


def test_lists_can_be_sessions(tmp_path: Path) -> None:
    """Two users' sessions of one name are two lists; rows without a session are a user's list."""
    tables = small_tables()
    for row in range(1, 7):
        tables = with_cell(tables, "interactions", row, {"session": "" if row < 4 else "s1-0"})
    logs = read_logs(write_log(tmp_path, tables))

    found = rows_of_log(logs, rows="all", split="user", lists="session")

    keys = [(cells["user"], cells["session"]) for cells in tables["interactions"]]
    same = np.array([[a == b for b in keys] for a in keys])
    assert ((found.lists[:, None] == found.lists[None, :]) == same).all()
    assert found.list_kind == "session"


def test_sessions_that_the_log_does_not_have_are_refused(tmp_path: Path) -> None:
    schema = SCHEMA.replace('session = "session"\n', "")
    logs = read_logs(write_log(tmp_path, small_tables(), schema=schema))

    with pytest.raises(InputError, match="--lists session needs sessions"):
        rows_of_log(logs, rows="all", split="user", lists="session")


def test_a_log_that_is_too_short_to_hold_rows_out_is_refused(tmp_path: Path) -> None:
    tables = small_tables()
    short = [cells for n, cells in enumerate(tables["interactions"]) if n % 20 < 9]
    logs = read_logs(write_log(tmp_path, {**tables, "interactions": short}))

    with pytest.raises(InputError, match="no user has 10 rows"):
        rows_of_log(logs, rows="test", split="user")


def test_rows_are_encoded_by_the_models_own_schema(logs: Logs) -> None:
    """Not by one that is learnt from these rows: unseen values stay unknown."""
    schema = fit_schema(logs, np.arange(20))
    rows = np.array([3, 77, 200])

    found = encoded_rows(logs, schema, rows)

    expected = encode(logs, schema).inputs(rows).inputs()
    assert {name: values.tolist() for name, values in found.inputs().items()} == {
        name: values.tolist() for name, values in expected.items()
    }
    assert 0 in found.ids


@pytest.mark.parametrize(
    ("name", "kind", "has"),
    [("colour", "categorical", "none"), ("age", "categorical", "user numeric")],
)
def test_a_model_that_takes_what_the_log_does_not_have_is_refused(
    logs: Logs, name: str, kind: str, has: str
) -> None:
    schema = FeatureSchema(features=(FeatureSpec(name=name, source="user", kind=kind),))

    with pytest.raises(InputError, match=f"user {kind} feature '{name}'.* declares {has}"):
        encoded_rows(logs, schema, np.arange(3))


def test_a_run_gives_the_rows_that_it_held_out(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "tiny")

    found = rows_of_run(run)

    assert found.labels.tolist() == run.held_out_labels.tolist()
    assert found.units.tolist() == run.held_out_units.tolist()
    assert found.evidence == "held-out rows of the run tiny (none: random weights)"


def test_a_run_without_rows_is_refused(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "tiny")
    empty = replace(run, held_out=run.held_out.take(slice(0, 0)))

    with pytest.raises(InputError, match="holds out no rows"):
        rows_of_run(empty)
