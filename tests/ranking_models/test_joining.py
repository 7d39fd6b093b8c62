"""Rows joined from encoded tables are those that the features would have been encoded to."""

import numpy as np
import pytest

from ranking_models.joining import NOBODY, SMALLEST_SCORE, Tables, log_odds
from ranking_models.schema import Encoder, FeatureBatch
from tests.support.bundles import run_graph, tiny_contents

CONTENTS = tiny_contents()
TABLES = Tables(schema=CONTENTS.schema, users=CONTENTS.arrays.users, items=CONTENTS.arrays.items)


def assert_equal(one: FeatureBatch, other: FeatureBatch) -> None:
    for name, values in one.inputs().items():
        np.testing.assert_array_equal(values, other.inputs()[name])
        assert values.dtype == other.inputs()[name].dtype
        assert values.flags.c_contiguous


def test_a_joined_row_is_the_row_that_its_features_encode_to():
    schema = CONTENTS.schema
    user = {"user_id": "u1", "age": 33, "country": "NO"}
    item = {"item_id": "i1", "price": 12.5, "category": "toys", "tags": ["used", "new"]}
    tables = Tables(
        schema=schema,
        users=Encoder(schema.of("user")).encode_rows([{}, user]),
        items=Encoder(schema.of("item")).encode_rows([{}, item]),
    )

    joined = tables.join(np.array([1, NOBODY, 1, NOBODY]), np.array([1, 1, NOBODY, NOBODY]))

    assert_equal(joined, Encoder(schema).encode_rows([user | item, item, user, {}]))


def test_log_odds_are_those_of_the_scores_for_every_pair():
    graph = CONTENTS.graphs["fp32"].onnx
    users, items = np.array([3, NOBODY, 0]), np.array([7, 2])

    odds = log_odds(lambda batch: run_graph(graph, batch), TABLES, users, items)

    for i, user in enumerate(users):
        for j, item in enumerate(items):
            row = TABLES.join(np.array([user]), np.array([item]))
            score = float(run_graph(graph, row)[0])
            assert odds[i, j] == pytest.approx(np.log(score / (1 - score)), abs=1e-5)


def test_a_certain_score_has_finite_log_odds():
    odds = log_odds(
        lambda batch: np.arange(batch.rows, dtype=np.float32),
        TABLES,
        np.array([0]),
        np.array([0, 1]),
    )

    assert odds[0].tolist() == pytest.approx([np.log(SMALLEST_SCORE), -np.log(SMALLEST_SCORE)])
