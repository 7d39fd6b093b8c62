"""From ids to model input rows: the user once, the items from the catalogue.

Values in the request override what the bundle knows. The columns of the graph
are in schema order, those of a table in the order of its source, so every
source writes its own columns of the row.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import (
    ITEM_ID,
    USER_ID,
    Encoder,
    FeatureBatch,
    FeatureMismatch,
    FeatureSchema,
    FeatureValue,
    Int32,
    Source,
)
from service.errors import InvalidRequest
from service.feature_names import ANCHOR_ITEM
from service.messages import RankRequest

UNKNOWN_ITEM = -1


class RequestRows(Struct, frozen=True, kw_only=True):
    """What a model needs to know of one request, encoded once.

    ``user`` and ``context`` are single rows with the columns of their source;
    ``items`` are catalogue positions in candidate order, -1 for unknown;
    ``overrides`` holds encoded single rows by candidate index.
    """

    item_ids: tuple[str, ...]
    user: FeatureBatch
    context: FeatureBatch
    items: Int32
    overrides: dict[int, FeatureBatch]


class FeatureSource(Protocol):
    """Where model inputs come from. Neither blocks nor does I/O."""

    def encode(self, request: RankRequest) -> RequestRows:
        """Look up and encode; cheap, so it comes before the cache.

        Raises:
            InvalidRequest: a feature value of the wrong kind, with its path.
        """
        ...

    def batch(self, rows: RequestRows) -> FeatureBatch:
        """One model input row per candidate, in order."""
        ...

    def position(self, item_id: str) -> int:
        """Where the catalogue holds the item, or -1."""
        ...


class BundleFeatures:
    """Features from the tables of one bundle, held in memory. Never changes."""

    def __init__(self, bundle: Bundle) -> None:
        self._schema = bundle.schema
        self._encoders: dict[Source, Encoder] = {
            source: Encoder(bundle.schema.of(source)) for source in ("user", "item", "context")
        }
        self._columns = {source: _Columns.of(bundle.schema, source) for source in self._encoders}
        self._users, self._user_at = bundle.users, _index(bundle.user_ids)
        self._items, self._item_at = bundle.items, _index(bundle.item_ids)
        self._unknown_item = self._encoders["item"].encode_rows([{}])

    def encode(self, request: RankRequest) -> RequestRows:
        item_ids = tuple(request.candidate_ids())
        at = self._item_at
        positions = [at.get(item, UNKNOWN_ITEM) for item in item_ids]
        items = np.array(positions, np.int32)
        return RequestRows(
            item_ids=item_ids,
            user=self._user(request),
            context=self._context(request),
            items=items,
            overrides=self._overrides(request, items),
        )

    def batch(self, rows: RequestRows) -> FeatureBatch:
        n, schema = len(rows.items), self._schema
        out = FeatureBatch(
            dense=np.empty((n, len(schema.dense)), np.float32),
            ids=np.empty((n, len(schema.ids)), np.int32),
            multi={s.name: np.empty((n, s.max_length), np.int32) for s in schema.multi},
        )
        self._columns["user"].write(out, rows.user)
        self._columns["context"].write(out, rows.context)
        self._columns["item"].write(out, self._item_rows(rows))
        return out

    def position(self, item_id: str) -> int:
        return self._item_at.get(item_id, UNKNOWN_ITEM)

    def _user(self, request: RankRequest) -> FeatureBatch:
        user = request.user
        at = self._user_at.get(user.id) if user.id is not None else None
        known = self._users.take(slice(at, at + 1)) if at is not None else None
        values: dict[str, FeatureValue] = {USER_ID: user.id, **user.features}
        return self._override("user", known, values, "$.user.features")

    def _context(self, request: RankRequest) -> FeatureBatch:
        values = {**request.context, ANCHOR_ITEM: request.anchor_item}
        return self._override("context", None, values, "$.context")

    def _overrides(self, request: RankRequest, items: Int32) -> dict[int, FeatureBatch]:
        overrides = {}
        for index, candidate in enumerate(request.candidates):
            if isinstance(candidate, str) or not candidate.features:
                continue
            at = int(items[index])
            known = self._unknown_item if at < 0 else self._items.take(slice(at, at + 1))
            path = f"$.candidates[{index}].features"
            overrides[index] = self._override("item", known, candidate.features, path)
        return overrides

    def _override(
        self,
        source: Source,
        known: FeatureBatch | None,
        values: Mapping[str, FeatureValue],
        path: str,
    ) -> FeatureBatch:
        """The known row with the given values laid over it; without one, the values alone."""
        encoder = self._encoders[source]
        try:
            if known is None:
                return encoder.encode_rows([values])
            return _lay_over(encoder, known, values)
        except FeatureMismatch as error:
            raise InvalidRequest(str(error), f"{path}.{error.feature}") from None

    def _item_rows(self, rows: RequestRows) -> FeatureBatch:
        items = self._items.take(np.maximum(rows.items, 0))  # a copy: unknown rows are replaced
        unknown = rows.items < 0
        if unknown.any():
            _assign(items, unknown, self._unknown_item)
        for index, row in rows.overrides.items():
            _assign(items, slice(index, index + 1), row)
        return items


class _Columns(Struct, frozen=True):
    """Where the columns of one source stand in the model's input row."""

    dense: list[int]
    ids: list[int]
    multi: list[str]

    @staticmethod
    def of(schema: FeatureSchema, source: Source) -> "_Columns":
        return _Columns(
            dense=[c for c, spec in enumerate(schema.dense) if spec.source == source],
            ids=[c for c, spec in enumerate(schema.ids) if spec.source == source],
            multi=[spec.name for spec in schema.multi if spec.source == source],
        )

    def write(self, out: FeatureBatch, part: FeatureBatch) -> None:
        out.dense[:, self.dense] = part.dense
        out.ids[:, self.ids] = part.ids
        for name in self.multi:
            out.multi[name][:] = part.multi[name]


def named_inputs(
    schema: FeatureSchema, batch: FeatureBatch, row: int
) -> dict[str, float | int | list[int]]:
    """One row by feature name, as the model sees it: for people who ask why."""
    inputs: dict[str, float | int | list[int]] = {}
    for column, spec in enumerate(schema.dense):
        inputs[spec.name] = float(batch.dense[row, column])
    for column, spec in enumerate(schema.ids):
        inputs[spec.name] = int(batch.ids[row, column])
    for spec in schema.multi:
        inputs[spec.name] = [int(i) for i in batch.multi[spec.name][row]]
    return inputs


def _lay_over(
    encoder: Encoder, known: FeatureBatch, values: Mapping[str, FeatureValue]
) -> FeatureBatch:
    schema = encoder.schema
    dense, ids = known.dense.copy(), known.ids.copy()
    multi = {name: rows.copy() for name, rows in known.multi.items()}
    for column, spec in enumerate(schema.dense):
        if spec.name in values:
            dense[0, column] = encoder.encode_value(spec, values[spec.name])
    for column, spec in enumerate(schema.ids):
        if spec.name in values and spec.name not in (USER_ID, ITEM_ID):
            ids[0, column] = encoder.encode_value(spec, values[spec.name])
    for spec in schema.multi:
        if spec.name in values:
            multi[spec.name][0] = encoder.encode_value(spec, values[spec.name])
    return FeatureBatch(dense=dense, ids=ids, multi=multi)


def _assign(rows: FeatureBatch, where: slice | npt.NDArray[np.bool_], row: FeatureBatch) -> None:
    rows.dense[where] = row.dense
    rows.ids[where] = row.ids
    for name, values in rows.multi.items():
        values[where] = row.multi[name]


def _index(ids: npt.NDArray[np.str_]) -> dict[str, int]:
    return {item: position for position, item in enumerate(ids.tolist())}
