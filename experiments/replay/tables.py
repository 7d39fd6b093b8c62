"""Rows of a CSV or NDJSON text with named columns, each typed or refused with its line."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import isfinite
from typing import Any


class TableInvalid(ValueError):
    """A text that is no table of the columns that were asked for; says the line and what to do."""

    def __init__(self, where: str, line: int | None, reason: str) -> None:
        place = where if line is None else f"{where}, line {line}"
        super().__init__(f"{place}: {reason}")


class Fields:
    """One row, read by column name; an empty cell is an absent one."""

    def __init__(self, where: str, line: int, cells: Mapping[str, Any]) -> None:
        self._where, self._line, self._cells = where, line, cells

    def text(self, *names: str, default: str | None = None) -> str:
        """The first of the columns that is there.

        Raises:
            TableInvalid: none is, and there is no default.
        """
        for name in names:
            value = self._cells.get(name)
            if value is not None and value != "":
                return str(value)
        if default is None:
            raise self.refused(f"the column {' or '.join(names)} is missing or empty")
        return default

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number.

        Raises:
            TableInvalid: it is none, or is missing without a default.
        """
        text = self.text(name, default="" if default is not None else None)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            raise self.refused(f"{name} must be a number, got {text!r}") from None
        if not isfinite(value):
            raise self.refused(f"{name} must be a finite number, got {text!r}")
        return value

    def has(self, name: str) -> bool:
        return self._cells.get(name) not in (None, "")

    def refused(self, reason: str) -> TableInvalid:
        """The error that names this row."""
        return TableInvalid(self._where, self._line, reason)


def read_rows(lines: Iterable[str], *, where: str) -> Iterator[Fields]:
    """The rows of CSV with a header line, or of NDJSON if the first line is a JSON object.

    Args:
        lines: Of a text, as an open file gives them.
        where: What the text is called in errors, usually the file name.

    Raises:
        TableInvalid: it is empty, or a line is neither.
    """
    given = iter(lines)
    first = next(given, "")
    if not first.strip():
        raise TableInvalid(where, None, "it is empty; the first line must name the columns")
    every = chain([first], given)
    if first.lstrip().startswith("{"):
        return _json_rows(every, where)
    return _csv_rows(every, where)


def _csv_rows(lines: Iterable[str], where: str) -> Iterator[Fields]:
    reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if None in cells:
                reason = f"it has more cells than the {len(reader.fieldnames or ())} columns"
                raise TableInvalid(where, reader.line_num, reason)
            yield Fields(where, reader.line_num, cells)
    except csv.Error as error:
        raise TableInvalid(where, reader.reader.line_num, str(error)) from None


def _json_rows(lines: Iterable[str], where: str) -> Iterator[Fields]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as error:
            raise TableInvalid(where, number, f"it is not JSON: {error}") from None
        if not isinstance(cells, dict):
            raise TableInvalid(where, number, "each line must be a JSON object")
        yield Fields(where, number, cells)
