"""A smaller model is made from the log that its parent was trained on, and from no other."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.compression import origin_of
from ranking_models.errors import InputError
from ranking_models.logs import Logs, read_logs
from ranking_models.run import TrainedRun
from ranking_models.split import split_logs
from tests.support.logs import SCHEMA, Tables, small_tables, write_log
from tests.support.smaller import small_logs, trained_run
from tests.support.training import OPTIONS


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return small_logs(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def run(logs: Logs) -> TrainedRun:
    return trained_run(logs, options=replace(OPTIONS, epochs=1))


def fewer_rows(tables: Tables) -> Tables:
    return {**tables, "interactions": tables["interactions"][1:]}


def test_the_log_of_the_run_is_split_as_it_was(logs: Logs, run: TrainedRun) -> None:
    origin = origin_of(run, logs)

    parts = split_logs(logs, "user")
    np.testing.assert_array_equal(origin.parts.test, parts.test)
    learned = np.setdiff1d(np.arange(len(logs.label)), [*parts.test, *run.calibration_rows])
    np.testing.assert_array_equal(np.sort(origin.learned), learned)


def test_another_log_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not the log that large was trained on: .* held out"):
        origin_of(run, small_logs(tmp_path, seed=1))


def test_a_log_with_fewer_rows_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    other = read_logs(write_log(tmp_path, fewer_rows(small_tables())))

    with pytest.raises(InputError, match="it has 239 interactions, the run's has 240; name the"):
        origin_of(run, other)


def test_a_log_of_other_people_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    tables = small_tables()
    for table in ("users", "interactions"):
        for row in tables[table]:
            row["user"] = "x" + row["user"]

    with pytest.raises(InputError, match="its items or users have other ids"):
        origin_of(run, read_logs(write_log(tmp_path, tables)))


def test_a_log_without_a_feature_of_the_run_is_refused(run: TrainedRun, tmp_path: Path) -> None:
    schema = SCHEMA.replace('name = "age"\nsource = "user"\nkind = "numeric"', 'name = "age"\n'
                            'source = "user"\nkind = "categorical"')  # fmt: skip
    other = read_logs(write_log(tmp_path, small_tables(), schema=schema))

    with pytest.raises(InputError, match="it declares no user numeric 'age'"):
        origin_of(run, other)


def test_a_label_that_changed_in_a_held_out_row_is_noticed(logs: Logs, run: TrainedRun) -> None:
    label = logs.label.copy()
    label[run.held_out_rows[0]] = 1 - label[run.held_out_rows[0]]

    with pytest.raises(InputError, match="the rows that the run held out differ"):
        origin_of(run, replace(logs, label=label))


def test_other_times_are_noticed(logs: Logs, run: TrainedRun) -> None:
    with pytest.raises(InputError, match="its last rows by time are others"):
        origin_of(run, replace(logs, seconds=-logs.seconds))


def test_a_run_released_on_all_rows_leaves_none_to_compare_on(logs: Logs, run: TrainedRun) -> None:
    everything = replace(run, training=replace(run.training, release_on="all"))

    with pytest.raises(InputError, match="train it with --release-on rest"):
        origin_of(everything, logs)
