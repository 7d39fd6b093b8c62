"""The level in the process: its bounds, its time, and what it lets in."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.first_level import FirstLevel
from service.testing import FakeClock

keys = st.sampled_from("abcdefgh")
operations = st.lists(
    st.one_of(
        st.tuples(st.just("get"), keys, st.just(0)),
        st.tuples(st.just("put"), keys, st.integers(1, 60)),
        st.tuples(st.just("drop"), keys, st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.just(1)),
    ),
    max_size=60,
)


@given(operations, st.integers(0, 150))
def test_it_keeps_its_bound_and_gives_out_only_what_was_put_last_and_lately(operations, bound):
    clock = FakeClock()
    level = FirstLevel(bound, 3.0, clock.now, typical_bytes=10)
    put = {}
    for number, (what, key, size) in enumerate(operations):
        if what == "put":
            level.put(key, number, size)
            put[key] = number, clock.now()
        elif what == "drop":
            level.drop(key)
            put.pop(key, None)
        elif what == "wait":
            clock.advance(size)
        else:
            value = level.get(key)
            assert value is None or (put[key][0] == value and clock.now() - put[key][1] < 3.0)
            assert level.left(key) in (None, put.get(key, (None,))[0])
        assert level.bytes <= bound
        sizes = [
            kept[1]
            for segment in (level._window, level._probation, level._protected)
            for kept in segment.values()
        ]
        assert level.bytes == sum(sizes)
        assert len(level) == len(sizes)


def test_a_value_is_given_out_for_its_time_and_left_after_it():
    clock = FakeClock()
    level = FirstLevel(1000, 1.5, clock.now)
    level.put("a", "value", 10)
    clock.advance(1.4)
    assert level.get("a") == "value"
    clock.advance(0.2)

    assert level.get("a") is None
    assert level.left("a") == "value"
    assert level.left("a", within_s=1.5) is None


@pytest.mark.parametrize(("max_bytes", "ttl_s"), [(0, 1.5), (1000, 0.0)])
def test_it_can_be_off(max_bytes, ttl_s):
    level = FirstLevel(max_bytes, ttl_s, FakeClock().now)

    level.put("a", "value", 10)

    assert level.left("a") is None


def test_what_is_too_large_is_not_kept():
    level = FirstLevel(1000, 1.5, FakeClock().now, typical_bytes=10)

    level.put("a", "value", 1001)

    assert len(level) == 0


def test_a_flood_of_what_is_asked_for_once_leaves_what_is_asked_for_all_the_time():
    level = FirstLevel(100, 1.0, FakeClock().now, typical_bytes=1)
    hot = [f"hot-{n}" for n in range(50)]
    for _ in range(5):
        for key in hot:
            if level.get(key) is None:
                level.put(key, key, 1)
    for number in range(400):
        level.get(f"once-{number}")
        level.put(f"once-{number}", number, 1)

    assert sum(level.get(key) is not None for key in hot) >= 45


def test_after_clear_nothing_is_there_and_what_was_hot_is_still_known():
    level = FirstLevel(1000, 1.0, FakeClock().now)
    for _ in range(3):
        level.get("a")
    level.put("a", "value", 10)

    level.clear()

    assert (level.get("a"), len(level), level.bytes) == (None, 0, 0)
    assert level.times_asked("a") >= 3


def test_at_a_flat_demand_it_hits_more_often_than_the_last_used_would():
    """Zipf 0.8, where admission is worth most; the table is in `tests/bench/bench_cache_level`."""
    shares = np.arange(1, 20_001) ** -0.8
    drawn = np.random.default_rng(7).choice(20_000, 60_000, p=shares / shares.sum()).astype(str)
    level = FirstLevel(1_000, 1.0, FakeClock().now, typical_bytes=1)
    last_used: OrderedDict[str, None] = OrderedDict()
    hits = [0, 0]
    for key in drawn.tolist():
        if level.get(key) is None:
            level.put(key, key, 1)
        else:
            hits[0] += 1
        if key in last_used:
            hits[1] += 1
            last_used.move_to_end(key)
        else:
            last_used[key] = None
            if len(last_used) > 1_000:
                last_used.popitem(last=False)

    assert hits[0] - hits[1] > 0.06 * len(drawn)
