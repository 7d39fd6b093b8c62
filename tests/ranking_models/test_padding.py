"""A batch in arrays of a fixed number of rows."""

import numpy as np
import pytest

from ranking_models.padding import fill_padded
from ranking_models.schema import FeatureBatch


def batch(rows=2, *, width=3, dtype=np.float32):
    return FeatureBatch(dense=np.ones((rows, width), dtype), ids=np.full((rows, 1), 7, np.int32))


def rooms(rows=4):
    return {"dense": np.full((rows, 3), 9, np.float32), "ids": np.full((rows, 1), 9, np.int32)}


def test_rows_behind_the_batch_are_zeros_whatever_was_there():
    filled = rooms()

    fill_padded(filled, batch())

    assert filled["dense"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert filled["ids"].ravel().tolist() == [7, 7, 0, 0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (batch(width=2), r"input 'dense' is float32 \(2, 2\), not float32 \(rows, 3\)"),
        (batch(dtype=np.float64), r"input 'dense' is float64 \(2, 3\), not float32 \(rows, 3\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(given, said):
    untouched = rooms()

    with pytest.raises(ValueError, match=said):
        fill_padded(untouched, given)

    assert (untouched["ids"] == 9).all()


def test_an_input_that_the_batch_lacks_is_named():
    with pytest.raises(ValueError, match="the graph wants input 'multi_tags', the batch has none"):
        fill_padded({"multi_tags": np.zeros((4, 2), np.int32)}, batch())
