"""Columns as the values that training needs; a bad cell is named by file, column and row.

Checks run on whole columns. Only when one fails is the first bad row looked
for, so a good file of a million rows costs seconds.
"""

from math import isfinite

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranking_models.bundle.layout import MAX_ID_CHARS
from ranking_models.schema import FeatureValue, Float32, Int32, Scalar, as_text
from ranking_models.tables import Cells, Column

Float64 = npt.NDArray[np.float64]

LATEST_SECOND = 1e11
"""The year 5138: a larger number was not meant as seconds."""

_CLICKS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """A column as its distinct values, in order of appearance, and their position per row.

    What a value means is worked out once per distinct value, not once per row.
    """

    values: tuple[FeatureValue, ...]
    codes: Int32

    def first_row(self, position: int) -> int:
        """The first row that holds the value at a position."""
        return int(np.argmax(self.codes == position))


def categories(column: Column) -> Factor:
    """Single values: text, numbers or booleans, None where missing.

    Raises:
        InputError: a column of another type, NaN or an infinity.
    """
    _check_single(column, column.values.type)
    factor = _factor(column.values)
    for position, value in enumerate(factor.values):
        if isinstance(value, float) and not isfinite(value):
            raise column.bad_cell(factor.first_row(position), f"{value} is not a finite number")
    return factor


def identifiers(column: Column) -> Factor:
    """Ids as text, None where missing.

    Raises:
        InputError: a column of another type, NaN, an infinity, empty text, or
            an id that no bundle could keep.
    """
    factor = categories(column)
    texts = tuple(None if value is None else as_text(_single(value)) for value in factor.values)
    for position, text in enumerate(texts):
        if text is None or (0 < len(text) <= MAX_ID_CHARS and "\0" not in text):
            continue
        reason = "the id is empty text"
        if text:
            reason = f"the id {text[:40]!r} has a NUL"
        if len(text) > MAX_ID_CHARS:
            reason = f"the id {text[:40]!r}... is longer than {MAX_ID_CHARS} characters"
        raise column.bad_cell(factor.first_row(position), reason)
    return Factor(values=texts, codes=factor.codes)


def numbers(column: Column) -> Factor:
    """Numbers as float, None where missing.

    Raises:
        InputError: a column of another type, text that is not a number, NaN or
            an infinity.
    """
    kind = column.values.type
    if pa.types.is_boolean(kind):
        raise column.unfit("holds true/false: declare the feature categorical")
    _check_single(column, kind)
    factor = _factor(_float64(column))
    for position, value in enumerate(factor.values):
        if value is not None and not isfinite(float(value)):  # type: ignore[arg-type]
            raise column.bad_cell(factor.first_row(position), f"{value} is not a finite number")
    return factor


def lists(column: Column, separator: str | None) -> Factor:
    """Lists of values, None where missing: a list column, or text cut at a separator.

    Raises:
        InputError: a column of another type, text without a separator, NaN or
            an infinity in a list.
    """
    kind = column.values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _check_single(column, kind.value_type)
        return _distinct_lists(column)
    if not (pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise column.unfit(f"holds {kind}: a multi feature takes lists, or text and a separator")
    if separator is None:
        raise column.unfit("holds text: give the multi feature a separator in the schema")
    cells = _factor(column.values)
    values = tuple(None if v is None else _cut(str(v), separator) for v in cells.values)
    return Factor(values=values, codes=cells.codes)


def labels(column: Column) -> Float32:
    """1.0 for a click, else 0.0, per row.

    Raises:
        InputError: missing, or anything but 0, 1, true and false.
    """
    factor = categories(column)
    clicks = np.zeros(len(factor.values), np.float32)
    for position, value in enumerate(factor.values):
        if value is None:
            raise column.bad_cell(factor.first_row(position), "the label is missing")
        click = _CLICKS.get(as_text(_single(value)).strip().lower())
        if click is None:
            raise column.bad_cell(factor.first_row(position), f"{value!r} is not 0 or 1")
        clicks[position] = click
    return clicks[factor.codes]


def seconds(column: Column) -> Float64:
    """Unix seconds per row, from numbers, timestamps (no zone means UTC) or RFC 3339 text.

    Raises:
        InputError: missing, unparsable, before 1970 or too large for seconds.
    """
    kind = column.values.type
    if column.values.null_count:
        row = int(np.argmax(column.values.is_null().to_numpy(zero_copy_only=False)))
        raise column.bad_cell(row, "the timestamp is missing")
    if pa.types.is_timestamp(kind):
        values = column.values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        times = values.to_numpy(zero_copy_only=False) / 1e6
    elif pa.types.is_large_string(kind) and not _parses(column.values[:1], pa.float64()):
        times = _rfc3339(column)
    elif pa.types.is_boolean(kind):
        raise column.unfit("holds true/false, not a time")
    else:
        _check_single(column, kind)
        times = _float64(column).to_numpy(zero_copy_only=False)
    good = (times >= 0) & (times < LATEST_SECOND)  # NaN is not good
    if not good.all():
        row = int(np.argmin(good))
        hint = " (milliseconds?)" if times[row] >= LATEST_SECOND else ""
        raise column.bad_cell(row, f"{times[row]:.15g} is not a time in unix seconds{hint}")
    return np.asarray(times, np.float64)


def _rfc3339(column: Column) -> Float64:
    target = pa.timestamp("ns", tz="UTC")
    if not _parses(column.values, target):
        row = _first_unparsed(column.values, target)
        raise column.bad_cell(
            row,
            f"{column.values[row].as_py()!r} is not a time: unix seconds, or RFC 3339 "
            "with its offset, such as 2026-01-31T12:00:00Z",
        )
    parsed = column.values.cast(target).cast(pa.int64())
    return np.asarray(parsed.to_numpy(zero_copy_only=False) / 1e9, np.float64)


def _float64(column: Column) -> Cells:
    values = column.values
    if not pa.types.is_large_string(values.type):
        return values.cast(pa.float64(), safe=False)
    trimmed = pc.utf8_trim_whitespace(values)
    if not _parses(trimmed, pa.float64()):
        row = _first_unparsed(trimmed, pa.float64())
        raise column.bad_cell(row, f"{values[row].as_py()!r} is not a number")
    return trimmed.cast(pa.float64())


def _parses(values: Cells, target: pa.DataType) -> bool:
    try:
        values.cast(target)
    except pa.ArrowException:
        return False
    return True


def _first_unparsed(values: Cells, target: pa.DataType) -> int:
    """The first row that does not parse, by halving: the rows before it do."""
    good, bad = 0, len(values)  # rows [0, good) parse, rows [0, bad) do not
    while bad - good > 1:
        middle = (good + bad) // 2
        if _parses(values[good:middle], target):
            good = middle
        else:
            bad = middle
    return good


def _check_single(column: Column, kind: pa.DataType) -> None:
    fits = (
        pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )
    if not fits:
        raise column.unfit(f"holds {kind}: text, numbers or true/false are needed here")


def _factor(values: Cells) -> Factor:
    if pa.types.is_null(values.type):  # a column without any value
        return Factor(values=(None,), codes=np.zeros(len(values), np.int32))
    encoded = values.dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Factor(values=tuple(encoded.dictionary.to_pylist()), codes=codes)


def _distinct_lists(column: Column) -> Factor:
    seen: dict[tuple[Scalar, ...] | None, int] = {}
    codes = np.empty(len(column.values), np.int32)
    for row, cell in enumerate(column.values.to_pylist()):
        key = None if cell is None else tuple(value for value in cell if value is not None)
        if key not in seen and key is not None:
            for value in key:
                if isinstance(value, float) and not isfinite(value):
                    raise column.bad_cell(row, f"{value} is not a finite number")
        codes[row] = seen.setdefault(key, len(seen))
    return Factor(values=tuple(None if k is None else list(k) for k in seen), codes=codes)


def _cut(text: str, separator: str) -> list[Scalar]:
    parts = (part.strip() for part in text.split(separator))
    return [part for part in parts if part]


def _single(value: FeatureValue) -> Scalar:
    assert value is not None
    assert not isinstance(value, list)
    return value
