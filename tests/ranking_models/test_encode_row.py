"""One row is encoded as it would be among others."""

import numpy as np
import pytest

from ranking_models.schema import Encoder, FeatureMismatch, FeatureSchema, FeatureSpec

SCHEMA = FeatureSchema(
    features=(
        FeatureSpec(name="price", source="item", kind="numeric", mean=2.0, scale=3.0, log=True),
        FeatureSpec(name="age", source="user", kind="numeric", default=30, clip=1.5),
        FeatureSpec(name="device", source="context", kind="categorical", vocabulary=("ios", "3")),
        FeatureSpec(name="city", source="user", kind="categorical", hash_buckets=100),
        FeatureSpec(name="tags", source="item", kind="multi", vocabulary=("a", "b"), max_length=3),
    )
)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"price": 7, "age": 1e9, "device": "ios", "city": "K\u00f6ln", "tags": ["b", "c", "a"]},
        {"price": -2.5, "age": None, "device": 3.0, "city": True, "tags": "a"},
        {"price": None, "device": None, "city": None, "tags": None, "moon": 1},
    ],
)
def test_one_row_is_encoded_as_among_others(row):
    encoder = Encoder(SCHEMA)

    alone = encoder.encode_row(row).inputs()
    among = encoder.encode_rows([{"price": 1.0}, row]).take(slice(1, 2)).inputs()

    for name, values in among.items():
        np.testing.assert_array_equal(alone[name], values)
        assert (alone[name].shape, alone[name].dtype) == (values.shape, values.dtype)


def test_a_schema_without_features_has_rows_without_columns():
    row = Encoder(SCHEMA.of()).encode_row({"price": 1.0})

    assert (row.dense.shape, row.ids.shape, row.multi) == ((1, 0), (1, 0), {})


@pytest.mark.parametrize(
    ("name", "value"), [("price", True), ("age", 10**400), ("age", float("inf")), ("device", ["x"])]
)
def test_a_value_of_another_kind_is_refused(name, value):
    with pytest.raises(FeatureMismatch) as refused:
        Encoder(SCHEMA).encode_row({name: value})

    assert refused.value.feature == name
