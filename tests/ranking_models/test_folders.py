"""A new folder is there whole or not at all."""

from pathlib import Path

import pytest

from ranking_models.errors import InputError
from ranking_models.folders import new_folder


def write(target: Path, text: str, *, replace: bool = False) -> None:
    with new_folder(target, replace=replace) as folder:
        (folder / "a").write_text(text)
        assert not (target / "a").exists() or (target / "a").read_text() != text


def write_half(target: Path, *, replace: bool) -> None:
    with new_folder(target, replace=replace) as folder:
        (folder / "a").write_text("2")
        raise RuntimeError("half way")


def test_the_folder_appears_at_the_end_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "er" / "x", "1")

    assert (tmp_path / "deep" / "er" / "x" / "a").read_text() == "1"
    assert [entry.name for entry in (tmp_path / "deep" / "er").iterdir()] == ["x"]


def test_a_folder_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "x", "1")

    with pytest.raises(InputError, match="is there already"):
        write(tmp_path / "x", "2")
    assert (tmp_path / "x" / "a").read_text() == "1"

    write(tmp_path / "x", "3", replace=True)
    assert (tmp_path / "x" / "a").read_text() == "3"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_an_error_inside_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "x", "1")

    for replace in (False, True):
        with pytest.raises(RuntimeError, match="half way"):
            write_half(tmp_path / "x", replace=replace)

    assert (tmp_path / "x" / "a").read_text() == "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_or_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: File exists"):
        write(tmp_path / "file" / "x", "1")

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(InputError, match="cannot be written: No space left on device"),
        new_folder(tmp_path / "x") as folder,
    ):
        full(folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
