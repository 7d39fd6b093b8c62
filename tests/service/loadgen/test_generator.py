"""The load generator against a server whose behaviour is known."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from service.errors import StartupError
from service.loadgen.generator import Load, Met, send

HIT = b'{"items":[],"cache":{"result":"hit","hits":1}}'
STALE = b'{"items":[],"cache":{"result":"stale","hits":1}}'
MISS = b'{"items":[],"cache":{"result":"miss","hits":0}}'

Answer = Callable[[bytes], tuple[int, bytes] | None]
"""From the request's first line to status and body; None closes the connection."""


@contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """The port of a server that answers so, in a thread of its own."""
    loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    port = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                said = answer(head.partition(b"\r\n")[0])
                if said is None:
                    break
                status, body = said
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                writer.write(b"HTTP/1.1 %d x\r\n" % status + length + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def run() -> None:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.run_until_complete(_settled())
        loop.close()


async def _settled() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def request(name: str) -> bytes:
    return f"GET /{name} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def asked(port: int, names: list[str], order: list[int], **more: object) -> Met:
    given = {"pages": 0, "seconds": 5.0, "connections": 2, **more}
    return send(Load(port=port, requests=[request(n) for n in names], order=order, **given))


def test_once_asks_for_all_in_order_and_ends():
    seen: list[bytes] = []

    def answer(line: bytes) -> tuple[int, bytes]:
        seen.append(line.split()[1])
        return 200, line

    with answering(answer) as port:
        met = asked(port, ["a", "b"], [0, 1, 1, 0, 0], once=True, keep_replies=True, connections=1)

    assert seen == [b"/a", b"/b", b"/b", b"/a", b"/a"]
    assert [index for index, _ in met.replies] == [0, 1, 1, 0, 0]
    assert met.replies[1][1] == b"GET /b HTTP/1.1"
    assert met.seconds < 4
    assert met.failed == 0


def test_hits_are_counted_for_pages_and_for_rankings():
    replies = {b"/hit": HIT, b"/stale": STALE, b"/miss": MISS, b"/plain": b'{"result":"hi"}'}

    with answering(lambda line: (200, replies[line.split()[1]])) as port:
        names = ["hit", "stale", "miss", "plain", "hit"]
        met = asked(port, names, [0, 1, 2, 3, 4, 0], pages=4, once=True)

    assert (met.pages.answered, met.pages.from_cache) == (5, 3)
    assert (met.ranks.answered, met.ranks.from_cache) == (1, 1)
    assert met.pages.hits == pytest.approx(0.6)


def test_refusals_and_broken_connections_are_failures_and_no_latencies():
    def answer(line: bytes) -> tuple[int, bytes] | None:
        return {b"/ok": (200, b"{}"), b"/busy": (503, b"{}")}.get(line.split()[1])

    with answering(answer) as port:
        order = [0, 0, 1, 1, 1]
        refused = asked(port, ["ok", "busy"], order, once=True, connections=1)
        broken = asked(port, ["ok", "gone"], [0, 1, 0], once=True, connections=1)

    assert refused.statuses == {200: 2, 503: 3}
    assert (refused.answered, refused.failed) == (2, 3)
    assert (broken.answered, broken.failed) == (1, 1)
    assert broken.seconds < 4


def test_the_closed_loop_keeps_asking_until_the_time_is_up():
    with answering(lambda _line: (200, MISS)) as port:
        met = asked(port, ["a"], [0], seconds=0.3)

    assert met.seconds == pytest.approx(0.3, abs=0.2)
    assert met.answered > 20
    assert met.per_s == pytest.approx(met.answered / met.seconds)
    assert met.failed == 0


def test_the_open_loop_sends_as_many_as_are_due():
    with answering(lambda _line: (200, HIT)) as port:
        met = asked(port, ["a"], [0], pages=1, seconds=0.5, rate_per_s=400.0, connections=32)

    assert met.pages.answered == 200
    assert met.failed == 0
    assert 0 <= met.late_p99_s < 0.5


def test_nobody_listens():
    with answering(lambda _line: (200, b"")) as port:
        pass

    with pytest.raises(StartupError, match="load generator failed: ConnectionRefusedError"):
        asked(port, ["a"], [0], once=True)
