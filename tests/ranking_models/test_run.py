"""A saved run is the run; anything else under its name is refused with the file's name."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.errors import InputError
from ranking_models.run import TrainedRun, load_run, save_run
from tests.support.runs import tiny_run

FILES = (
    "run.json",
    "weights.npz",
    "items.npz",
    "users.npz",
    "candidates.npz",
    "held_out.npz",
    "calibration.npz",
)


@pytest.fixture
def run(tmp_path: Path) -> TrainedRun:
    return tiny_run(tmp_path / "tiny")


@pytest.fixture
def saved(run: TrainedRun) -> Path:
    save_run(run)
    return run.directory


def test_a_run_comes_back_as_it_was_saved(run: TrainedRun, saved: Path) -> None:
    again = load_run(saved)

    assert sorted(file.name for file in saved.iterdir()) == sorted(FILES)
    for field in ("name", "architecture", "schema", "quality", "data", "training"):
        assert getattr(again, field) == getattr(run, field)
    assert again.items.ids == run.items.ids
    assert again.users.ids == run.users.ids
    batches = [
        (again.items.features, run.items.features),
        (again.users.features, run.users.features),
        (again.held_out, run.held_out),
        (again.calibration, run.calibration),
    ]
    for left, right in batches:
        for name, array in right.inputs().items():
            assert left.inputs()[name].dtype == array.dtype
            np.testing.assert_array_equal(left.inputs()[name], array)
    np.testing.assert_array_equal(again.popularity, run.popularity)
    np.testing.assert_array_equal(again.anchors, run.anchors)
    np.testing.assert_array_equal(again.held_out_labels, run.held_out_labels)
    for name, weights in run.weights.items():
        np.testing.assert_array_equal(again.weights[name], weights)
    assert not again.module().training


def test_the_same_run_is_saved_as_the_same_bytes(run: TrainedRun, saved: Path) -> None:
    other = replace(run, directory=saved.with_name("other"))
    save_run(other)

    for file in FILES:
        assert (other.directory / file).read_bytes() == (saved / file).read_bytes()


def test_a_run_is_replaced_only_by_force(run: TrainedRun, saved: Path) -> None:
    changed = replace(run, data=msgspec.structs.replace(run.data, licence="changed"))

    with pytest.raises(InputError, match="there is a run already; choose another --out, or"):
        save_run(changed)
    assert load_run(saved).data == run.data

    save_run(changed, force=True)
    assert load_run(saved).data.licence == "changed"
    assert [entry.name for entry in saved.parent.iterdir()] == ["tiny"]


def test_a_folder_that_is_no_run_is_never_replaced(run: TrainedRun) -> None:
    run.directory.mkdir()
    (run.directory / "thesis.tex").touch()

    with pytest.raises(InputError, match="is there and is not a run"):
        save_run(run, force=True)
    assert (run.directory / "thesis.tex").exists()


@pytest.mark.parametrize("name", [".hidden", "a b", "a@b", "x" * 65])
def test_a_folder_name_that_no_model_can_have_is_refused(run: TrainedRun, name: str) -> None:
    with pytest.raises(InputError, match="the folder's name is the model's"):
        save_run(replace(run, directory=run.directory.with_name(name)))


def test_a_save_that_fails_leaves_nothing(run: TrainedRun) -> None:
    broken = replace(run, weights={"w": np.array([object()])})  # would need a pickle

    with pytest.raises(ValueError, match="allow_pickle"):
        save_run(broken)

    assert list(run.directory.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="cannot be written: File exists"):
        save_run(replace(run, directory=tmp_path / "file" / "tiny"))


@pytest.mark.parametrize("file", FILES)
def test_a_missing_or_damaged_file_is_named(saved: Path, file: str) -> None:
    content = (saved / file).read_bytes()

    (saved / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=file):
        load_run(saved)

    (saved / file).unlink()
    with pytest.raises(InputError, match=file):
        load_run(saved)


def test_a_pickle_is_never_loaded(saved: Path) -> None:
    with np.load(saved / "items.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["ids"] = np.array([print], dtype=object)
    np.savez(saved / "items.npz", **arrays)  # pickles, unlike save_run

    with pytest.raises(InputError, match=r"items\.npz: is damaged: Object arrays cannot be loaded"):
        load_run(saved)


def test_a_run_of_another_format_or_with_unknown_fields_is_refused(saved: Path) -> None:
    content = msgspec.json.decode((saved / "run.json").read_bytes())

    (saved / "run.json").write_bytes(msgspec.json.encode({**content, "format": 1}))
    with pytest.raises(InputError, match=r"run\.json: format 1, this version reads 2"):
        load_run(saved)
    (saved / "run.json").write_bytes(msgspec.json.encode({**content, "mood": "good"}))
    with pytest.raises(InputError, match=r"run\.json: Object contains unknown field `mood`"):
        load_run(saved)


def test_arrays_that_do_not_fit_the_schema_are_named(saved: Path) -> None:
    shutil.copy(saved / "candidates.npz", saved / "users.npz")
    with pytest.raises(InputError, match=r"users\.npz: holds no dense, ids"):
        load_run(saved)


def test_weights_of_another_network_are_refused(run: TrainedRun) -> None:
    weights = {name: array[:1] for name, array in run.weights.items()}

    with pytest.raises(InputError, match=r"weights\.npz: .*size mismatch") as caught:
        replace(run, weights=weights).module()
    assert "\n" not in str(caught.value)


def test_there_is_no_run_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run here"):
        load_run(tmp_path)
