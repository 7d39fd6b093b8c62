"""What a worker says of itself is what the others read, in whatever process."""

import os
import subprocess
import sys

import pytest

from service.processes.board import Board


@pytest.fixture
def board():
    made = Board.create(2)
    yield made
    os.close(made.descriptor)


def test_a_fresh_board_says_that_nobody_serves(board):
    assert board.serving == 0
    assert board.stores_down == 0
    assert [(slot.open, slot.seen, slot.under_way) for slot in board.slots] == [(0, 0, 0)] * 2


def test_slots_do_not_overlap_and_can_be_cleared(board):
    first, second = board.slots
    for slot, base in ((first, 10), (second, 20)):
        slot.serving(True)
        slot.connections(base + 1, base + 2)
        slot.under_way = base + 3
    board.stores_down = 3
    assert board.serving == 2

    first.clear()

    assert board.serving == 1
    assert (first.seen, first.open, first.under_way) == (0, 0, 0)
    assert (second.seen, second.open, second.under_way) == (21, 22, 23)
    assert board.stores_down == 3


def test_another_process_reads_and_writes_the_same_words(board):
    board.slots[1].under_way = 2**40
    code = (
        "import sys; from service.processes.board import Board\n"
        "slots = Board(int(sys.argv[1]), 2).slots\n"
        "slots[0].under_way = slots[1].under_way + 1\n"
        "slots[0].beat()"
    )

    subprocess.run(
        [sys.executable, "-c", code, str(board.descriptor)],
        pass_fds=(board.descriptor,),
        check=True,
        timeout=30,
    )

    assert board.slots[0].under_way == 2**40 + 1
    assert 0 <= board.slots[0].silent_s < 30
