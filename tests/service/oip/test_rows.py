"""Tensors become rows only where they are what the graph takes."""

import numpy as np
import pytest

from ranking_models.schema import FeatureSchema, FeatureSpec
from service.errors import InvalidInference
from service.oip.rows import rows_of

SCHEMA = FeatureSchema(
    features=(
        FeatureSpec(name="price", source="item", kind="numeric"),
        FeatureSpec(name="hour", source="context", kind="numeric"),
        FeatureSpec(name="device", source="context", kind="categorical", vocabulary=("a", "b")),
        FeatureSpec(name="tags", source="item", kind="multi", hash_buckets=9, max_length=3),
    )
)


def inputs(rows=4, **changes):
    given = {
        "dense": np.ones((rows, 2), np.float32),
        "ids": np.full((rows, 1), 2, np.int32),
        "multi_tags": np.full((rows, 3), 9, np.int32),
    }
    return {name: array for name, array in (given | changes).items() if array is not None}


def changed(array, at, value):
    array[at] = value
    return array


def refusal(given, most_rows=100):
    with pytest.raises(InvalidInference) as caught:
        rows_of(given, SCHEMA, most_rows)
    return str(caught.value)


def test_rows_are_the_tensors_themselves():
    given = inputs()

    rows = rows_of(given, SCHEMA, 4)

    assert rows.rows == 4
    assert {name: id(array) for name, array in rows.inputs().items()} == {
        name: id(array) for name, array in given.items()
    }


def test_an_input_without_columns_is_not_asked_for():
    only_ids = FeatureSchema(features=SCHEMA.features[2:3])

    rows = rows_of({"ids": np.ones((3, 1), np.int32)}, only_ids, 10)

    assert (rows.rows, rows.dense.shape, rows.multi) == (3, (3, 0), {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (inputs(ids=None), "input 'ids' is missing: it takes dense FP32[rows, 2]"),
        (inputs(more=np.ones((4, 1), np.int32)), "the model has no input 'more'"),
        (inputs(dense=np.ones((4, 2), np.int32)), "'dense' is not FP32"),
        (inputs(ids=np.ones((4, 1), np.float32)), "'ids' is not INT32"),
        (inputs(dense=np.ones((4, 3), np.float32)), "'dense' is [4, 3], not [4, 2]"),
        (inputs(dense=np.ones(8, np.float32)), "'dense' is [8], not [8, 2]"),
        (inputs(ids=np.ones((5, 1), np.int32)), "'ids' is [5, 1], not [4, 1]"),
        (inputs(rows=0), "0 rows: a request has 1 to 100"),
        (inputs(rows=101), "101 rows: a request has 1 to 100"),
        (
            inputs(dense=changed(np.ones((4, 2), np.float32), (2, 1), np.nan)),
            "input 'dense', row 2, column 1 (hour): nan",
        ),
        (
            inputs(dense=changed(np.ones((4, 2), np.float32), (0, 0), -np.inf)),
            "input 'dense', row 0, column 0 (price): -inf",
        ),
        (
            inputs(ids=changed(np.ones((4, 1), np.int32), (3, 0), 3)),
            "input 'ids', row 3: 3 is not an id of device, which has 0 to 2",
        ),
        (
            inputs(multi_tags=changed(np.ones((4, 3), np.int32), (1, 2), -1)),
            "input 'multi_tags', row 1: -1 is not an id of tags, which has 0 to 9",
        ),
    ],
)
def test_what_the_model_cannot_take_is_refused_with_its_place(given, words):
    assert words in refusal(given)
