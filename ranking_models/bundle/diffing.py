"""What differs between two bundles, by their contents."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from ranking_models.bundle.reading import Bundle
from ranking_models.manifest import Quality, Variant
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, Int32


class Changes(Struct, frozen=True, kw_only=True):
    """Names that one side has and the other has not, and those that both have but not alike."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class PrecisionPair(Struct, frozen=True, kw_only=True):
    """One precision in both; None on the side that has not got it."""

    precision: str
    before: Variant | None
    after: Variant | None


class GoldenDifference(Struct, frozen=True, kw_only=True):
    """The fp32 graphs on the golden rows that both bundles have."""

    rows: int
    max_difference: float
    """Of a score, absolute."""


class BundleDiff(Struct, frozen=True, kw_only=True):
    """From one bundle (before) to another (after)."""

    before: str
    """``name@version``."""
    after: str
    schema: Changes
    """By feature."""
    architecture: tuple[str, str] | None
    """Both in JSON; None where they are equal."""
    precisions: tuple[PrecisionPair, ...]
    """Those that differ in figures, gate or presence."""
    quality: dict[str, tuple[float, float]]
    """Figures that differ, before and after."""
    same_split: bool
    """Whether both were measured on rows described alike; else figures do not compare."""
    items: Changes
    """By item id; changed items have other features."""
    files: Changes
    golden: GoldenDifference | None
    """None where the bundles take in different features, or no golden row is in both."""


def diff_bundles(
    before: Bundle, after: Bundle, score_before: Scorer, score_after: Scorer
) -> BundleDiff:
    """Compare two verified bundles.

    Args:
        before: The one that changes are counted from.
        after: The other one.
        score_before: The fp32 graph of `before`.
        score_after: That of `after`.
    """
    one, other = before.manifest, after.manifest
    return BundleDiff(
        before=f"{one.name}@{one.version}",
        after=f"{other.name}@{other.version}",
        schema=_changes(
            {spec.name: spec for spec in one.schema.features},
            {spec.name: spec for spec in other.schema.features},
        ),
        architecture=_architectures(before, after),
        precisions=_precisions(one.precisions, other.precisions),
        quality=_figures(one.quality, other.quality),
        same_split=one.quality.split == other.quality.split,
        items=_items(before, after),
        files=_changes(one.files, other.files),
        golden=_golden(before, after, score_before, score_after),
    )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(k for k in before.keys() & after.keys() if before[k] != after[k])),
    )


def _architectures(before: Bundle, after: Bundle) -> tuple[str, str] | None:
    one, other = before.manifest.architecture, after.manifest.architecture
    if one == other:
        return None
    return msgspec.json.encode(one).decode(), msgspec.json.encode(other).decode()


def _precisions(
    before: Mapping[str, Variant], after: Mapping[str, Variant]
) -> tuple[PrecisionPair, ...]:
    pairs = (
        PrecisionPair(precision=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
    )
    return tuple(pair for pair in pairs if pair.before != pair.after)


def _figures(before: Quality, after: Quality) -> dict[str, tuple[float, float]]:
    pairs = {
        name: (float(getattr(before, name)), float(getattr(after, name)))
        for name in ("rows", "users", "auc", "log_loss", "gauc", "ndcg_at_10")
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _items(before: Bundle, after: Bundle) -> Changes:
    """Features of an item are compared by their encoding, so only under one schema of items."""
    one, other = before.item_ids.tolist(), after.item_ids.tolist()
    at = {item: position for position, item in enumerate(one)}
    shared = [(at[item], position) for position, item in enumerate(other) if item in at]
    changed: list[str] = []
    if before.schema.of("item") == after.schema.of("item") and shared:
        was, now = np.array(shared, np.intp).T
        differs = ~_equal_rows(before.items.take(was), after.items.take(now))
        changed = sorted(after.item_ids[now[differs]].tolist())
    return Changes(
        added=tuple(sorted(set(other) - set(one))),
        removed=tuple(sorted(set(one) - set(other))),
        changed=tuple(changed),
    )


def _equal_rows(one: FeatureBatch, other: FeatureBatch) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    arrays = other.inputs()
    equal = np.ones(one.rows, bool)
    for name, values in one.inputs().items():
        equal &= (values == arrays[name]).all(axis=1)
    return equal


def _golden(
    before: Bundle, after: Bundle, score_before: Scorer, score_after: Scorer
) -> GoldenDifference | None:
    """Equal inputs mean the same only under the same schema."""
    if before.schema != after.schema:
        return None
    rows, _ = before.golden
    shared = _rows_in(rows, after.golden[0])
    if not len(shared):
        return None
    batch = rows.take(shared)
    difference = np.abs(score_before(batch).astype(np.float64) - score_after(batch))
    return GoldenDifference(rows=len(shared), max_difference=float(difference.max()))


def _rows_in(rows: FeatureBatch, others: FeatureBatch) -> Int32:
    """Positions of the rows that are among the others, bit for bit."""
    among = set(_row_bytes(others))
    return np.array([at for at, row in enumerate(_row_bytes(rows)) if row in among], np.int32)


def _row_bytes(batch: FeatureBatch) -> list[bytes]:
    arrays = [values for _, values in sorted(batch.inputs().items())]
    return [b"".join(values[row].tobytes() for values in arrays) for row in range(batch.rows)]
