"""Rows that travel as candidates come out as rows that were gathered one by one."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema
from service.engines.rows import CandidateRows, CandidateTables, as_features, concatenated
from tests.support.batches import random_batch
from tests.support.bundles import tiny_schema, write_tiny_bundle

SCHEMA = tiny_schema(items=12, users=6)
MIXED = FeatureSchema(
    features=tuple(SCHEMA.features[at] for at in np.random.default_rng(5).permutation(9))
)
"""The columns of user, item and context stand between each other's."""

VALUES = {
    "user": [{"user_id": f"u{i}", "age": 20 + i, "country": "SE"} for i in range(6)],
    "item": [{"item_id": f"i{i}", "price": 3.0 * i, "tags": ["new"][: i % 2]} for i in range(12)],
    "context": [{"device": device, "hour": 7} for device in ("ios", "web", "?")],
}


def tables(schema):
    item = Encoder(schema.of("item"))
    return CandidateTables(schema, item.encode_rows(VALUES["item"]), item.encode_rows([{}]))


def request(shared, items, *, user=0, context=0, overrides=()):
    """One request, and the rows of all features that it stands for."""
    schema = shared.schema
    one = {
        source: Encoder(schema.of(source)).encode_rows([VALUES[source][at]])
        for source, at in (("user", user), ("context", context))
    }
    given = {at: {"item_id": "i1", "price": 50.0 + at} for at in overrides}
    rows = CandidateRows(
        tables=shared,
        users=one["user"],
        contexts=one["context"],
        request_of_row=np.zeros(len(items), np.int32),
        items=np.array(items, np.int32),
        overrides={at: Encoder(schema.of("item")).encode_rows([row]) for at, row in given.items()},
    )
    item_values = [
        given.get(at, VALUES["item"][item] if item >= 0 else {}) for at, item in enumerate(items)
    ]
    side = VALUES["user"][user] | VALUES["context"][context]
    return rows, Encoder(schema).encode_rows([side | values for values in item_values])


def assert_same(batch: FeatureBatch, expected: FeatureBatch) -> None:
    assert {*batch.inputs()} == {*expected.inputs()}
    for name, values in expected.inputs().items():
        given = batch.inputs()[name]
        np.testing.assert_array_equal(given, values)
        assert given.dtype == values.dtype
        assert given.flags.c_contiguous


requests = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 11), min_size=1, max_size=9),
        st.integers(0, 5),
        st.integers(0, 2),
        st.sets(st.integers(0, 8)),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("schema", [SCHEMA, MIXED], ids=["in order", "mixed"])
@given(asked=requests)
def test_a_batch_of_requests_gathers_to_the_rows_of_each(schema, asked):
    shared = tables(schema)
    parts = [
        request(shared, items, user=user, context=context, overrides=places & {*range(len(items))})
        for items, user, context, places in asked
    ]

    batch = concatenated([rows for rows, _ in parts])

    assert batch.rows == sum(expected.rows for _, expected in parts)
    assert_same(as_features(batch), FeatureBatch.concatenate([given for _, given in parts]))


@given(asked=requests, chosen=st.data())
def test_some_rows_of_a_batch_gather_to_those_rows(asked, chosen):
    shared = tables(MIXED)
    batch = concatenated(
        [
            request(shared, items, user=user, overrides=places & {*range(len(items))})[0]
            for items, user, _, places in asked
        ]
    )
    rows = chosen.draw(st.permutations(range(batch.rows)))[: batch.rows // 2 + 1]
    picked = np.array(rows, np.intp)

    assert_same(as_features(batch.take(picked)), as_features(batch).take(picked))
    part = slice(rows[0], rows[0] + 3)
    assert_same(as_features(batch.take(part)), as_features(batch).take(part))


def test_parts_of_a_batch_join_again():
    """As a request that is too large for a batch is split and its parts meet others'."""
    shared = tables(SCHEMA)
    first, _ = request(shared, [1, -1, 3, 4], user=1, overrides={3})
    second, _ = request(shared, [5, 6], user=2)
    batch = concatenated([first, second])

    joined = concatenated([batch.take(slice(2, 6)), first.take(slice(0, 2))])

    expected = as_features(batch)
    assert_same(
        as_features(joined),
        FeatureBatch.concatenate([expected.take(slice(2, 6)), expected.take(slice(0, 2))]),
    )


def test_a_batch_of_very_many_requests_is_put_together_too():
    shared = tables(SCHEMA)
    parts = [request(shared, [at % 12], user=at % 6) for at in range(1100)]

    batch = concatenated([rows for rows, _ in parts])

    assert_same(as_features(batch), FeatureBatch.concatenate([given for _, given in parts]))


def test_rows_of_different_widths_cannot_be_put_together():
    shared = tables(SCHEMA)
    whole, _ = request(shared, [1, 2])
    narrow = msgspec.structs.replace(
        whole, users=msgspec.structs.replace(whole.users, ids=whole.users.ids[:, :0])
    )
    with pytest.raises(ValueError, match="different widths"):
        concatenated([whole, narrow])


def test_the_user_side_is_one_row_per_request():
    shared = tables(MIXED)
    parts = [request(shared, [1, 2, 3], user=4, context=1), request(shared, [4], user=2)]
    batch = concatenated([rows for rows, _ in parts])

    side = Encoder(MIXED.of("user", "context")).encode_rows(
        [VALUES["user"][4] | VALUES["context"][1], VALUES["user"][2] | VALUES["context"][0]]
    )
    assert_same(shared.user_side(batch), side)


def test_rows_that_are_gathered_already_join_candidates_of_the_same_model():
    shared = tables(SCHEMA)
    first, expected = request(shared, [1, 2])
    second, others = request(shared, [3])

    joined = concatenated([first, as_features(second)])

    assert isinstance(joined, FeatureBatch)
    assert_same(joined, FeatureBatch.concatenate([expected, others]))


def test_candidates_of_two_catalogues_are_gathered_to_join():
    (first, expected), (second, others) = request(tables(SCHEMA), [1]), request(tables(SCHEMA), [3])

    joined = concatenated([first, second])

    assert isinstance(joined, FeatureBatch)
    assert_same(joined, FeatureBatch.concatenate([expected, others]))


def test_one_part_stays_as_it_is():
    batch = random_batch(3)

    assert concatenated([batch]) is batch
    assert as_features(batch) is batch


def test_the_tables_of_a_bundle_are_read_only_and_stay_as_they_are(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    shared = CandidateTables.of(bundle)
    rows = CandidateRows(
        tables=shared,
        users=bundle.users.take(slice(0, 1)),
        contexts=Encoder(bundle.schema.of("context")).encode_rows([{}]),
        request_of_row=np.zeros(3, np.int32),
        items=np.array([0, -1, 49], np.int32),
        overrides={0: shared.unknown_item},
    )
    before = msgspec.structs.replace(bundle.items, dense=bundle.items.dense.copy())

    gathered = as_features(rows)

    np.testing.assert_array_equal(gathered.dense[0], gathered.dense[1])
    np.testing.assert_array_equal(bundle.items.dense, before.dense)
