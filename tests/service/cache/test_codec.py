import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.cache import SlateKey
from service.cache.codec import Entry, decode, encode

KEY = SlateKey("podium:0:cafe:R:a:b:c", 3)
ENTRY = Entry(np.array([0.1, 0.2, 0.3], np.float32), 1_750_000_000.25, 0.003)
VALUE = encode(KEY, ENTRY)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    scores=st.integers(0, 1000).flatmap(lambda n: arrays(np.float32, n, elements=finite)),
    created_s=st.floats(0, 1e11),
    computed_s=st.floats(0, 1e3, width=32),
)
def test_what_was_encoded_comes_back_bit_by_bit(scores, created_s, computed_s):
    key = SlateKey("podium:0:cafe:R:x", len(scores))

    entry = decode(key, encode(key, Entry(scores, created_s, computed_s)))

    assert entry is not None
    assert entry.scores.tobytes() == scores.tobytes()
    assert (entry.created_s, entry.computed_s) == (created_s, computed_s)


def test_a_slate_takes_32_bytes_and_4_per_candidate():
    assert len(VALUE) == 32 + 3 * 4


@given(st.binary(max_size=200))
def test_random_bytes_are_nothing(value):
    assert decode(KEY, value) is None


@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
def test_one_changed_byte_makes_it_nothing(at, change):
    changed = bytearray(VALUE)
    changed[at] ^= change

    assert decode(KEY, bytes(changed)) is None


@given(st.integers(0, len(VALUE) - 1))
def test_a_truncated_value_is_nothing(length):
    assert decode(KEY, VALUE[:length]) is None


def test_a_value_with_something_behind_it_is_nothing():
    assert decode(KEY, VALUE + b"\0") is None


def test_the_value_of_another_key_is_nothing():
    """A reply that reaches the wrong caller must never rank somebody else's slate."""
    other = SlateKey("podium:0:cafe:R:a:b:d", 3)

    assert decode(other, VALUE) is None


def test_a_value_with_another_number_of_scores_is_nothing():
    assert decode(SlateKey(KEY.text, 2), VALUE) is None
    assert decode(SlateKey(KEY.text, 4), VALUE) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_nothing_even_with_a_right_checksum(wrong):
    scores = np.array([0.1, wrong, 0.3], np.float32)

    assert decode(KEY, encode(KEY, Entry(scores, 0.0, 0.0))) is None
    assert decode(KEY, encode(KEY, Entry(ENTRY.scores, float(wrong), 0.0))) is None
