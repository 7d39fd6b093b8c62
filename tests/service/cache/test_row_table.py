"""The rows of this process: found exactly, bounded in bytes, and the popular ones stay."""

import numpy as np
import pytest

from service.cache.row_table import SPACES, WAYS, RowTable

SEGMENTS = 4


def steps_of(positions, shift=0):
    return ((positions[:, None] + np.arange(SEGMENTS) + shift) % 65_536).astype(np.uint16)


def put(table, space, positions, shift=0):
    positions = np.asarray(positions)
    ones = np.ones(len(positions))
    table.put(space, positions, steps_of(positions, shift), ones, 2 * ones)


def found(table, space, positions):
    return table.find(space, np.asarray(positions)).found


@pytest.fixture
def table():
    return RowTable(SEGMENTS, 100_000)


def test_what_was_put_is_found_with_its_times_and_nothing_else_is(table):
    put(table, "a", np.arange(100))

    kept = table.find("a", np.array([5, 500, 99]))

    assert kept.found.tolist() == [True, False, True]
    assert (kept.steps[[0, 2]] == steps_of(np.array([5, 99]))).all()
    assert kept.created_s[0] == 1
    assert kept.soft_s[0] == 2


def test_spaces_share_nothing(table):
    put(table, "a", [1, 2])
    put(table, "b", [1], shift=7)

    assert found(table, "b", [1, 2]).tolist() == [True, False]
    assert (table.find("a", np.array([1])).steps == steps_of(np.array([1]))).all()
    assert (table.find("b", np.array([1])).steps == steps_of(np.array([1]), 7)).all()


def test_a_newer_row_of_the_same_item_takes_its_place(table):
    put(table, "a", [1])
    put(table, "a", [1], shift=3)

    assert (table.find("a", np.array([1])).steps == steps_of(np.array([1]), 3)).all()
    assert len(table) == 1


def test_it_never_takes_more_than_it_may(table):
    before = table.bytes
    for at in range(0, 50_000, 500):
        put(table, "a", np.arange(at, at + 500))

    assert table.bytes == before <= 100_000
    assert 0 < len(table) <= 100_000 // (2 * SEGMENTS)


def test_a_full_table_keeps_what_is_asked_for_again_and_again(table):
    popular = np.arange(300)
    put(table, "a", popular)
    for _ in range(5):
        table.find("a", popular)

    for at in range(1_000, 60_000, 500):
        once = np.arange(at, at + 500)
        table.find("a", popular)
        table.find("a", once)
        put(table, "a", once)

    assert found(table, "a", popular).mean() > 0.95


def test_demand_that_is_gone_is_forgotten(table):
    past, present = np.arange(1_000), np.arange(5_000, 5_500)
    for _ in range(15):
        table.find("a", past)
        put(table, "a", past)

    for _ in range(120):
        table.find("a", present)
        put(table, "a", present)

    assert found(table, "a", present).mean() > 0.95


def test_counting_never_says_too_few_up_to_fifteen(table):
    for _ in range(7):
        table.find("a", np.arange(50))

    assert table.times_asked("a", np.arange(50)).min() == 7
    assert table.times_asked("b", np.arange(50)).max() <= 1


def test_a_space_that_made_room_comes_back_empty_and_never_as_another():
    table = RowTable(SEGMENTS, 1_000_000)
    put(table, "first", [1])
    for number in range(SPACES):
        put(table, f"s{number}", [1], shift=number)

    assert not found(table, "first", [1]).any()
    assert (table.find("s7", np.array([1])).steps == steps_of(np.array([1]), 7)).all()


def test_every_place_of_a_set_is_used():
    table = RowTable(SEGMENTS, 0)
    for position in range(1_000):
        put(table, "a", [position])

    assert len(table) == 2 * WAYS
