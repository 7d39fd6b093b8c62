"""The rows of a batch on their way to an engine, in the form that costs least to carry.

A request's candidates share one user and one context. Until an engine needs
model inputs, that is how they travel: gathered once for a whole batch, they
cost a fraction of what every request pays when it gathers its own, and an
engine that knows the exact split never needs them gathered at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import (
    EncodedRow,
    Encoder,
    FeatureBatch,
    FeatureSchema,
    Float32,
    Int32,
    Source,
)
from service.engines import Engine

_NUMBERS: Int32 = np.arange(1024, dtype=np.int32)
"""The requests of a batch, by number."""


class CandidateTables:
    """What turns candidates into model inputs. Shared by all rows of one bundle; never changes.

    Args:
        schema: All features of the ranker.
        items: The catalogue, encoded, with the columns of source ``item``.
        unknown_item: The one row that stands for every item the catalogue lacks.
    """

    def __init__(
        self, schema: FeatureSchema, items: FeatureBatch, unknown_item: FeatureBatch
    ) -> None:
        self.schema = schema
        self.items = items
        self.unknown_item = unknown_item
        self._whole = _Layout(schema)
        self._user_side = _Layout(schema.of("user", "context"))

    @staticmethod
    def of(bundle: Bundle) -> "CandidateTables":
        """Those of a bundle's catalogue."""
        unknown = Encoder(bundle.schema.of("item")).encode_rows([{}])
        return CandidateTables(bundle.schema, bundle.items, unknown)

    def gather(self, rows: "CandidateRows", out: FeatureBatch | None = None) -> FeatureBatch:
        """Model input rows, one per candidate, in order; written to ``out`` where that is given."""
        # Whole rows are copied once per candidate, a run of bytes each; only the item's columns
        # are then written over.
        requests = self._whole.of_requests(rows)
        out = _taken(requests, rows.request_of_row, out)
        self._whole.write("item", out, self.item_rows(rows))
        return out

    def user_side(self, rows: "CandidateRows") -> FeatureBatch:
        """The columns of users and contexts, one row per request: the split's user half."""
        return self._user_side.of_requests(rows)

    def item_rows(self, rows: "CandidateRows") -> FeatureBatch:
        """The item columns alone, with unknown items and overrides in place."""
        items = _taken(self.items, rows.items)  # a copy: unknown rows are replaced
        if rows.rows and rows.items.min() < 0:
            _assign(items, rows.items < 0, self.unknown_item)
        for index, row in rows.overrides.items():
            _assign(items, slice(index, index + 1), row)
        return items


class _Layout:
    """Where the columns of each source stand in rows of some schema."""

    def __init__(self, schema: FeatureSchema) -> None:
        sources: tuple[Source, ...] = ("user", "context", "item")
        self._dense = {s: _places(spec.source == s for spec in schema.dense) for s in sources}
        self._ids = {s: _places(spec.source == s for spec in schema.ids) for s in sources}
        self._multi = {s: [m.name for m in schema.multi if m.source == s] for s in sources}
        self._widths = len(schema.dense), len(schema.ids)
        self._lengths = {spec.name: spec.max_length for spec in schema.multi}

    def of_requests(self, rows: "CandidateRows") -> FeatureBatch:
        """One row per request; an item's columns, if there are any, hold nothing yet."""
        n, (dense, ids) = rows.users.rows, self._widths
        out = FeatureBatch(
            dense=np.empty((n, dense), np.float32),
            ids=np.empty((n, ids), np.int32),
            multi={name: np.empty((n, length), np.int32) for name, length in self._lengths.items()},
        )
        self.write("user", out, rows.users)
        self.write("context", out, rows.contexts)
        return out

    def write(self, source: Source, out: FeatureBatch, part: FeatureBatch) -> None:
        """Put the columns of one source where they belong."""
        out.dense[:, self._dense[source]] = part.dense
        out.ids[:, self._ids[source]] = part.ids
        for name in self._multi[source]:
            out.multi[name][:] = part.multi[name]


class CandidateRows(Struct, frozen=True, kw_only=True, eq=False):
    """Candidates of one or more requests, not gathered yet.

    Shapes:
        ``users`` and ``contexts`` one row per request with the columns of their
        source; ``request_of_row`` int32 ``[rows]``; ``items`` int32 ``[rows]``,
        catalogue positions, -1 for unknown; ``overrides`` encoded single item
        rows by row number, in place of the catalogue's.
    """

    tables: CandidateTables
    users: FeatureBatch
    contexts: FeatureBatch
    request_of_row: Int32
    items: Int32
    overrides: Mapping[int, FeatureBatch] = {}

    @property
    def rows(self) -> int:
        return len(self.items)

    def take(self, rows: slice | Int32 | npt.NDArray[np.intp]) -> "CandidateRows":
        """Some of the rows; requests that lose all of theirs stay, nobody reads them."""
        overrides = {}
        if self.overrides:
            kept = np.arange(self.rows)[rows].tolist()
            overrides = {
                new: self.overrides[old] for new, old in enumerate(kept) if old in self.overrides
            }
        return CandidateRows(
            tables=self.tables,
            users=self.users,
            contexts=self.contexts,
            request_of_row=self.request_of_row[rows],
            items=self.items[rows],
            overrides=overrides,
        )

    @staticmethod
    def concatenate(parts: Sequence["CandidateRows"]) -> "CandidateRows":
        """The rows of several requests of one bundle, one after the other."""
        if len(parts) == 1:
            return parts[0]
        items, users = [part.items for part in parts], [part.users for part in parts]
        rows, requests = [*map(len, items)], [len(user.dense) for user in users]
        count = sum(requests)
        overrides = {}
        if [part for part in parts if part.overrides]:
            overrides = {
                start + row: given
                for start, part in zip(_starts(rows).tolist(), parts, strict=True)
                for row, given in part.overrides.items()
            }
        return CandidateRows(
            tables=parts[0].tables,
            users=_joined_rows(users, count),
            contexts=_joined_rows([part.contexts for part in parts], count),
            request_of_row=_requests(parts, requests, rows),
            items=_joined(items, sum(rows)),
            overrides=overrides,
        )


class Lookup(Protocol):
    """Where the names of a request's rows are known: the tables of one bundle."""

    def found(self, parts: Sequence["NamedRows"]) -> CandidateRows:
        """The rows of several requests, one after the other, looked up together."""
        ...


class NamedRows(Struct, frozen=True, eq=False):
    """The candidates of one request as it names them, looked up together with its batch.

    Looking up a hundred ids, and making arrays, costs the same few calls for one
    request as for a batch of them. A request that brings feature values of its
    user or items is not among these.
    """

    lookup: Lookup
    item_ids: tuple[str, ...]
    user_at: int
    """The position of the user in the table, or -1."""
    user: FeatureBatch | None
    """The one row of a user whom the table lacks."""
    user_key: object
    """Requests of which this differs differ in the ids of their users."""
    context: EncodedRow

    @property
    def rows(self) -> int:
        return len(self.item_ids)

    def found(self) -> CandidateRows:
        return self.lookup.found((self,))

    def take(self, rows: slice | Int32 | npt.NDArray[np.intp]) -> CandidateRows:
        """Some of the rows."""
        return self.found().take(rows)


_CANDIDATES, _NAMED = frozenset((CandidateRows,)), frozenset((NamedRows,))
Rows = FeatureBatch | CandidateRows
"""What an engine is given: rows with their inputs, or candidates that are still to be gathered."""
JobRows = Rows | NamedRows
"""What a batcher carries."""


@runtime_checkable
class CandidateEngine(Engine, Protocol):
    """An engine that scores candidates as they are, such as the exact split."""

    def score_candidates(self, rows: CandidateRows) -> Float32:
        """Like `Engine.score`, without gathering the rows first."""
        ...


def as_features(rows: Rows) -> FeatureBatch:
    """Model input rows of any rows."""
    return rows.tables.gather(rows) if isinstance(rows, CandidateRows) else rows


def looked_up(rows: JobRows) -> Rows:
    """Rows whose names, if they have any, are looked up."""
    return rows.found() if isinstance(rows, NamedRows) else rows


def concatenated(jobs: Sequence[JobRows]) -> Rows:
    """The rows of several jobs of one batcher, one after the other."""
    if are_named(jobs) and len({id(job.lookup) for job in jobs}) == 1:
        return jobs[0].lookup.found(jobs)
    parts = [looked_up(job) for job in jobs]
    if len(parts) == 1:
        return parts[0]
    if _are_candidates(parts) and len({id(part.tables) for part in parts}) == 1:
        return CandidateRows.concatenate(parts)
    return FeatureBatch.concatenate([as_features(part) for part in parts])


def _are_candidates(parts: Sequence[Rows]) -> TypeGuard[Sequence[CandidateRows]]:
    return _CANDIDATES.issuperset(map(type, parts))


def are_named(jobs: Sequence[JobRows]) -> TypeGuard[Sequence[NamedRows]]:
    """Whether all of them are still to be looked up."""
    return _NAMED.issuperset(map(type, jobs))


def rows_of_requests(rows: Sequence[int]) -> Int32:
    """The request of each row, where each has so many, one after the other."""
    numbers = _NUMBERS if len(rows) <= len(_NUMBERS) else np.arange(len(rows), dtype=np.int32)
    return numbers[: len(rows)].repeat(rows)


def _requests(parts: Sequence[CandidateRows], requests: list[int], rows: list[int]) -> Int32:
    """The request of each row of several parts, one after the other."""
    if len(parts) == sum(requests):  # one each: what a batch is made of
        return rows_of_requests(rows)
    of_row = np.concatenate([part.request_of_row for part in parts])
    of_row += np.repeat(_starts(requests), rows)
    return of_row


def _joined_rows(parts: list[FeatureBatch], rows: int) -> FeatureBatch:
    """The users, or contexts, of requests of one bundle."""
    multi = parts[0].multi
    return FeatureBatch(
        dense=_joined([part.dense for part in parts], rows),
        ids=_joined([part.ids for part in parts], rows),
        multi={n: _joined([part.multi[n] for part in parts], rows) for n in multi} if multi else {},
    )


def _joined(parts: list[Any], rows: int) -> npt.NDArray[Any]:
    """`np.concatenate` of C-contiguous arrays of one type and width, as bytes: for the few numbers
    of each request that takes a fraction of the time."""
    first, together = parts[0], bytearray().join(parts)
    if len(together) * len(first) != first.nbytes * rows:
        raise ValueError("rows of different widths cannot be put together")
    return np.ndarray((rows, *first.shape[1:]), first.dtype, together)


def _starts(counts: list[int]) -> Int32:
    """Where each of several parts begins, one after the other."""
    return np.cumsum([0, *counts[:-1]], dtype=np.int32)


def _places(theirs: Iterable[bool]) -> slice | list[int]:
    """The columns that are theirs; side by side, as mostly, they are a view."""
    columns = [column for column, own in enumerate(theirs) if own]
    first = columns[0] if columns else 0
    together = slice(first, first + len(columns))
    return together if columns == list(range(together.start, together.stop)) else columns


def _taken(rows: FeatureBatch, positions: Int32, out: FeatureBatch | None = None) -> FeatureBatch:
    """Copies of rows. Of positions outside, which nobody asks first, some row of the table."""
    to = {} if out is None else out.multi
    return FeatureBatch(
        dense=rows.dense.take(positions, 0, None if out is None else out.dense, "clip"),
        ids=rows.ids.take(positions, 0, None if out is None else out.ids, "clip"),
        multi={k: v.take(positions, 0, to.get(k), "clip") for k, v in rows.multi.items()},
    )


def _assign(rows: FeatureBatch, where: slice | npt.NDArray[np.bool_], row: FeatureBatch) -> None:
    rows.dense[where] = row.dense
    rows.ids[where] = row.ids
    for name, values in rows.multi.items():
        values[where] = row.multi[name]
