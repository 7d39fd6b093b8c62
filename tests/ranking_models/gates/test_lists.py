"""Every item for every drawn user: the right columns, in blocks that fit in memory."""

import numpy as np
import pytest

from ranking_models.gates import catalogue_lists
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec
from tests.support.gated import SCHEMA, catalogue, random_rows

HELD_OUT = random_rows(500, 1)
USERS = HELD_OUT.ids[:, 0]


def test_a_list_is_one_user_beside_every_item():
    items = catalogue(120)
    lists = catalogue_lists(SCHEMA, items, HELD_OUT, USERS)

    (block,) = lists.blocks(3)

    seen = lists.users.take(slice(3, 4))
    for name, all_specs in (("dense", SCHEMA.dense), ("ids", SCHEMA.ids)):
        of_item = 0
        for column, spec in enumerate(all_specs):
            values = getattr(block, name)[:, column]
            if spec.source == "item":
                np.testing.assert_array_equal(values, getattr(items, name)[:, of_item])
                of_item += 1
            else:
                assert (values == getattr(seen, name)[0, column]).all(), spec.name
    np.testing.assert_array_equal(block.multi["tags"], items.multi["tags"])
    assert all(array.flags.c_contiguous for array in block.inputs().values())


def test_a_multi_valued_feature_of_the_user_stays_the_user_s():
    schema = FeatureSchema(
        features=(
            FeatureSpec(name="liked", source="user", kind="multi", vocabulary=("a", "b")),
            FeatureSpec(name="price", source="item", kind="numeric"),
        )
    )
    held_out = FeatureBatch(
        dense=np.zeros((2, 1), np.float32),
        ids=np.zeros((2, 0), np.int32),
        multi={"liked": np.array([[1], [2]], np.int32)},
    )
    items = FeatureBatch(
        dense=np.array([[5], [6], [7]], np.float32), ids=np.zeros((3, 0), np.int32)
    )
    lists = catalogue_lists(schema, items, held_out, np.array([0, 1]))

    (block,) = lists.blocks(1)

    np.testing.assert_array_equal(block.multi["liked"], [[2], [2], [2]])
    np.testing.assert_array_equal(block.dense, items.dense)


def test_a_long_catalogue_comes_in_blocks_and_in_order():
    items = catalogue(10_000)
    lists = catalogue_lists(SCHEMA, items, HELD_OUT, USERS)

    blocks = list(lists.blocks(0))

    assert [block.rows for block in blocks] == [4096, 4096, 1808]
    whole = FeatureBatch.concatenate(blocks)
    np.testing.assert_array_equal(whole.multi["tags"], items.multi["tags"])


def test_every_list_is_another_user_s_and_the_draw_repeats():
    lists, again = (catalogue_lists(SCHEMA, catalogue(), HELD_OUT, USERS) for _ in range(2))

    users = lists.users.ids[:, 0]
    assert lists.count == len(set(users)) == len(set(USERS))
    np.testing.assert_array_equal(users, again.users.ids[:, 0])
    other = catalogue_lists(SCHEMA, catalogue(), HELD_OUT, USERS, seed=1)
    assert (lists.users.dense != other.users.dense).any()


@pytest.mark.parametrize(
    ("items", "lists"),
    [(50, 200), (100_000, 200), (200_000, 100), (1_000_000, 20), (5_000_000, 20)],
)
def test_larger_catalogues_are_ordered_for_fewer_users(items, lists):
    schema = FeatureSchema(features=(FeatureSpec(name="x", source="user", kind="numeric"),))
    rows = FeatureBatch(dense=np.zeros((300, 1), np.float32), ids=np.zeros((300, 0), np.int32))
    large = FeatureBatch(dense=np.zeros((items, 0), np.float32), ids=np.zeros((items, 0), np.int32))

    assert catalogue_lists(schema, large, rows, np.arange(300)).count == lists
