"""Ids are found where the table has them, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import id_index
from service.id_index import NOWHERE, IdIndex

TEXTS = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=60)


def array(ids: list[str]) -> np.ndarray:
    """As a bundle holds ids: numpy drops trailing zero characters, so no id ends with one."""
    return np.array(ids, np.str_)


@given(known=TEXTS, asked=st.lists(st.text(max_size=12), max_size=60))
def test_an_index_agrees_with_a_dictionary(known, asked):
    known = list(dict.fromkeys(text.rstrip("\0") for text in known))
    index, dictionary = IdIndex(array(known)), {text: at for at, text in enumerate(known)}
    asked = [*asked, *known]

    expected = [dictionary.get(text, NOWHERE) for text in asked]
    assert index.positions(asked).tolist() == expected
    assert [index.position(text) for text in asked] == expected


def test_a_large_table_is_found_in_one_call_and_one_by_one():
    ids = [f"item-{i}" for i in range(30_000)]
    index = IdIndex(array(ids))

    np.testing.assert_array_equal(index.positions(ids), np.arange(30_000))
    assert [index.position(text) for text in ids[::997]] == list(range(0, 30_000, 997))


def test_positions_are_int32_also_of_nothing():
    index = IdIndex(array(["a", "b"]))

    assert index.positions(()).dtype == np.int32
    assert index.positions(["b", "x"] * 20).dtype == np.int32


def test_a_table_without_ids_knows_none():
    assert IdIndex(array([])).positions(["a"] * 30).tolist() == [NOWHERE] * 30


@pytest.mark.parametrize("asked", [1, 200])
def test_ids_with_one_hash_are_told_apart_by_their_text(monkeypatch, asked):
    """Python's hashes practically never collide, so they are made to."""
    monkeypatch.setattr(id_index, "hash", lambda text: len(text) % 3, raising=False)
    ids = [text * n for text in "abcdefghijklmnop" for n in range(1, 12)]
    index = IdIndex(array(ids))

    known, unknown = ids[:asked], [text * 12 for text in "abcdefghijklmnop"]

    assert index.positions(known).tolist() == list(range(len(known)))
    assert index.positions(unknown * 3).tolist() == [NOWHERE] * 48


def test_more_ids_than_a_bucket_holds_are_all_found(monkeypatch):
    monkeypatch.setattr(id_index, "hash", lambda text: 1024 * int(text), raising=False)
    ids = [str(i) for i in range(100)]  # all in bucket 0

    index = IdIndex(array(ids))

    assert index.positions([*ids, "100"]).tolist() == [*range(100), NOWHERE]
    assert index.position("99") == 99
