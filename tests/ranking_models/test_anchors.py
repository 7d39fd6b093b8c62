"""Candidates come from likes, then the model, then popularity, and are measured on other likes."""

import numpy as np
import pytest

from ranking_models.anchors import Anchors, Likes, anchors_of, candidate_figures
from ranking_models.joining import Tables
from tests.ranking_models.test_segments import ITEMS, SCHEMA, score, users

TABLES = Tables(schema=SCHEMA, users=users("abc" * 10), items=ITEMS)
POPULARITY = np.arange(60, dtype=np.int32)[::-1].copy()


def likes(*pairs: tuple[int, int]) -> Likes:
    user, item = np.array(pairs, np.int32).reshape(-1, 2).T
    return Likes(user=user, item=item)


def test_likes_come_first_then_items_alike_then_the_popular():
    """User 0 liked 0 and 1; 0 has 19 neighbours of its kind; what is left is popular."""
    found = anchors_of(likes((0, 0), (0, 1)), score, TABLES, POPULARITY, size=30)
    row = found.candidates[0].tolist()

    assert row[0] == 1
    assert sorted(row[1:20]) == list(range(3, 60, 3))
    assert row[20:] == [item for item in POPULARITY.tolist() if item % 3 and item != 1][:10]


def test_the_shares_are_those_of_the_sources():
    found = anchors_of(likes((0, 0), (0, 1)), score, TABLES, POPULARITY, size=30)

    assert found.shares == pytest.approx(
        {
            "co-occurrence": 2 / 1800,
            "neighbours": 60 * 19 / 1800,
            "popularity": (1800 - 60 * 19 - 2) / 1800,
        }
    )


def test_recall_counts_held_out_likes_beside_the_users_newest_earlier_like():
    anchors = Anchors(candidates=np.array([[1, 2], [2, 3], [3, 0], [0, 1]], np.int32), shares={})
    popularity = np.array([2, 0, 1, 3], np.int32)
    earlier = likes((7, 3), (7, 0), (8, 1), (9, 2))  # 0 is user 7's newest
    held_out = likes((7, 1), (7, 3), (8, 3), (9, 2), (5, 0))

    figures = candidate_figures(anchors, popularity, earlier=earlier, held_out=held_out)

    # Beside 0: 1 is found, 3 is not; beside 1: 3 is found; 9's is the anchor; 5 liked nothing.
    assert figures.pairs == 3
    assert figures.recall == pytest.approx(2 / 3)
    # Popular beside 0: 2 and 1; beside 1: 2 and 0.
    assert figures.popularity_recall == pytest.approx(1 / 3)
    assert figures.size == 2


@pytest.mark.parametrize(
    ("earlier", "held_out"), [((), ((1, 1),)), (((1, 1),), ()), (((1, 1),), ((2, 1),))]
)
def test_without_a_pair_there_is_no_figure(earlier, held_out):
    anchors = Anchors(candidates=np.zeros((2, 1), np.int32), shares={})

    assert (
        candidate_figures(
            anchors,
            np.arange(2, dtype=np.int32),
            earlier=likes(*earlier),
            held_out=likes(*held_out),
        )
        is None
    )
