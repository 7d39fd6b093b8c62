"""Model input rows from the encoded tables of a bundle: users and items in the default context.

Needs no log and no network, so it serves imported graphs as well as trained ones.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.parity import Scorer
from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema, Source

Positions = npt.NDArray[np.integer]
Float64 = npt.NDArray[np.float64]

NOBODY = -1
"""The position of the missing user, and of the missing item."""

BLOCK_ROWS = 65_536
"""Rows of one join, so that memory does not grow with users times items."""

SMALLEST_SCORE = 1e-7
"""Scores nearer to 0 or 1 count as this near: about what float32 tells apart from 1."""


class Tables(Struct, frozen=True, kw_only=True):
    """The encoded users and items of one schema.

    Shapes:
        ``users`` has one row per user and the columns of ``schema.of("user")``,
        ``items`` likewise.
    """

    schema: FeatureSchema
    users: FeatureBatch
    items: FeatureBatch

    def join(self, users: Positions, items: Positions) -> FeatureBatch:
        """Input rows of these users beside these items, ``[rows]`` each.

        `NOBODY` takes the encoding of a missing user or item. The context is
        missing, so its features' defaults stand in.
        """
        rows = len(users)
        nothing = Encoder(self.schema).encode_rows([{}]).inputs()
        joined = {name: np.repeat(values, rows, axis=0) for name, values in nothing.items()}
        sources: tuple[tuple[Source, FeatureBatch, Positions], ...] = (
            ("user", self.users, users),
            ("item", self.items, items),
        )
        for source, table, positions in sources:
            known = np.flatnonzero(positions >= 0)
            self._place(joined, source, table.take(positions[known].astype(np.intp)), known)
        return FeatureBatch.of_inputs(joined)

    def _place(
        self,
        joined: dict[str, npt.NDArray[Any]],
        source: Source,
        table: FeatureBatch,
        rows: npt.NDArray[np.intp],
    ) -> None:
        arrays = table.inputs()
        for name, specs in (("dense", self.schema.dense), ("ids", self.schema.ids)):
            at = [column for column, spec in enumerate(specs) if spec.source == source]
            joined[name][np.ix_(rows, np.array(at, np.intp))] = arrays[name]
        for name in arrays.keys() - {"dense", "ids"}:
            joined[name][rows] = arrays[name]


def log_odds(scorer: Scorer, tables: Tables, users: Positions, items: Positions) -> Float64:
    """What the model says of every one of these users beside every one of these items.

    Returns:
        ``log(p / (1 - p))``, ``[users, items]``. Log odds and not scores: on
        them a user's or an item's general level is a sum and not a squeeze.
    """
    found = np.empty(len(users) * len(items))
    for first in range(0, len(found), BLOCK_ROWS):
        at = np.arange(first, min(first + BLOCK_ROWS, len(found)))
        user, item = np.divmod(at, len(items))
        found[at] = scorer(tables.join(users[user], items[item]))
    scores = np.clip(found, SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.asarray(np.log(scores) - np.log1p(-scores)).reshape(len(users), len(items))


def blocks(count: int, width: int) -> Iterator[npt.NDArray[np.intp]]:
    """``0..count-1`` in parts whose product with `width` is about `BLOCK_ROWS`."""
    size = max(1, BLOCK_ROWS // max(width, 1))
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))
