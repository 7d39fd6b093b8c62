"""The sketch: never too few, seldom too many, and what is long ago fades."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.cache.sketch import MOST, FrequencySketch


@given(st.lists(st.text(max_size=3), max_size=40))
def test_an_estimate_is_never_too_low(keys):
    sketch = FrequencySketch(100)
    for key in keys:
        sketch.add(key)

    for key, times in Counter(keys).items():
        assert sketch.estimate(key) >= min(times, MOST)


def test_an_estimate_is_seldom_too_high():
    sketch = FrequencySketch(1000)
    drawn = np.random.default_rng(1).zipf(1.2, 9_000) % 5_000
    for item in drawn:
        sketch.add(f"item-{item}")
    times = Counter(drawn.tolist())

    too_high = sum(sketch.estimate(f"item-{i}") > min(times[i], MOST) for i in range(5_000))

    assert too_high < 0.05 * 5_000


def test_what_was_asked_for_long_ago_fades():
    sketch = FrequencySketch(10)
    for _ in range(15):
        sketch.add("then")
    for number in range(85):
        sketch.add(str(number))
    assert sketch.estimate("then") in (7, 8)
    for number in range(100):
        sketch.add(str(number))

    assert sketch.estimate("then") <= 4


def test_counts_stop_where_a_key_is_hot_in_any_case():
    sketch = FrequencySketch(100)
    for _ in range(100):
        sketch.add("hot")

    assert sketch.estimate("hot") == MOST
