"""Rows cut by a feature: one segment per value, or per range of numbers."""

from collections.abc import Iterable, Iterator, Sequence
from math import expm1
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranking_models.errors import InputError
from ranking_models.logs import Logs
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec, FeatureValue, as_text
from ranking_models.split import Rows

MOST_SEGMENTS = 20
"""Of a categorical feature, by rows; what is left is one more."""

NUMERIC_BINS = 5

MISSING = "(missing)"
UNKNOWN_VALUE = "(not in the vocabulary)"


class SegmentColumn(NamedTuple):
    """A feature of each row, as its distinct values and their position per row."""

    feature: str
    numeric: bool
    values: Sequence[FeatureValue]
    codes: npt.NDArray[np.integer]


class SegmentRows(NamedTuple):
    """A segment's name and which rows are in it."""

    value: str
    inside: npt.NDArray[np.bool_]


def column_of_log(logs: Logs, feature: str, rows: Rows) -> SegmentColumn:
    """A feature that the log declares, as the log spells it.

    Raises:
        InputError: there is no such feature; says which there are.
    """
    declared = {spec.name: spec for spec in logs.declared.features}
    if feature not in declared:
        raise InputError(_unknown(feature, declared, str(logs.file)))
    spec = declared[feature]
    if spec.source == "context":
        factor, codes = logs.context[feature], logs.context[feature].codes[rows]
    elif spec.source == "user":
        factor = logs.users.features[feature]
        codes = factor.codes[logs.user[rows]]
    else:
        factor = logs.items.features[feature]
        codes = factor.codes[logs.item[rows]]
    return SegmentColumn(feature, spec.kind == "numeric", factor.values, codes)


def column_of_batch(schema: FeatureSchema, feature: str, batch: FeatureBatch) -> SegmentColumn:
    """The same from encoded rows, as far as the encoding tells.

    A number that was missing stands at the feature's mean, a rare value is not
    in the vocabulary, and a hashed one is known by its bucket only.

    Raises:
        InputError: there is no such feature; says which there are.
    """
    specs = {spec.name: spec for spec in schema.features}
    if feature not in specs:
        raise InputError(_unknown(feature, specs, "the run"))
    spec = specs[feature]
    if spec.kind == "numeric":
        encoded, codes = np.unique(batch.dense[:, schema.dense.index(spec)], return_inverse=True)
        return SegmentColumn(feature, True, [_number(spec, x) for x in encoded.tolist()], codes)
    if spec.kind == "categorical":
        ids, codes = np.unique(batch.ids[:, schema.ids.index(spec)], return_inverse=True)
        return SegmentColumn(feature, False, [_text(spec, i) for i in ids.tolist()], codes)
    lists, codes = np.unique(batch.multi[feature], axis=0, return_inverse=True)
    values: list[FeatureValue] = [
        [_text(spec, i) for i in line if i] or None for line in lists.tolist()
    ]
    return SegmentColumn(feature, False, values, codes.reshape(-1))


def segments_of(column: SegmentColumn) -> tuple[SegmentRows, ...]:
    """The segments of a feature: numbers in up to 5 ranges with as many rows in each as ties
    allow, other values by their number of rows, and at most 20 of them before the rest.
    """
    if column.numeric:
        return tuple(_ranges(column))
    return tuple(_by_value(column))


def overlapping(column: SegmentColumn) -> bool:
    """Whether a row can be in several segments."""
    return any(isinstance(value, list) for value in column.values)


def _ranges(column: SegmentColumn) -> Iterator[SegmentRows]:
    known = np.array([np.nan if v is None else v for v in column.values], np.float64)[column.codes]
    missing = np.isnan(known)
    numbers = np.sort(known[~missing])
    if len(numbers):
        below = np.searchsorted(numbers, known, "left")
        bins = np.where(missing, -1, below * NUMERIC_BINS // len(numbers))
        for number in np.unique(bins[~missing]):
            inside = bins == number
            low, high = known[inside].min(), known[inside].max()
            name = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
            yield SegmentRows(name, inside)
    if missing.any():
        yield SegmentRows(MISSING, missing)


def _by_value(column: SegmentColumn) -> Iterator[SegmentRows]:
    holds: dict[str, list[int]] = {}  # text to the codes that have it
    for code, value in enumerate(column.values):
        texts = {
            as_text(v) for v in (value if isinstance(value, list) else [value]) if v is not None
        }
        for text in texts or {MISSING}:
            holds.setdefault(text, []).append(code)
    rows = np.bincount(column.codes, minlength=len(column.values))
    counts = {text: int(rows[codes].sum()) for text, codes in holds.items()}
    ordered = sorted((t for t in counts if counts[t]), key=lambda text: (-counts[text], text))
    most = MOST_SEGMENTS if len(ordered) > MOST_SEGMENTS + 1 else len(ordered)
    for text in ordered[:most]:
        yield SegmentRows(text, np.isin(column.codes, holds[text]))
    if rest := ordered[most:]:
        codes = sorted({code for text in rest for code in holds[text]})
        yield SegmentRows(f"({len(rest):,} other values)", np.isin(column.codes, codes))


def _number(spec: FeatureSpec, encoded: float) -> float:
    number = encoded * spec.scale + spec.mean
    if spec.log:
        number = expm1(number) if number >= 0 else -expm1(-number)
    return number


def _text(spec: FeatureSpec, position: int) -> str:
    if position == 0:
        return UNKNOWN_VALUE
    return f"bucket {position}" if spec.hash_buckets else spec.vocabulary[position - 1]


def _unknown(feature: str, known: Iterable[str], where: str) -> str:
    return f"{where}: there is no feature {feature!r} to cut by; there are {', '.join(known)}"
