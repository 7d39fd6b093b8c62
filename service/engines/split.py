"""The exact split on ONNX Runtime: user half per request, item half per catalogue, then the rest.

A request scores one user against many items. What follows from the user alone
is computed once per request, what follows from an item alone once when the
model is loaded, and a batch pays only for what needs both. The same products
are added in another order: scores differ from the whole graph's by rounding
(`ranking_models.exact_split.SPLIT_TOLERANCE`), as they do between two batch
sizes. So it is no engine of its own, and no precision: replies name the same
engine, and the cache shares its entries with the whole graph.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.bundle import Bundle
from ranking_models.exact_split import ITEM_SIDE, USER_SIDE, side_columns
from ranking_models.schema import FeatureBatch, Float32, Int32
from service.engines import EngineInfo
from service.engines.calibration import Sample, Timer, best_batch_rows
from service.engines.item_tables import shared_table
from service.engines.rows import CandidateRows, as_features
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
        self._table = shared_table(bundle, self._items_of)
        self._gathered: Float32 = np.empty((0, self._table.values.shape[1]), np.float32)

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        self._check(batch)
        users, items = (side_columns(self._schema, batch, s) for s in (USER_SIDE, ITEM_SIDE))
        each_its_own = np.arange(batch.rows, dtype=np.int32)
        return self._joined(users, each_its_own, self._items_of(items))

    def score_candidates(self, rows: CandidateRows) -> Float32:
        """Like `score`: the user half once per request, the item half from the table."""
        # Position -1, the unknown item, wraps round to the table's last row.
        items = self._room(rows.rows)
        self._table.values.take(rows.items, 0, items, "wrap")
        if rows.overrides:
            given = FeatureBatch.concatenate(list(rows.overrides.values()))
            items[list(rows.overrides)] = self._items_of(given)
        return self._joined(rows.tables.user_side(rows), rows.request_of_row, items)

    def calibrate(self, sample: Sample, timer: Timer) -> None:
        """Measure the best batch size; `info` says it from now on."""
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

    def _joined(self, users: FeatureBatch, user_of_row: Int32, items: Float32) -> Float32:
        parts: Mapping[str, npt.NDArray[Any]] = {
            "user": self._user(users.inputs()),
            "user_of_row": user_of_row,
            "item": items,
        }
        return self._row(parts)

    def _room(self, rows: int) -> Float32:
        """Rows to gather into. Nobody reads them after the call, so the next one has them again:
        they stay in the core's cache."""
        if len(self._gathered) < rows:
            self._gathered = np.empty((rows, self._gathered.shape[1]), np.float32)
        return self._gathered[:rows]
