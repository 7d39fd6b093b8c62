"""From ids to model input rows: the user once, the items from the catalogue.

Values in the request override what the bundle knows. The columns of the graph
are in schema order, those of a table in the order of its source, so every
source writes its own columns of the row.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Protocol

import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import (
    ITEM_ID,
    USER_ID,
    EncodedRow,
    Encoder,
    FeatureBatch,
    FeatureMismatch,
    FeatureSchema,
    FeatureValue,
    Int32,
    Source,
)
from service.engines.rows import CandidateRows, CandidateTables, NamedRows, rows_of_requests
from service.errors import InvalidRequest
from service.feature_names import ANCHOR_ITEM
from service.id_index import NOWHERE, IdIndex
from service.messages import RankRequest


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
    digests: str = ""
    """The request's part of its cache key, if somebody remembers it: see `slate_key`."""


class FeatureSource(Protocol):
    """Where model inputs come from. Neither blocks nor does I/O."""

    def encode(self, request: RankRequest) -> RequestRows:
        """Look up and encode; cheap, so it comes before the cache.

        Raises:
            InvalidRequest: a feature value of the wrong kind, with its path.
        """
        ...

    def rows(self, rows: RequestRows) -> CandidateRows:
        """One row per candidate, in order, to be gathered by whoever needs model inputs."""
        ...

    def named(self, request: RankRequest) -> NamedRows | None:
        """The rows of a request, to be looked up by whoever needs them, best with others'.

        None if it brings feature values of its user or items: those are for `encode`.

        Raises:
            InvalidRequest: a context value of the wrong kind, with its path.
        """
        ...

    def position(self, item_id: str) -> int:
        """Where the catalogue holds the item, or -1."""
        ...

    def user_position(self, user_id: str) -> int:
        """Where the table holds the user, or -1."""
        ...


class BundleFeatures:
    """Features from the tables of one bundle, held in memory. Never changes."""

    def __init__(self, bundle: Bundle) -> None:
        self._encoders: dict[Source, Encoder] = {
            source: Encoder(bundle.schema.of(source)) for source in ("user", "item", "context")
        }
        self._users, self._user_at = bundle.users, IdIndex(bundle.user_ids)
        self._items, self._item_at = bundle.items, IdIndex(bundle.item_ids)
        self._tables = CandidateTables.of(bundle)
        self._nobody = self._encoders["user"].encode_row({USER_ID: None})
        self._position_tells = _tell_apart(self._encoders["user"].schema, bundle.users)

    def encode(self, request: RankRequest) -> RequestRows:
        item_ids = request.candidate_ids()
        items = self._item_at.positions(item_ids)
        described = item_ids is not request.candidates
        return RequestRows(
            item_ids=item_ids,
            user=self._user(request),
            context=self._context(request),
            items=items,
            overrides=self._overrides(request, items) if described else {},
        )

    def rows(self, rows: RequestRows) -> CandidateRows:
        return CandidateRows(
            tables=self._tables,
            users=rows.user,
            contexts=rows.context,
            request_of_row=np.zeros(len(rows.items), np.int32),
            items=rows.items,
            overrides=rows.overrides,
        )

    def named(self, request: RankRequest) -> NamedRows | None:
        item_ids, user = request.candidate_ids(), request.user
        if user.features or item_ids is not request.candidates:
            return None
        at = NOWHERE if user.id is None else self._user_at.position(user.id)
        context = self._encoded_context(request)
        if at == NOWHERE:
            unknown = self._user(request)
            return NamedRows(self, item_ids, at, unknown, unknown.ids.tobytes(), context)
        key = at if self._position_tells else self._users.ids[at].tobytes()
        return NamedRows(self, item_ids, at, None, key, context)

    def found(self, parts: Sequence[NamedRows]) -> CandidateRows:
        """The rows of several requests, looked up and encoded together."""
        ids = [part.item_ids for part in parts]
        return CandidateRows(
            tables=self._tables,
            users=self._users_of(parts),
            contexts=self._encoders["context"].together([part.context for part in parts]),
            request_of_row=rows_of_requests([*map(len, ids)]),
            items=self._item_at.positions([*chain.from_iterable(ids)]),
        )

    def _users_of(self, parts: Sequence[NamedRows]) -> FeatureBatch:
        at = [part.user_at for part in parts]
        if min(at) == NOWHERE:
            return FeatureBatch.concatenate(
                [
                    part.user or self._users.take(slice(p, p + 1))
                    for p, part in zip(at, parts, strict=True)
                ]
            )
        users, where = self._users, np.array(at)
        return FeatureBatch(
            dense=users.dense.take(where, 0),
            ids=users.ids.take(where, 0),
            multi={name: rows.take(where, 0) for name, rows in users.multi.items()},
        )

    def _known(self, part: NamedRows) -> FeatureBatch:
        return self._users.take(slice(part.user_at, part.user_at + 1))

    def position(self, item_id: str) -> int:
        return self._item_at.position(item_id)

    def user_position(self, user_id: str) -> int:
        return self._user_at.position(user_id)

    def _user(self, request: RankRequest) -> FeatureBatch:
        user = request.user
        at = NOWHERE if user.id is None else self._user_at.position(user.id)
        known = None if at == NOWHERE else self._users.take(slice(at, at + 1))
        if known is not None and not user.features:
            return known
        if user.id is None and not user.features:
            return self._nobody
        values: dict[str, FeatureValue] = {USER_ID: user.id, **user.features}
        return self._override("user", known, values, "$.user.features")

    def _context(self, request: RankRequest) -> FeatureBatch:
        return self._encoders["context"].together([self._encoded_context(request)])

    def _encoded_context(self, request: RankRequest) -> EncodedRow:
        values: dict[str, FeatureValue] = request.context
        if request.anchor_item is not None:
            values = {**values, ANCHOR_ITEM: request.anchor_item}
        try:
            return self._encoders["context"].values(values)
        except FeatureMismatch as error:
            raise InvalidRequest(str(error), f"$.context.{error.feature}") from None

    def _overrides(self, request: RankRequest, items: Int32) -> dict[int, FeatureBatch]:
        overrides = {}
        for index, candidate in request.described():
            at = int(items[index])
            known = self._tables.unknown_item if at < 0 else self._items.take(slice(at, at + 1))
            path = f"$.candidates[{index}].features"
            row = self._override("item", known, candidate.features, path)
            if not _is_same_row(row, known):  # else it is the catalogue's, to the cache as well
                overrides[index] = row
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
                return encoder.encode_row(values)
            return _lay_over(encoder, known, values)
        except FeatureMismatch as error:
            raise InvalidRequest(str(error), f"{path}.{error.feature}") from None


def _is_same_row(one: FeatureBatch, other: FeatureBatch) -> bool:
    """To the bit: -0.0 and 0.0 are not the same to every graph."""
    of_other = other.inputs()
    return all(a.tobytes() == of_other[name].tobytes() for name, a in one.inputs().items())


def _tell_apart(schema: FeatureSchema, users: FeatureBatch) -> bool:
    """Whether every user of the table has an id of its own, so that positions tell as much."""
    for column, spec in enumerate(schema.ids):
        if spec.name == USER_ID:
            return len(np.unique(users.ids[:, column])) == len(users.ids)
    return False


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
