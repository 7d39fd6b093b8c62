"""Golden rows: the inputs on which every engine proves itself. numpy only."""

import numpy as np

from ranking_models.schema import UNKNOWN, Encoder, FeatureBatch, FeatureSchema, Source

GOLDEN_ROWS = 256
_EDGE_ROWS = 10
"""Rows of each edge case; there are six."""


def golden_rows(schema: FeatureSchema, held_out: FeatureBatch) -> FeatureBatch:
    """`GOLDEN_ROWS` rows: real ones, and the edges that real rows seldom reach.

    First rows spread evenly over the held-out ones. Then, ten times each, on
    top of such a row: a missing user, item, context; everything missing; every
    value unknown; and every input at its limit (numbers at plus or minus
    ``clip``, ids at the end of their vocabulary), where a table that is one
    too short or a number format that is too narrow shows.

    Raises:
        ValueError: there are no held-out rows.
    """
    if held_out.rows == 0:
        raise ValueError("golden rows need at least one held-out row")
    spread = np.linspace(0, held_out.rows - 1, GOLDEN_ROWS).astype(np.intp)
    golden = FeatureBatch(
        dense=held_out.dense[spread],
        ids=held_out.ids[spread],
        multi={name: values[spread] for name, values in held_out.multi.items()},
    )
    missing = Encoder(schema).encode_rows([{}])
    sources: list[tuple[Source, ...]] = [
        ("user",),
        ("item",),
        ("context",),
        ("user", "item", "context"),
    ]
    first = GOLDEN_ROWS - _EDGE_ROWS * (len(sources) + 2)
    for of in sources:
        _set_missing(golden, schema, missing, of, slice(first, first + _EDGE_ROWS))
        first += _EDGE_ROWS
    _set_unknown(golden, slice(first, first + _EDGE_ROWS))
    _set_limits(golden, schema, slice(first + _EDGE_ROWS, GOLDEN_ROWS))
    return golden


def _set_missing(
    golden: FeatureBatch,
    schema: FeatureSchema,
    missing: FeatureBatch,
    of: tuple[Source, ...],
    rows: slice,
) -> None:
    for column, spec in enumerate(schema.dense):
        if spec.source in of:
            golden.dense[rows, column] = missing.dense[0, column]
    for column, spec in enumerate(schema.ids):
        if spec.source in of:
            golden.ids[rows, column] = missing.ids[0, column]
    for spec in schema.multi:
        if spec.source in of:
            golden.multi[spec.name][rows] = missing.multi[spec.name][0]


def _set_unknown(golden: FeatureBatch, rows: slice) -> None:
    # Not the same as missing: a default can stand in for a missing value.
    golden.ids[rows] = UNKNOWN
    for values in golden.multi.values():
        values[rows] = UNKNOWN


def _set_limits(golden: FeatureBatch, schema: FeatureSchema, rows: slice) -> None:
    signs = np.where(np.arange(rows.start, rows.stop) % 2, -1.0, 1.0)
    for column, spec in enumerate(schema.dense):
        golden.dense[rows, column] = signs * spec.clip
    for column, spec in enumerate(schema.ids):
        golden.ids[rows, column] = spec.last_id
    for spec in schema.multi:
        golden.multi[spec.name][rows] = spec.last_id
