"""Requests go to an idle worker when it pays, come back, and are never lost or handed on."""

import asyncio
import os
import socket

import pytest

from service.processes.board import Board
from service.processes.handover import HANDED_FROM_ROWS, Handover, Returned


class Worker:
    """A worker that answers with its name and the body, when it is let."""

    def __init__(self, name: bytes, board: Board, number: int) -> None:
        self.name, self.slot = name, board.slots[number]
        self.handover = Handover(board, number)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.arrived: list[float] = []
        self.handover.serve(self._serve)
        self.slot.beat()
        self.slot.serving(True)

    async def _serve(self, handed, reply_with):
        with self.handover.ranking():
            self.arrived.append(handed.arrived)
            self.asked.set()
            await self.may_answer.wait()
            # Nothing is handed on, however long the queue is here.
            reply_with(
                Returned(handed.number, 200, b"x: " + handed.traceparent, self.name + handed.body)
            )

    async def elsewhere(self, body=b"body", rows=HANDED_FROM_ROWS):
        return await self.handover.elsewhere(rows, body, 7.5, b"trace")


@pytest.fixture
async def workers():
    board = Board.create(2)
    one, other = Worker(b"one ", board, 0), Worker(b"other ", board, 1)
    ends = socket.socketpair()
    await one.handover.link(1, ends[0])
    await other.handover.link(0, ends[1])
    yield one, other
    for worker in (one, other):
        worker.may_answer.set()
        await worker.handover.finish()
    await asyncio.sleep(0)  # transports close in a turn of their own
    os.close(board.descriptor)


async def test_an_idle_worker_answers_with_all_it_needs(workers):
    one, other = workers

    returned = await one.elsewhere(b"{}" * 50_000)

    assert returned is not None
    assert (returned.status, returned.headers) == (200, b"x: trace")
    assert returned.body == b"other " + b"{}" * 50_000
    assert other.arrived == [7.5]
    assert (one.handover.counts.given, one.handover.counts.taken) == (1, 0)
    assert (other.handover.counts.given, other.handover.counts.taken) == (0, 1)


async def test_both_ways_at_once(workers):
    one, other = workers

    answers = await asyncio.gather(one.elsewhere(b"a"), other.elsewhere(b"b"))

    assert [answer.body for answer in answers if answer] == [b"other a", b"one b"]


async def test_with_little_waiting_here_nothing_is_handed_over(workers):
    one, other = workers

    assert await one.elsewhere(rows=HANDED_FROM_ROWS - 1) is None
    assert not other.asked.is_set()


@pytest.mark.parametrize("why", ["busy", "leaving", "silent"])
async def test_a_worker_that_would_not_answer_at_once_is_not_asked(workers, why, monkeypatch):
    one, other = workers
    if why == "leaving":
        other.slot.serving(False)
    if why == "silent":
        monkeypatch.setattr(type(other.slot), "silent_s", property(lambda _: 10.0))
    with other.handover.ranking() if why == "busy" else one.handover.ranking():
        assert await one.elsewhere() is None
    assert not other.asked.is_set()


async def test_one_request_at_a_time_is_handed_over(workers):
    one, other = workers
    other.may_answer.clear()
    first = asyncio.create_task(one.elsewhere(b"first"))
    await other.asked.wait()

    assert await one.elsewhere(b"second") is None

    other.may_answer.set()
    returned = await first
    assert returned is not None
    assert returned.body == b"other first"


async def test_when_the_other_worker_dies_the_request_is_answered_here(workers):
    one, other = workers
    other.may_answer.clear()
    handed = asyncio.create_task(one.elsewhere())
    await other.asked.wait()

    for link in other.handover._links.values():
        link.close()

    assert await handed is None
    assert await one.elsewhere() is None  # and it is not asked again
    assert (one.handover.counts.given, one.handover.counts.lost) == (0, 1)


async def test_a_caller_that_leaves_disturbs_nobody(workers):
    one, other = workers
    other.may_answer.clear()
    leaving = asyncio.create_task(one.elsewhere(b"left"))
    await other.asked.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    other.may_answer.set()
    while other.slot.under_way:  # noqa: ASYNC110 - it changes with the loop, nobody tells
        await asyncio.sleep(0)

    returned = await one.elsewhere(b"next")

    assert returned is not None
    assert returned.body == b"other next"


async def test_a_worker_that_ends_first_answers_what_it_was_handed(workers):
    one, other = workers
    other.may_answer.clear()
    handed = asyncio.create_task(one.elsewhere())
    await other.asked.wait()

    ending = asyncio.create_task(other.handover.finish())
    other.may_answer.set()
    await ending

    returned = await handed
    assert returned is not None
    assert returned.body == b"other body"
