"""The slate: a stable order, best first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.slate import PopularityOrder, best, best_of_each, ranked_items


def test_ties_keep_the_order_of_the_candidates():
    items = best(("a", "b", "c", "d"), np.array([0.2, 0.5, 0.2, 0.5], np.float32), 4)

    assert [item.id for item in items] == ["b", "d", "a", "c"]
    assert [item.rank for item in items] == [1, 2, 3, 4]


def test_a_k_beyond_the_candidates_gives_all_of_them():
    assert len(best(("a", "b"), np.array([0.1, 0.2], np.float32), 20)) == 2


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.integers(1, 60))
def test_the_slate_is_the_sorted_head_of_the_candidates(scores, k):
    names = tuple(f"i{n}" for n in range(len(scores)))

    items = best(names, np.array(scores, np.float32), k)

    expected = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:k]
    assert [item.id for item in items] == [names[n] for n in expected]
    assert [item.score for item in items] == [scores[n] for n in expected]


@given(
    st.integers(1, 40).flatmap(
        lambda candidates: st.lists(
            st.lists(
                st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32),
                min_size=candidates,
                max_size=candidates,
            ),
            min_size=1,
            max_size=5,
        )
    ),
    st.integers(1, 45),
)
def test_the_slates_of_a_batch_are_those_of_its_requests(scores, k):
    names = tuple(f"i{n}" for n in range(len(scores[0])))
    scores = np.array(scores, np.float32)

    together = best_of_each(scores, k)

    for places, found, own in zip(together.places, together.scores, scores, strict=True):
        assert ranked_items(names, places, found) == best(names, own, k)


def test_popularity_orders_known_items_by_place_and_unknown_ones_last():
    order = PopularityOrder(np.array([2, 0, 1], np.int32))

    scores = order.scores(np.array([0, 1, 2, -1], np.int32))

    assert scores == pytest.approx([2 / 3, 1 / 3, 1, 0])
