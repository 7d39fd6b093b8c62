"""Slate ids are ULIDs that we recognise without remembering them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from service.events.signing import SigningKeys
from service.events.slates import SlateIds

WALL = 1_750_000_000.123
IDS = SlateIds(SigningKeys({"a": b"a" * 32}, "a"))
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_an_id_is_a_ulid_of_its_time():
    slate_id = IDS.new(WALL)
    value = 0
    for digit in slate_id:
        value = value * 32 + DIGITS.index(digit)

    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", slate_id)
    assert value >> 80 == 1_750_000_000_123


def test_ids_sort_by_time_and_never_repeat():
    ids = [IDS.new(WALL + at) for at in range(50)]
    assert ids == sorted(ids)
    assert len({IDS.new(WALL) for _ in range(10_000)}) == 10_000


def test_our_own_ids_are_recognised():
    assert all(IDS.issued_here(IDS.new(WALL + at / 7)) for at in range(1000))


def test_ids_of_every_configured_key_are_recognised_and_of_no_other():
    before = SlateIds(SigningKeys({"b": b"b" * 100}, "b"))
    rotated = SlateIds(SigningKeys({"a": b"a" * 32, "b": b"b" * 100}, "a"))

    assert rotated.issued_here(before.new(WALL))
    assert rotated.issued_here(IDS.new(WALL))
    assert not IDS.issued_here(before.new(WALL))


@given(st.data())
def test_a_changed_id_is_not_ours(data):
    slate_id = IDS.new(WALL)
    at = data.draw(st.integers(0, 25))
    put = data.draw(st.sampled_from([c for c in DIGITS + "ILOUü \n" if c != slate_id[at]]))

    assert not IDS.issued_here(slate_id[:at] + put + slate_id[at + 1 :])


@given(st.one_of(st.text(max_size=40), st.text(DIGITS, min_size=26, max_size=26)))
def test_any_other_text_is_not_ours(text):
    assert not IDS.issued_here(text)


def test_only_the_spelling_that_we_gave_out_is_ours():
    slate_id = IDS.new(WALL)

    assert not IDS.issued_here(slate_id.lower())
    assert not IDS.issued_here(slate_id + "\n")
