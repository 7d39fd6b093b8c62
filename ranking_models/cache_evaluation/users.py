"""Whose row it is and of what, and the same row for another user or item."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema, Source

Places = npt.NDArray[np.intp]
NOBODY = -1


def columns_of(schema: FeatureSchema, rows: FeatureBatch, source: Source) -> FeatureBatch:
    """The columns of one source, from rows with all columns."""
    return FeatureBatch(
        dense=rows.dense[:, [c for c, spec in enumerate(schema.dense) if spec.source == source]],
        ids=rows.ids[:, [c for c, spec in enumerate(schema.ids) if spec.source == source]],
        multi={s.name: rows.multi[s.name] for s in schema.multi if s.source == source},
    )


def with_columns(
    schema: FeatureSchema, rows: FeatureBatch, source: Source, part: FeatureBatch
) -> FeatureBatch:
    """The rows with another user, item or context each."""
    dense, ids = rows.dense.copy(), rows.ids.copy()
    dense[:, [c for c, spec in enumerate(schema.dense) if spec.source == source]] = part.dense
    ids[:, [c for c, spec in enumerate(schema.ids) if spec.source == source]] = part.ids
    return FeatureBatch(dense=dense, ids=ids, multi={**rows.multi, **part.multi})


def positions_of(schema: FeatureSchema, rows: FeatureBatch, users: FeatureBatch) -> Places:
    """Whom of the table each row is of, as the model reads it; `NOBODY` for a stranger.

    Users whom the model cannot tell apart rank alike, so they are of one segment and
    the first of them stands for all.
    """
    return _places(columns_of(schema, rows, "user"), users)


def items_of(schema: FeatureSchema, rows: FeatureBatch, items: FeatureBatch) -> Places:
    """Which item of the table each row is of, in the same way; `NOBODY` for an unknown one."""
    return _places(columns_of(schema, rows, "item"), items)


def _places(lines: FeatureBatch, table: FeatureBatch) -> Places:
    at = {line: position for position, line in reversed([*enumerate(_as_bytes(table))])}
    return np.array([at.get(line, NOBODY) for line in _as_bytes(lines)], np.intp)


def users_at(schema: FeatureSchema, users: FeatureBatch, positions: Places) -> FeatureBatch:
    """Encoded users of the table; the missing user for `NOBODY`."""
    nobody = Encoder(schema.of("user")).encode_rows([{}])
    return FeatureBatch.concatenate([users, nobody]).take(positions)


def _as_bytes(batch: FeatureBatch) -> list[bytes]:
    arrays: list[npt.NDArray[Any]] = [np.ascontiguousarray(a) for a in batch.inputs().values()]
    flat = [a.reshape(len(a), -1).view(np.uint8).reshape(len(a), -1) for a in arrays if a.size]
    if not flat:
        return [b""] * batch.rows
    return [line.tobytes() for line in np.concatenate(flat, axis=1)]
