"""Golden rows reach what real rows seldom do."""

import numpy as np
import pytest

from ranking_models.golden import GOLDEN_ROWS, golden_rows
from ranking_models.schema import Encoder, FeatureBatch
from tests.support.bundles import tiny_schema

SCHEMA = tiny_schema(items=50, users=20)


def held_out(rows: int) -> FeatureBatch:
    """Real rows: known users and items, ordinary numbers."""
    return Encoder(SCHEMA).encode_rows(
        [
            {
                "user_id": f"u{r % 20}",
                "item_id": f"i{r % 49}",
                "price": 10.0 + r,
                "category": "books",
                "tags": ["new"],
                "age": 30,
                "country": "SE",
                "device": "ios",
                "hour": r % 24,
            }
            for r in range(rows)
        ]
    )


@pytest.mark.parametrize("rows", [1, 3, 256, 1000])
def test_there_are_always_256_and_the_held_out_rows_stay_as_they_are(rows):
    real = held_out(rows)
    before = real.take(slice(None))

    golden = golden_rows(SCHEMA, real)

    assert golden.rows == GOLDEN_ROWS
    np.testing.assert_array_equal(real.ids, before.ids)
    real_rows = {tuple(row) for row in np.hstack([real.dense, real.ids]).tolist()}
    golden_reals = np.hstack([golden.dense, golden.ids])[:196].tolist()
    assert all(tuple(row) in real_rows for row in golden_reals)


def test_missing_and_unknown_values_are_among_them():
    golden = golden_rows(SCHEMA, held_out(500))
    user, item, _category, country, device = golden.ids.T

    assert ((user == 0) & (country == 0) & (item > 0)).sum() >= 10, "missing users"
    assert ((item == 0) & (user > 0) & (golden.multi["tags"] == 0).all(axis=1)).sum() >= 10
    web = SCHEMA.ids[-1].vocabulary.index("web") + 1
    assert ((device == web) & (user > 0)).sum() >= 10, "a missing device stands for its default"
    assert ((device == 0) & (user == 0)).sum() >= 10, "everything unknown"
    nothing = Encoder(SCHEMA).encode_rows([{}])
    empty = (golden.ids == nothing.ids).all(axis=1) & (golden.dense == nothing.dense).all(axis=1)
    assert empty.sum() >= 10, "everything missing"


def test_the_limits_of_every_input_are_among_them():
    golden = golden_rows(SCHEMA, held_out(500))

    for column, spec in enumerate(SCHEMA.dense):
        assert golden.dense[:, column].max() == spec.clip
        assert golden.dense[:, column].min() == -spec.clip
    for column, spec in enumerate(SCHEMA.ids):
        assert golden.ids[:, column].max() == len(spec.vocabulary)
    assert golden.multi["tags"].max() == 4


def test_without_held_out_rows_there_are_none():
    with pytest.raises(ValueError, match="at least one held-out row"):
        golden_rows(SCHEMA, held_out(0))
