"""Parquet and CSV files as columns of one plain Arrow type each.

Data rows are counted from 1 in every message; a CSV header is not counted.
CSV cells are text, taken as written ("007" stays "007"), and an empty one is
a missing value. Parquet columns keep their types, and null is missing.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from ranking_models.errors import InputError, first_line

if TYPE_CHECKING:  # generic in the stubs only
    Cells = pa.Array[Any]
    Chunks = pa.ChunkedArray[Any]
else:
    Cells, Chunks = pa.Array, pa.ChunkedArray


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of one file."""

    file: Path
    name: str
    values: Cells
    """Without dictionaries; text is large_string, decimals and halves are float64."""

    def bad_cell(self, row: int, reason: str) -> InputError:
        """What is wrong with a cell; ``row`` counts from 0, the message from 1."""
        return InputError(f"{self.file}: column {self.name!r}, data row {row + 1}: {reason}")

    def unfit(self, reason: str) -> InputError:
        """What is wrong with the whole column."""
        return InputError(f"{self.file}: column {self.name!r} {reason}")


def read_columns(path: Path, wanted: Mapping[str, str]) -> dict[str, Column]:
    """Read some columns of a file.

    Args:
        path: ``.parquet`` or ``.csv``.
        wanted: Column name to what asks for it, for the message when it is missing.

    Raises:
        InputError: no such file, unreadable, without data rows, a column that
            is missing or there twice, a CSV row of the wrong width.
    """
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: the name must end in .parquet or .csv")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        read = _read_parquet if path.suffix.lower() == ".parquet" else _read_csv
        table = read(path, wanted)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from None
    if table.num_rows == 0:
        raise InputError(f"{path}: the file has no data rows")
    return {
        name: Column(file=path, name=name, values=_plain(table.column(name))) for name in wanted
    }


def _read_parquet(path: Path, wanted: Mapping[str, str]) -> pa.Table:
    try:
        with parquet.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names, wanted)
            return file.read(columns=list(wanted))
    except pa.ArrowException as error:
        raise InputError(f"{path}: not a readable Parquet file: {first_line(error)}") from None


def _read_csv(path: Path, wanted: Mapping[str, str]) -> pa.Table:
    _check_header(path, _csv_header(path), wanted)
    _check_quotes(path)
    wrong_width: list[arrow_csv.InvalidRow] = []

    def remember(row: arrow_csv.InvalidRow) -> Literal["skip", "error"]:
        wrong_width.append(row)
        return "error"

    try:
        cells = arrow_csv.read_csv(
            path,
            # One thread: only then does Arrow know the numbers of bad rows.
            read_options=arrow_csv.ReadOptions(use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(wanted),
                # Bytes, not text: `_decoded` can then name the cell that is not UTF-8.
                column_types=dict.fromkeys(wanted, pa.binary()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowException as error:
        if wrong_width:
            row = wrong_width[0]
            raise InputError(
                f"{path}: data row {(row.number or 0) - 1} has {row.actual_columns} cells, "
                f"the header names {row.expected_columns} columns"
            ) from None
        raise InputError(f"{path}: not a readable CSV file: {first_line(error)}") from None
    return pa.table({name: _decoded(path, name, cells.column(name)) for name in wanted})


def _csv_header(path: Path) -> list[str]:
    # Escaped, because the buffer that is decoded may hold bad cells of later rows too.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = next(csv.reader(file), [])
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: the header is not UTF-8 text") from None
    if not header:
        raise InputError(f"{path}: the file is empty; its first line must name the columns")
    return header


def _check_quotes(path: Path) -> None:
    # Arrow takes a quote that is never closed for one long last cell, and every
    # row after it is silently gone.
    if path.read_bytes().count(b'"') % 2 == 0:
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        records = 0  # the header is one of them
        try:
            for _ in csv.reader(file, strict=True):
                records += 1
        except csv.Error:
            raise InputError(
                f"{path}: data row {records}: a quote is opened and not closed"
            ) from None


def _decoded(path: Path, name: str, cells: Chunks) -> Chunks:
    try:
        return cells.cast(pa.large_string())
    except pa.ArrowException:
        for row, cell in enumerate(cells.to_pylist()):
            if cell is not None and cell.decode(errors="replace").encode() != cell:
                column = Column(file=path, name=name, values=pa.nulls(0))
                raise column.bad_cell(row, "the cell is not UTF-8 text") from None
        raise


def _check_header(path: Path, header: Sequence[str], wanted: Mapping[str, str]) -> None:
    for name, asked_by in wanted.items():
        if name not in header:
            raise InputError(
                f"{path}: there is no column {name!r} ({asked_by}); it has {', '.join(header)}"
            )
        if header.count(name) > 1:
            raise InputError(f"{path}: there are {header.count(name)} columns named {name!r}")


def _plain(values: Chunks) -> Cells:
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        kind = pa.large_string()
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        kind = pa.float64()
    return values.cast(kind).combine_chunks()
