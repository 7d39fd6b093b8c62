"""Orders that need no model: what is popular, and what belongs beside an item."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking_models import candidates
from ranking_models.candidates import (
    DAMPING,
    HISTORY,
    PRIOR_ROWS,
    co_occurring,
    fill_popular,
    popularity_order,
)


def int32(values) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def anchor_candidates(users, liked, items: int, *, popularity, size: int = 100) -> np.ndarray:
    """What the same users liked, then what is popular."""
    found = co_occurring(users, liked, items, size=size)
    fill_popular(found, popularity)
    return found


def test_more_clicks_on_as_many_rows_come_first():
    rows = int32([0] * 50 + [1] * 50 + [2] * 50)
    labels = np.zeros(150, np.float32)
    labels[[0, 50, 51, 100, 101, 102]] = 1

    assert popularity_order(rows, labels, 3).tolist() == [2, 1, 0]


def test_one_lucky_click_does_not_beat_a_proven_item():
    """Plain click rate would put the item with one row, one click first."""
    rows = int32([0] + [1] * 400 + [2] * 400)
    labels = int32([1] + [1] * 200 + [0] * 200 + [0] * 400)

    assert popularity_order(rows, labels, 3).tolist() == [1, 0, 2]


def test_the_smoothed_rate_is_the_stated_one():
    random = np.random.default_rng(0)
    rows, labels = random.integers(0, 30, 1000), random.integers(0, 2, 1000)
    overall = labels.mean()

    order = popularity_order(int32(rows), int32(labels), 40)

    rate = [
        (labels[rows == i].sum() + PRIOR_ROWS * overall) / ((rows == i).sum() + PRIOR_ROWS)
        for i in order
    ]
    assert rate == sorted(rate, reverse=True)


def test_items_that_nobody_saw_count_as_average_and_keep_their_order():
    assert popularity_order(int32([]), int32([]), 4).tolist() == [0, 1, 2, 3]
    assert popularity_order(int32([2, 0]), int32([1, 0]), 4).tolist() == [2, 1, 3, 0]


def by_the_formula(users, liked, items, popularity, size) -> list[list[int]]:
    """The documented rule, written as slowly as it reads."""
    fans = [{u for u, i in zip(users, liked, strict=True) if i == item} for item in range(items)]
    result = []
    for anchor in range(items):
        similarity = {
            other: len(fans[anchor] & fans[other])
            / (np.sqrt(len(fans[anchor]) * len(fans[other])) + DAMPING)
            for other in range(items)
            if other != anchor and fans[anchor] & fans[other]
        }
        best = sorted(similarity, key=lambda other: (-similarity[other], other))
        rest = [p for p in popularity if p != anchor and p not in similarity]
        result.append(((best + rest)[:size] + [-1] * size)[:size])
    return result


@given(
    pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 11)), max_size=60),
    size=st.integers(1, 14),
    block=st.sampled_from([1, 10, 2_000_000]),
)
@settings(max_examples=150, deadline=None)
def test_candidates_follow_the_documented_rule(pairs, size, block):
    users, liked = int32([u for u, _ in pairs]), int32([i for _, i in pairs])
    popularity = int32(np.random.default_rng(len(pairs)).permutation(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "BLOCK_PAIRS", block)  # blocks of memory change nothing
        found = anchor_candidates(users, liked, 12, popularity=popularity, size=size)

    assert found.dtype == np.int32
    assert found.tolist() == by_the_formula(users, liked, 12, popularity.tolist(), size)


def test_popular_items_are_not_everybodys_neighbours():
    """Items 0 and 1 share all their users; item 2 is liked by those and by 200 others."""
    pairs = [(u, i) for u in range(40) for i in (0, 1, 2)] + [(u, 2) for u in range(40, 240)]
    users, liked = int32([u for u, _ in pairs]), int32([i for _, i in pairs])

    found = anchor_candidates(users, liked, 3, popularity=int32([2, 1, 0]), size=2)

    assert found[0].tolist() == [1, 2]


def test_a_small_catalogue_is_padded():
    found = anchor_candidates(int32([]), int32([]), 3, popularity=int32([2, 0, 1]), size=4)

    assert found.tolist() == [[2, 1, -1, -1], [2, 0, -1, -1], [0, 1, -1, -1]]


def test_only_the_newest_likes_of_one_user_count():
    """A user with more likes than `HISTORY` is cut, from the old end."""
    items = HISTORY + 50
    liked = int32(np.random.default_rng(0).permutation(items))
    popularity = int32(range(items))

    found = anchor_candidates(
        np.zeros(items, np.int32), liked, items, popularity=popularity, size=items - 1
    )

    newest = set(liked[-HISTORY:].tolist())
    for anchor in liked[-3:].tolist():
        assert set(found[anchor][: HISTORY - 1].tolist()) == newest - {anchor}
    assert found[int(liked[0])].tolist() == [i for i in range(items) if i != liked[0]]


def test_a_hundred_thousand_likes_take_seconds_and_little_memory():
    """Bounds far above what is measured (0.9 s, 140 MB), far below a dense or quadratic way."""
    random = np.random.default_rng(0)
    users = int32(300 * random.random(100_000) ** 2)
    liked = int32(5000 * random.random(100_000) ** 3)
    popularity = popularity_order(liked, np.ones(100_000, np.float32), 5000)

    tracemalloc.start()
    started = time.process_time()
    found = anchor_candidates(users, liked, 5000, popularity=popularity)
    seconds = time.process_time() - started
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.shape == (5000, 100)
    assert seconds < 20
    assert peak_bytes < 400e6
