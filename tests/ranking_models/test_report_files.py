"""A report file is there whole or not at all."""

from pathlib import Path

import pytest

from ranking_models.errors import InputError
from ranking_models.report_files import check_writable, write_whole


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_whole(file, b"old")

    write_whole(file, b"new")

    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "report.html")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attempt", [check_writable, lambda path: write_whole(path, b"x")])
def test_a_place_that_cannot_be_written_is_refused(attempt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    for path in (tmp_path / "missing" / "report.html", tmp_path / "file" / "report.html"):
        with pytest.raises(InputError, match=r"report\.html: cannot be written: "):
            attempt(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.html"
    write_whole(file, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_whole(file, b"new")

    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
