"""A value is read if it is whole, of this version, and belongs to its key; else it is no row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.row_codec import STEP, decode_rows, encode_rows, quantised, scores_of

TAGS = np.array([11, 12, 13], np.uint64)


def values(segments=16, **changes):
    steps = np.arange(3 * segments, dtype=np.uint16).reshape(3, segments)
    given = {"created_s": 1_700_000_000.7, "computed_s": 0.002} | changes
    return steps, encode_rows(TAGS, steps, **given)


def test_what_was_written_is_read():
    steps, written = values()

    rows = decode_rows(TAGS, written, 16)

    assert rows.found.all()
    assert (rows.steps == steps).all()
    assert rows.created_s.tolist() == [1_700_000_000] * 3
    assert rows.unreadable == 0


def test_a_row_of_sixteen_segments_is_56_bytes():
    assert {len(value) for value in values()[1]} == {56}


def test_what_is_not_there_is_not_unreadable():
    _, written = values()

    rows = decode_rows(TAGS, [written[0], None, written[2]], 16)

    assert rows.found.tolist() == [True, False, True]
    assert rows.unreadable == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value[:-1],
        lambda value: value + b"\0",
        lambda value: b"",
        lambda value: b"not a row",
        lambda value: bytes(len(value)),
        lambda value: b"\x80\x04K\x01." + value[5:],
        lambda value: encode_rows(
            np.array([12], np.uint64), np.zeros((1, 8), np.uint16), created_s=0, computed_s=0
        )[0],
        lambda value: encode_rows(
            np.array([12], np.uint64),
            np.zeros((1, 16), np.uint16),
            created_s=0,
            computed_s=float("nan"),
        )[0],
    ],
)
def test_anything_else_under_a_key_is_a_miss_and_leaves_its_neighbours_alone(spoil):
    steps, written = values()

    rows = decode_rows(TAGS, [written[0], spoil(written[1]), written[2]], 16)

    assert rows.found.tolist() == [True, False, True]
    assert (rows.steps[[0, 2]] == steps[[0, 2]]).all()
    assert rows.unreadable == 1


@given(st.integers(0, 55), st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(byte, bit):
    _, written = values()
    spoilt = bytearray(written[1])
    spoilt[byte] ^= 1 << bit

    assert not decode_rows(TAGS, [None, bytes(spoilt), None], 16).found.any()


def test_a_reply_to_another_key_is_refused():
    _, written = values()

    rows = decode_rows(TAGS, [written[1], written[0], written[2]], 16)

    assert rows.found.tolist() == [False, False, True]
    assert rows.unreadable == 2


@given(st.lists(st.floats(-16, 16), min_size=1, max_size=20))
def test_log_odds_lose_at_most_half_a_step(log_odds):
    exact = np.array(log_odds)
    kept = scores_of(quantised(exact)).astype(np.float64)

    assert np.abs(kept - 1 / (1 + np.exp(-exact))).max() <= STEP / 2 / 4 + 1e-7


def test_what_is_more_certain_than_the_scale_reaches_stands_at_its_end():
    ends = scores_of(quantised(np.array([-40.0, 40.0])))

    assert ends.tolist() == pytest.approx([1.125e-7, 1 - 1.125e-7], rel=1e-3)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=20))
def test_no_order_is_turned_round(log_odds):
    ordered = np.sort(np.array(log_odds))

    assert (np.diff(scores_of(quantised(ordered))) >= 0).all()
