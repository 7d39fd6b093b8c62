"""Whole catalogues to order: one user's columns beside every item's.

Held-out rows are what users were shown. A ranker orders much more than that,
and its mistakes at the top of an order show only on everything there is.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch, FeatureSchema

MAX_LISTS = 200
"""Users whose catalogue is ordered."""

FEWEST_LISTS = 20
"""However large the catalogue is; fewer only where there are fewer users."""

MAX_LIST_ROWS = 20_000_000
"""Rows over all lists: a gate on a large catalogue stays a matter of minutes."""

BLOCK_ROWS = 4096
"""Rows of one call, so that a catalogue of a million items needs no more memory than this."""

Columns = npt.NDArray[np.intp]


class CatalogueLists(Struct, frozen=True, kw_only=True):
    """Every item of the catalogue for some users, made block by block.

    Shapes:
        ``users`` has one row per list with all columns of ``schema``;
        ``items`` one row per item with the columns of ``schema.of("item")``.
    """

    schema: FeatureSchema
    items: FeatureBatch
    users: FeatureBatch

    @property
    def count(self) -> int:
        """How many lists there are."""
        return self.users.rows

    @property
    def list_items(self) -> int:
        """Items per list."""
        return self.items.rows

    def blocks(self, at: int) -> Iterator[FeatureBatch]:
        """The rows of one list in the order of the items, `BLOCK_ROWS` at a time."""
        columns = _item_columns(self.schema)
        of_item = {f"multi_{s.name}" for s in self.schema.multi if s.source == "item"}
        items = self.items.inputs()
        for first in range(0, self.list_items, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, self.list_items - first)
            block: dict[str, npt.NDArray[Any]] = {}
            for name, values in self.users.inputs().items():
                if name in of_item:
                    block[name] = np.ascontiguousarray(items[name][first : first + rows])
                    continue
                block[name] = np.repeat(values[at : at + 1], rows, axis=0)
                if name in columns:
                    block[name][:, columns[name]] = items[name][first : first + rows]
            yield FeatureBatch.of_inputs(block)


def catalogue_lists(
    schema: FeatureSchema,
    items: FeatureBatch,
    held_out: FeatureBatch,
    units: npt.NDArray[np.integer],
    *,
    seed: int = 0,
) -> CatalogueLists:
    """Lists for up to 200 users drawn from the held-out rows.

    Each list takes the user's and the context's columns from one held-out row
    of that user, drawn as well. There are fewer lists where 200 would be more
    than 20 million rows, down to 20, or one per user where that is less.

    Args:
        schema: Of the model.
        items: One row per item, with the item's columns.
        held_out: Rows with all columns.
        units: Who saw each of them, ``[held_out.rows]``.
        seed: Of the draw.
    """
    wanted = min(MAX_LISTS, max(FEWEST_LISTS, MAX_LIST_ROWS // max(items.rows, 1)))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(held_out.rows)
    _, first = np.unique(units[shuffled], return_index=True)  # a random row of every user
    chosen = rng.choice(first, size=min(wanted, len(first)), replace=False)
    rows = np.sort(shuffled[chosen])
    return CatalogueLists(schema=schema, items=items, users=held_out.take(rows))


def _item_columns(schema: FeatureSchema) -> dict[str, Columns]:
    """Where the item's features stand among the columns of ``dense`` and ``ids``."""
    return {
        name: np.array([c for c, spec in enumerate(specs) if spec.source == "item"], np.intp)
        for name, specs in (("dense", schema.dense), ("ids", schema.ids))
    }
