"""Items that the model sees alike stand beside each other, where likes leave room."""

import numpy as np

from ranking_models.joining import Tables
from ranking_models.neighbours import fill_neighbours, item_vectors
from ranking_models.schema import FeatureBatch, Float32
from tests.ranking_models.test_segments import ITEMS, SCHEMA, score, users

TABLES = Tables(schema=SCHEMA, users=users("abc" * 10), items=ITEMS)


def empty(items: int, size: int) -> np.ndarray:
    return np.full((items, size), -1, np.int32)


def test_an_items_neighbours_are_of_its_kind_whatever_their_quality():
    found = empty(60, 19)
    fill_neighbours(found, item_vectors(score, TABLES))

    for anchor, row in enumerate(found):
        assert {int(other) % 3 for other in row} == {anchor % 3}
        assert len(set(row.tolist())) == 19
        assert anchor not in row


def test_what_is_there_stays_and_is_not_repeated():
    vectors = item_vectors(score, TABLES)
    found = empty(60, 6)
    found[0, :2] = [59, 3]  # 3 is of the same kind as 0

    fill_neighbours(found, vectors)

    assert found[0, :2].tolist() == [59, 3]
    assert len(set(found[0].tolist())) == 6
    assert all(other % 3 == 0 for other in found[0, 2:])


def test_only_what_is_alike_is_a_neighbour():
    found = empty(60, 59)
    fill_neighbours(found, item_vectors(score, TABLES))

    assert (found[:, 19:] == -1).all()


def test_a_model_that_tells_no_items_apart_has_no_neighbours():
    def flat(batch: FeatureBatch) -> Float32:
        return np.full(batch.rows, 0.3, np.float32)

    found = empty(60, 5)
    fill_neighbours(found, item_vectors(flat, TABLES))

    assert (found == -1).all()


def test_neighbours_are_the_nearest_by_the_dot_product():
    vectors = np.random.default_rng(1).normal(size=(80, 7)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = empty(80, 10)
    fill_neighbours(found, vectors)

    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    np.testing.assert_array_equal(found, np.argsort(-similar, axis=1, kind="stable")[:, :10])
