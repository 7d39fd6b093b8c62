"""A small click log on disk that tests can spoil one cell at a time."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ranking_models.logs import LogFiles

Cells = dict[str, str]
Tables = dict[str, list[Cells]]

USERS, ITEMS, ROWS_PER_USER = 12, 15, 20
FIRST_SECOND = 1_767_225_600  # 2026-01-01T00:00:00Z

SCHEMA = """\
name = "small log"
licence = "Apache-2.0"

[interactions]
user = "user"
item = "item"
timestamp = "at"
label = "clicked"
session = "session"

[items]
id = "item"

[users]
id = "user"

[[features]]
name = "user_id"
source = "user"
kind = "categorical"

[[features]]
name = "age"
source = "user"
kind = "numeric"

[[features]]
name = "item_id"
source = "item"
kind = "categorical"

[[features]]
name = "category"
source = "item"
kind = "categorical"

[[features]]
name = "price"
source = "item"
kind = "numeric"
log = true

[[features]]
name = "tags"
source = "item"
kind = "multi"
separator = "|"
max_length = 2

[[features]]
name = "position"
source = "context"
kind = "categorical"
default = 1
"""


def small_tables(*, seed: int = 0) -> Tables:
    """A valid log as text cells: some items are liked, and position 1 is clicked more."""
    rng = np.random.default_rng(seed)
    users = [{"user": f"u{u}", "age": str(20 + u)} for u in range(USERS)]
    items = [
        {
            "item": f"i{i}",
            "category": "abc"[i % 3],
            "price": f"{1 + i}.50",
            "tags": "|".join(["red", "big", "new"][: i % 4]),
        }
        for i in range(ITEMS)
    ]
    interactions = []
    for u in range(USERS):
        for n in range(ROWS_PER_USER):
            i, position = int(rng.integers(ITEMS)), 1 + n % 3
            chance = 0.15 + 0.5 * (i % 2) + 0.2 * (position == 1)
            interactions.append(
                {
                    "user": f"u{u}",
                    "item": f"i{i}",
                    "at": str(FIRST_SECOND + 60 * n + u),
                    "clicked": str(int(rng.random() < chance)),
                    "session": f"s{u}-{n // 3}",
                    "position": str(position),
                }
            )
    return {"interactions": interactions, "items": items, "users": users}


def write_log(folder: Path, tables: Tables, *, schema: str = SCHEMA) -> LogFiles:
    """Write CSV files and ``schema.toml``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", list(rows[0]), [list(row.values()) for row in rows])
    (folder / "schema.toml").write_text(schema, "utf-8")
    return log_files(folder)


def log_files(folder: Path) -> LogFiles:
    """Where `write_log` puts things."""
    return LogFiles(
        interactions=folder / "interactions.csv",
        items=folder / "items.csv",
        users=folder / "users.csv",
        schema=folder / "schema.toml",
    )


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write cells as they are."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def with_cell(tables: Tables, table: str, row: int, change: Mapping[str, str]) -> Tables:
    """The tables with some cells of one data row (from 1) replaced."""
    rows = [dict(cells) for cells in tables[table]]
    rows[row - 1].update(change)
    return {**tables, table: rows}
