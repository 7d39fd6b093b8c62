"""A run holds what was promised, and nothing in it has seen the test rows."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models import metrics, train
from ranking_models.candidates import popularity_order
from ranking_models.data import encode
from ranking_models.fitting import scores
from ranking_models.logs import Logs, read_logs
from ranking_models.run import ReleaseOn, TrainedRun
from ranking_models.schema import FeatureBatch
from ranking_models.split import SplitName, split_logs
from tests.support.logs import ITEMS, ROWS_PER_USER, USERS, small_tables, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder

FEW_EPOCHS = replace(OPTIONS, epochs=3)


def trained(
    logs: Logs,
    *,
    split: SplitName = "user",
    release_on: ReleaseOn = "rest",
    progress: Recorder | None = None,
) -> TrainedRun:
    return train.train_run(
        logs,
        NETWORK,
        FEW_EPOCHS,
        split=split,
        release_on=release_on,
        directory=Path("runs/small"),
        progress=progress or Recorder(),
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    tables = small_tables()
    for row in (0, 1):
        tables["interactions"][row]["user"] = ""  # a visitor without an account
    return read_logs(write_log(tmp_path_factory.mktemp("log"), tables))


@pytest.fixture(scope="module")
def run(logs: Logs) -> TrainedRun:
    return trained(logs)


def test_a_run_has_one_row_per_item_and_per_user_with_an_id(logs: Logs, run: TrainedRun) -> None:
    data = encode(logs, run.schema)

    assert run.name == "small"
    assert run.items.ids == logs.items.ids
    assert run.users.ids == logs.users.ids
    for table, encoded in ((run.items, data.tables["item"]), (run.users, data.tables["user"])):
        assert table.features.rows == len(table.ids) == encoded.rows - 1
        for name, array in table.features.inputs().items():
            np.testing.assert_array_equal(array, encoded.inputs()[name][:-1])


def test_popularity_and_anchors_name_every_item(run: TrainedRun) -> None:
    assert sorted(run.popularity.tolist()) == list(range(ITEMS))
    assert run.anchors.shape == (ITEMS, 100)
    for anchor, candidates in enumerate(run.anchors):
        others = [c for c in candidates.tolist() if c >= 0]
        assert sorted(others) == [i for i in range(ITEMS) if i != anchor]


@pytest.mark.parametrize("split", ["user", "global"])
def test_quality_is_what_the_released_weights_do_on_the_test_rows(
    logs: Logs, split: SplitName
) -> None:
    run = trained(logs, split=split)
    test = split_logs(logs, split).test
    found = scores(run.module(), encode(logs, run.schema), test)
    label, units = logs.label[test], logs.unit[test]

    assert run.quality.split == split_logs(logs, split).description
    assert run.quality.rows == len(test)
    assert run.quality.users == len(set(units.tolist()))
    assert run.quality.auc == metrics.auc(found, label)
    assert run.quality.log_loss == metrics.log_loss(found, label)
    assert run.quality.gauc == metrics.gauc(found, label, units)
    assert run.quality.ndcg_at_10 == metrics.ndcg_at_k(found, label, units, 10)


def test_the_run_tells_its_data_and_its_training(logs: Logs, run: TrainedRun) -> None:
    assert run.data.name == "small log"
    assert run.data.licence == "Apache-2.0"
    assert (run.data.users, run.data.items) == (USERS, ITEMS)
    assert run.data.interactions == USERS * ROWS_PER_USER
    assert run.data.first_event == "2026-01-01T00:00:00Z"
    assert run.data.last_event == "2026-01-01T00:19:11Z"
    assert run.training.options == FEW_EPOCHS
    assert 1 <= run.training.epochs <= FEW_EPOCHS.epochs
    assert set(run.training.tools) == {"numpy", "torch"}


def test_nothing_that_is_released_depends_on_the_test_rows(logs: Logs, run: TrainedRun) -> None:
    test = split_logs(logs, "user").test
    label, item = logs.label.copy(), logs.item.copy()
    label[test] = 1 - label[test]
    item[test] = 0
    context = dict(logs.context)
    position = context["position"]
    context["position"] = replace(
        position, codes=np.where(np.isin(np.arange(len(label)), test), 0, position.codes)
    )

    other = trained(replace(logs, label=label, item=item, context=context))

    assert other.schema == run.schema
    for name, weights in run.weights.items():
        assert np.array_equal(other.weights[name], weights)
    assert np.array_equal(other.popularity, run.popularity)
    assert np.array_equal(other.anchors, run.anchors)
    assert other.quality != run.quality


def test_validation_rows_are_learned_from_in_the_end(logs: Logs, run: TrainedRun) -> None:
    """The search for the epoch must not see them; the released weights should."""
    label = logs.label.copy()
    rows = split_logs(logs, "user").validation
    label[rows] = label[rows][::-1]

    other = trained(replace(logs, label=label))

    assert any(not np.array_equal(other.weights[n], w) for n, w in run.weights.items())


def test_released_on_all_rows_the_model_learns_the_test_rows_and_the_figures_stay(
    logs: Logs, run: TrainedRun
) -> None:
    progress = Recorder()
    last = split_logs(logs, "user").test

    everything = trained(logs, release_on="all", progress=progress)

    figures = replace(everything.quality, split=run.quality.split)
    assert figures == run.quality, "of the same recipe without the test rows"
    assert everything.quality.split == f"{run.quality.split}, before a last round on all rows"
    assert everything.training == replace(run.training, release_on="all")
    assert [phase for phase, _, _ in progress.rounds] == [
        "best epoch", "measured epoch", "final epoch",
    ]  # fmt: skip
    assert progress.rounds[-1][1] == run.training.epochs
    assert any(not np.array_equal(everything.weights[n], w) for n, w in run.weights.items())
    seen = np.setdiff1d(np.arange(len(logs.label)), everything.calibration_rows)
    everybody = popularity_order(logs.item[seen], logs.label[seen], ITEMS)
    assert np.array_equal(everything.popularity, everybody)
    assert_same_rows(everything.held_out, encode(logs, everything.schema).inputs(last))


def test_held_out_rows_are_test_rows_and_at_most_as_many_as_asked(
    logs: Logs, run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = split_logs(logs, "user").test
    inputs = encode(logs, run.schema).inputs(test)

    assert_same_rows(run.held_out, inputs)
    np.testing.assert_array_equal(run.held_out_labels, logs.label[test])

    monkeypatch.setattr(train, "HELD_OUT_ROWS", 5)
    assert trained(logs).held_out.rows == 5


def assert_same_rows(left: FeatureBatch, right: FeatureBatch) -> None:
    for name, array in right.inputs().items():
        np.testing.assert_array_equal(left.inputs()[name], array)


def test_a_log_whose_clock_runs_backwards_is_the_same_log(logs: Logs, tmp_path: Path) -> None:
    """Rows are split and anchored by their times; their order in the file means nothing."""
    tables = small_tables()
    for row in (0, 1):
        tables["interactions"][row]["user"] = ""
    tables["interactions"].reverse()
    backwards = read_logs(write_log(tmp_path, tables))
    last = len(logs.label) - 1

    forward, turned = split_logs(logs, "user"), split_logs(backwards, "user")

    for part in ("train", "validation", "test"):
        rows = np.sort(last - getattr(turned, part))
        np.testing.assert_array_equal(rows, getattr(forward, part))


def test_nothing_is_trained_on_the_calibration_rows(logs: Logs) -> None:
    run, parts = trained(logs), split_logs(logs, "user")

    assert 0 < len(run.calibration_rows) <= len(parts.train) // 8
    assert set(run.calibration_rows.tolist()) <= set(parts.train.tolist())
    label = logs.label.copy()
    label[run.calibration_rows] = 1 - label[run.calibration_rows]
    turned = trained(replace(logs, label=label))
    assert turned.weights.keys() == run.weights.keys()
    for name, weight in run.weights.items():
        np.testing.assert_array_equal(turned.weights[name], weight)
