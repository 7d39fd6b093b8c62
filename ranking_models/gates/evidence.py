"""What a candidate and its reference are compared on."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.gates.lists import CatalogueLists, catalogue_lists
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32

if TYPE_CHECKING:  # it brings torch, which nothing else here needs
    from ranking_models.run import TrainedRun

Units = npt.NDArray[np.integer]


class Evidence(Struct, frozen=True, kw_only=True):
    """Rows that no training or calibration has seen, and whole catalogues to order."""

    held_out: FeatureBatch
    labels: Float32
    """1 for a click, else 0, ``[held_out.rows]``; both are there."""
    units: Units
    """Who saw each row, ``[held_out.rows]``: equal numbers are one user."""
    lists: CatalogueLists
    words: str
    """What all this is, for the manifest."""


def evidence_of_run(run: "TrainedRun") -> Evidence:
    """The held-out rows and the catalogue of a trained run.

    Raises:
        InputError: as `evidence_of`.
    """
    return evidence_of(
        run.schema,
        run.items.features,
        run.held_out,
        run.held_out_labels,
        run.held_out_units,
        source=run.quality.split,
    )


def evidence_of(
    schema: FeatureSchema,
    items: FeatureBatch,
    held_out: FeatureBatch,
    labels: Float32,
    units: Units,
    *,
    source: str,
) -> Evidence:
    """Evidence from plain arrays, for a bundle that has no run beside it.

    Args:
        schema: Of the model.
        items: The catalogue: one row per item, with the item's columns.
        held_out: Rows with all columns, which the model was not trained on.
        labels: 1 for a click, else 0, ``[held_out.rows]``.
        units: Who saw each row, ``[held_out.rows]``.
        source: Where the rows come from, such as "last tenth of each user's
            rows by time".

    Raises:
        InputError: there are no items, the arrays have different lengths, or
            the labels are all the same.
    """
    if not items.rows:
        raise InputError("the gate needs a catalogue to order, and it holds no items")
    if not len(labels) == len(units) == held_out.rows:
        raise InputError(
            f"the gate needs a label and a user for every held-out row: {held_out.rows} rows, "
            f"{len(labels)} labels, {len(units)} users"
        )
    clicks = int(np.count_nonzero(labels > 0))
    if clicks in (0, len(labels)):
        raise InputError(
            f"the gate needs clicks and non-clicks among its held-out rows: "
            f"{clicks} of {len(labels)} are clicks"
        )
    lists = catalogue_lists(schema, items, held_out, units)
    words = (
        f"{held_out.rows:,} held-out rows of {len(np.unique(units)):,} users ({source}); "
        f"all {items.rows:,} items ordered for {lists.count} users"
    )
    return Evidence(held_out=held_out, labels=labels, units=units, lists=lists, words=words)
