"""Which requests leave for another worker, and that what is not ours to know stays."""

import asyncio
import os
import socket

import pytest

from service.express.head import Head
from service.express.lane import Reply
from service.express.shared import SharedLane
from service.processes.board import Board
from service.processes.handover import HANDED_FROM_ROWS, Handover

HEAD = Head({b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00"}, 0, 0, True)
BODY = b'{"candidates": ["i1"]}'


class Lane:
    """Answers with its name; keeps what it was asked."""

    told_by_a_drain = None

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.asked: list[tuple[object, Head]] = []
        self.recorded = asyncio.Event()

    def start(self, body, head, peer, exchange, then):
        self.then, self.cancelled = then, False
        return self

    def cancel(self):
        self.cancelled = True

    async def answer(self, body, head, peer, arrived):
        self.asked.append((body, head))
        return Reply(200, b"", self.name, ranked="what to record")

    async def record(self, ranked):
        assert ranked == "what to record"
        self.recorded.set()

    def cut_off(self, asked):
        return self.told_by_a_drain


class Telemetry:
    """Samples nothing, unless told to."""

    sampled = None

    def sampled_request(self):
        return self.sampled


class Worker:
    def __init__(self, name: bytes, board: Board, number: int) -> None:
        self.lane, self.telemetry, self.rows = Lane(name), Telemetry(), HANDED_FROM_ROWS
        self.handover = Handover(board, number)
        self.slot = board.slots[number]
        self.slot.beat()
        self.slot.serving(True)
        self.shared = SharedLane(self.lane, self.handover, self.telemetry, lambda: self.rows)

    async def answer(self, body=BODY):
        return (await self.shared.answer(body, HEAD, ("127.0.0.1", 1), 1.0)).body


@pytest.fixture
async def workers():
    board = Board.create(2)
    busy, idle = Worker(b"busy", board, 0), Worker(b"idle", board, 1)
    ends = socket.socketpair()
    await busy.handover.link(1, ends[0])
    await idle.handover.link(0, ends[1])
    yield busy, idle
    for worker in (busy, idle):
        await worker.handover.finish()
    await asyncio.sleep(0)  # transports close in a turn of their own
    os.close(board.descriptor)


async def test_a_plain_request_is_ranked_and_recorded_by_the_idle_worker(workers):
    busy, idle = workers

    assert await busy.answer() == b"idle"

    await asyncio.wait_for(idle.lane.recorded.wait(), 10)
    assert busy.lane.asked == []
    (body, head) = idle.lane.asked[0]
    assert body == BODY
    assert head.fields == {}


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates": ["i1"], "force": {"model": "a"}}',
        b'{"candidates": ["i1"], "\\u0066orce": {"model": "a"}}',
    ],
)
async def test_who_forces_a_variant_is_known_here_alone(workers, body):
    busy, idle = workers

    assert await busy.answer(body) == b"busy"
    assert idle.lane.asked == []


async def test_a_traced_request_keeps_all_its_steps_here(workers):
    busy, _ = workers
    busy.telemetry.sampled = "a request"

    assert await busy.answer() == b"busy"


async def test_a_body_that_is_still_arriving_is_waited_for_here(workers):
    busy, _ = workers
    arriving = asyncio.get_running_loop().create_future()
    arriving.set_result(BODY)

    assert await busy.answer(arriving) == b"busy"


async def test_without_a_queue_everything_is_ranked_here(workers):
    busy, idle = workers
    busy.rows = 0

    assert await busy.answer() == b"busy"
    assert idle.lane.asked == []


async def test_a_ranking_under_way_shows_on_the_board(workers):
    busy, _ = workers
    seen = []
    answer = busy.lane.answer

    async def look(*arguments):
        seen.append(busy.slot.under_way)
        return await answer(*arguments)

    busy.lane.answer = look
    busy.rows = 0
    await busy.answer()

    assert (seen, busy.slot.under_way) == ([1], 0)


async def test_what_an_idle_worker_would_take_is_not_started_here(workers):
    busy, idle = workers

    assert busy.shared.start(BODY, HEAD, None, None, None) is None
    idle.slot.under_way = 1
    assert busy.shared.start(BODY, HEAD, None, None, None) is not None


@pytest.mark.parametrize("ends", ["answered", "cancelled"])
async def test_what_is_started_here_shows_on_the_board_until_it_ends(workers, ends):
    busy, _ = workers
    busy.rows, told = 0, []

    underway = busy.shared.start(BODY, HEAD, None, None, told.append)
    assert busy.slot.under_way == 1
    if ends == "answered":
        busy.lane.then("a reply")
    else:
        underway.cancel()

    assert busy.slot.under_way == 0
    assert told == (["a reply"] if ends == "answered" else [])
    assert busy.lane.cancelled is (ends == "cancelled")


async def cut_off(worker):
    """A request that is cancelled while it waits for the other worker."""
    task = asyncio.create_task(worker.answer())
    await asyncio.sleep(0)  # it is handed over
    assert not worker.handover.has_taker(worker.rows)
    task.cancel()
    return await task


async def test_a_drain_limit_is_told_to_who_waits_for_another_worker(workers):
    busy, _ = workers
    busy.lane.told_by_a_drain = Reply(503, b"", b"shutting down")

    assert await cut_off(busy) == b"shutting down"


async def test_who_hangs_up_while_another_worker_ranks_is_told_nothing(workers):
    busy, _ = workers

    with pytest.raises(asyncio.CancelledError):
        await cut_off(busy)
    assert busy.lane.asked == []
