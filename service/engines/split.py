"""The exact split on ONNX Runtime: user half per request, item half per catalogue, then the rest.

A request scores one user against many items. What follows from the user alone
is computed once per request, what follows from an item alone once when the
model is loaded, and a batch pays only for what needs both. The same products
are added in another order: scores differ from the whole graph's by rounding
(`ranking_models.exact_split.SPLIT_TOLERANCE`), as they do between two batch
sizes. So it is no engine of its own, and no precision: replies name the same
engine, and the cache shares its entries with the whole graph.
"""

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.exact_split import ITEM_SIDE, USER_SIDE, join_products, side_columns
from ranking_models.schema import FeatureBatch, Float32, Int32
from service.engines import EngineInfo
from service.engines.calibration import (
    UNMEASURED_CALL_ROWS,
    Sample,
    Timer,
    best_batch_rows,
    best_call_rows,
    calls,
)
from service.engines.item_tables import shared_table
from service.engines.rows import CandidateRows, Rows, as_features
from service.engines.session import Graph
from service.errors import EngineFailed


class SplitOnnxRuntimeEngine:
    """Three graphs and one table that score as the fp32 graph does.

    Args:
        bundle: One that has a split.
        info: What the engine says it is.
        threads: Threads of one call; they sleep while there is nothing to do.

    Raises:
        EngineFailed: the runtime cannot load a graph, or would run it elsewhere.
    """

    def __init__(self, bundle: Bundle, *, info: EngineInfo, threads: int) -> None:
        self._info, self._schema = info, bundle.schema
        self._user = Graph(bundle.split_graph("user"), output="user", threads=threads)
        self._item = Graph(bundle.split_graph("item"), output="item", threads=threads)
        self._row = Graph(bundle.split_graph("row"), output="score", threads=threads)
        self._sums = self._row.width("sums")
        self._table = shared_table(bundle, self._items_of, self._sums)
        self._call_rows = UNMEASURED_CALL_ROWS
        self._gathered = tuple(part[:0].copy() for part in self._table.parts)

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        self._check(batch)
        users, items = (side_columns(self._schema, batch, s) for s in (USER_SIDE, ITEM_SIDE))
        each_its_own = np.arange(batch.rows, dtype=np.int32)
        given = self._cut(self._items_of(items))
        return self._row_scores(self._user(users.inputs()), each_its_own, given)

    def score_candidates(self, rows: CandidateRows) -> Float32:
        """Like `score`: the user half once per request, the item half from the table."""
        return self._score_candidates(rows, self._call_rows)

    def _score_candidates(self, rows: CandidateRows, call_rows: int) -> Float32:
        users = self._user(rows.tables.user_side(rows).inputs())
        given = self._given(rows)
        scores = []
        for call in calls(rows.rows, call_rows):
            # Gathered call by call, the rows stay in the core's cache until they are scored.
            items = self._room(call.stop - call.start)
            for part, gathered in zip(self._table.parts, items, strict=True):
                # Position -1, the unknown item, wraps round to the table's last row.
                part.take(rows.items[call], 0, gathered, "wrap")
            for row, described in given.items():
                if call.start <= row < call.stop:
                    for gathered, own in zip(items, self._cut(described[None]), strict=True):
                        gathered[row - call.start] = own
            scores.append(self._row_scores(users, rows.request_of_row[call], items))
        return scores[0] if len(scores) == 1 else np.concatenate(scores)

    def _given(self, rows: CandidateRows) -> dict[int, Float32]:
        """The item half of candidates that come with features of their own, by row."""
        if not rows.overrides:
            return {}
        described = FeatureBatch.concatenate(list(rows.overrides.values()))
        return dict(zip(rows.overrides, self._items_of(described), strict=True))

    def calibrate(self, sample: Sample, timer: Timer) -> None:
        """Measure the best sizes of a call and of a batch, which `info` says from now on."""

        def score(rows: Rows, call_rows: int) -> Float32:
            assert isinstance(rows, CandidateRows)
            return self._score_candidates(rows, call_rows)

        most = self._info.max_batch_rows
        self._call_rows = best_call_rows(score, sample, most=most, timer=timer)
        best = best_batch_rows(self, sample, timer=timer)
        self._info = msgspec.structs.replace(self._info, best_batch_rows=best)

    def prove(self, rows: CandidateRows, *, tolerance: float) -> None:
        """Compare the table with the item half itself: golden rows never come by the table.

        Raises:
            EngineFailed: a score differs by more than the tolerance.
        """
        off = np.abs(self.score_candidates(rows) - self.score(as_features(rows))).max()
        if not off <= tolerance:
            raise EngineFailed(f"scores by the table of the item half are off by {off:.1e}")

    def close(self) -> None:
        """The runtime frees its sessions with the last reference to this engine."""

    def _check(self, batch: FeatureBatch) -> None:
        """Refuse what the whole graph would refuse: here columns are picked by their place."""
        schema = self._schema
        given = (batch.dense.shape[1], batch.ids.shape[1], {*batch.multi})
        taken = (len(schema.dense), len(schema.ids), {spec.name for spec in schema.multi})
        if given != taken:
            raise EngineFailed(f"the model takes columns {taken}, the batch has {given}")

    def _items_of(self, items: FeatureBatch) -> Float32:
        return self._item(items.inputs())

    def _cut(self, items: Float32) -> tuple[Float32, ...]:
        """The item half's columns as the table has them."""
        if self._sums is None:
            return (items,)
        return np.ascontiguousarray(items[:, : self._sums]), items[:, self._sums :]

    def _row_scores(
        self, users: Float32, user_of_row: Int32, items: tuple[Float32, ...]
    ) -> Float32:
        if self._sums is None:
            return self._row({"user": users, "user_of_row": user_of_row, "item": items[0]})
        sums, factors = items
        user_sums, user_factors = users[:, : self._sums], users[:, self._sums :]
        product = join_products(sums, factors, user_sums, user_factors, user_of_row)
        return self._row({"sums": sums, "product": product})

    def _room(self, rows: int) -> tuple[Float32, ...]:
        """Rows to gather into. Nobody reads them after the call, so the next one has them again:
        they stay in the core's cache."""
        if len(self._gathered[0]) < rows:
            self._gathered = tuple(
                np.empty((rows, part.shape[1]), np.float32) for part in self._gathered
            )
        return tuple(part[:rows] for part in self._gathered)
