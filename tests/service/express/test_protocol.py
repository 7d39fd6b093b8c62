"""A connection: which lane a request takes, and how requests follow each other on it."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.clock import SystemClock
from service.errors import ClientGone
from service.express.lane import Reply
from service.express.protocol import express_protocol
from service.telemetry import ExportSettings, create_telemetry

LIMIT_S = 10.0


class OpenLane:
    """A lane that answers a body with itself, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.failures: list[BaseException] = []
        self.go = asyncio.Event()
        self.go.set()
        self.replies_with = 200
        self.with_tasks = True
        self.made: object | None = None
        self.recorded: list[bool] = []
        self.says_when_cancelled: Reply | None = None
        self.telemetry = create_telemetry(
            sample_ratio=0.0,
            export=ExportSettings(),
            surfaces=(),
            version="0",
            clock=SystemClock(),
        )

    def takes(self, head, peer):
        return b"x-refused" not in head.fields

    def exchange(self, head, scheme, server):
        return self.telemetry.exchange(
            {"path": "/v1/rank", "method": "POST", "scheme": scheme, "headers": (),
             "http_version": "1.1", "server": server}
        )  # fmt: skip

    def plain(self, body, head, connection):
        return False

    def start(self, body, head, peer, exchange, then):
        if self.with_tasks:
            return None
        self.asked.append(body)
        if body == b"at once":
            return self.reply(body)
        return Underway(self, body, then)

    def reply(self, given):
        length = b"content-length: %d\r\n" % (len(given) + 1)
        return Reply(self.replies_with, length, b"E" + given, self.made)

    async def record(self, ranked, *, delivered):
        self.recorded.append(delivered)

    async def answer(self, body, head, peer, arrived):
        try:
            given = body if isinstance(body, bytes) else await body
            self.asked.append(given)
            await self.go.wait()
        except BaseException as failure:
            self.failures.append(failure)
            raise
        return self.reply(given)


class Underway:
    """A request of an `OpenLane` that has no task."""

    def __init__(self, lane, body, then):
        self.lane, self.task = lane, asyncio.create_task(self.tell(body, then))

    async def tell(self, body, then):
        await self.lane.go.wait()
        then(self.lane.reply(body))

    def cancel(self):
        self.task.cancel()
        self.lane.failures.append(asyncio.CancelledError())
        return self.lane.says_when_cancelled


class Site:
    """A server of both lanes, and clients of it. The ordinary one answers `O` and the body."""

    def __init__(self, lane: OpenLane, state: ServerState, address: tuple[str, int]) -> None:
        self.lane, self.state, self.address = lane, state, address
        self.clients: list[Client] = []

    async def connect(self) -> "Client":
        self.clients.append(Client(*await asyncio.open_connection(*self.address)))
        return self.clients[-1]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 (whatever a test waits for)
                await asyncio.sleep(0.001)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> bytes:
        """The body of the next reply."""
        return (await self.whole_reply())[1]

    async def whole_reply(self) -> tuple[bytes, bytes]:
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            (length,) = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ]
            return head, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()

    async def hang_up(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def ordinary(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    size = str(len(body) + 1).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]}
    )
    await send({"type": "http.response.body", "body": b"O" + body})


@pytest.fixture(params=[True, False], ids=["with tasks", "without tasks"])
async def site(request):
    async with serving() as running:
        running.lane.with_tasks = request.param
        yield running


@asynccontextmanager
async def serving(*, keep_alive_s: int = 5):
    lane, state = OpenLane(), ServerState()
    config = uvicorn.Config(
        ordinary,
        http=express_protocol(lane),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive_s,
        proxy_headers=False,
    )
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
        "127.0.0.1",
        0,
    )
    site = Site(lane, state, server.sockets[0].getsockname())
    try:
        yield site
    finally:
        lane.go.set()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for client in site.clients:
            await client.hang_up()
        await site.until(lambda: not state.tasks)


def rank(body: bytes, *lines: bytes) -> bytes:
    fixed = (
        b"POST /v1/rank HTTP/1.1",
        b"Host: shop.test",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    )
    return b"\r\n".join((*fixed, *lines)) + b"\r\n\r\n" + body


UNUSUAL = b"TE: trailers"


async def test_a_plain_request_takes_the_express_lane_and_any_other_the_ordinary(site):
    client = await site.connect()
    asked = (
        (rank(b"1"), b"E1"),
        (rank(b"2", UNUSUAL), b"O2"),
        (rank(b"3"), b"E3"),
        (rank(b"4", b"X-Refused: yes"), b"O4"),
        (b"GET /health/live HTTP/1.1\r\nHost: shop.test\r\n\r\n", b"O"),
        (rank(b"5").replace(b"Content-Length: 1", b"Transfer-Encoding: chunked")[:-1]
         + b"1\r\n5\r\n0\r\n\r\n", b"O5"),
        (rank(b"6"), b"E6"),
    )  # fmt: skip
    for data, body in asked:
        client.send(data)
        assert await client.reply() == body

    assert site.state.total_requests == len(asked)


@pytest.mark.parametrize("lanes", ["EEE", "EOE", "OEO", "EEO", "OOE"])
async def test_pipelined_requests_are_answered_in_order(site, lanes):
    client = await site.connect()
    client.send(
        b"".join(
            rank(str(n).encode(), *([UNUSUAL] if lane == "O" else []))
            for n, lane in enumerate(lanes)
        )
    )

    got = [await client.reply() for _ in lanes]

    assert [body[1:] for body in got] == [b"0", b"1", b"2"]


async def test_requests_that_come_while_one_is_answered_wait(site):
    site.lane.go.clear()
    client = await site.connect()
    client.send(rank(b"0"))
    await site.until(lambda: site.lane.asked)
    for n in (1, 2, 3):
        client.send(rank(b"%d" % n, *([UNUSUAL] if n == 2 else [])))
    await site.until(lambda: any(c.flow.read_paused for c in site.state.connections))
    assert site.lane.asked == [b"0"]
    site.lane.go.set()

    assert [(await client.reply())[1:] for _ in range(4)] == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("size", [1, 7, 50, 90, 110])
async def test_a_request_may_come_in_any_pieces(site, size):
    client = await site.connect()
    data = rank(b"a body of some length") + rank(b"another")
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
        await client.writer.drain()
        await asyncio.sleep(0.001)

    assert (await client.reply())[1:] == b"a body of some length"
    assert (await client.reply())[1:] == b"another"


async def test_a_body_that_follows_its_head_is_still_express(site):
    client = await site.connect()
    data = rank(b"0123456789")
    client.send(data[:-10])
    await site.until(lambda: site.state.tasks)
    client.send(data[-10:-3])
    await asyncio.sleep(0.01)
    client.send(data[-3:] + rank(b"next"))

    assert await client.reply() == b"E0123456789"
    assert await client.reply() == b"Enext"


async def test_the_connection_is_closed_when_the_caller_wants(site):
    client = await site.connect()
    client.send(rank(b"1", b"Connection: close") + rank(b"2"))

    answer = await client.rest()

    assert answer.endswith(b"connection: close\r\n\r\nE1")
    assert site.lane.asked == [b"1"]


async def test_a_caller_that_hangs_up_takes_its_request_along(site):
    site.lane.go.clear()
    client = await site.connect()
    client.send(rank(b"1"))
    await site.until(lambda: site.lane.asked)

    await client.hang_up()
    await site.until(lambda: site.lane.failures)

    assert isinstance(site.lane.failures[0], asyncio.CancelledError)


async def test_a_caller_that_hangs_up_in_its_body_is_told_apart(site):
    client = await site.connect()
    client.send(rank(b"12345")[:-2])
    await site.until(lambda: site.state.tasks)

    await client.hang_up()
    await site.until(lambda: site.lane.failures)

    assert isinstance(site.lane.failures[0], ClientGone)


async def test_a_drain_finishes_the_request_under_way_and_closes(site):
    site.lane.go.clear()
    busy, idle = await site.connect(), await site.connect()
    idle.send(rank(b"0", UNUSUAL))
    await idle.reply()
    busy.send(rank(b"1"))
    await site.until(lambda: site.lane.asked)

    for connection in list(site.state.connections):
        connection.shutdown()
    assert await idle.rest() == b""
    site.lane.go.set()

    assert (await busy.rest()).endswith(b"connection: close\r\n\r\nE1")
    await site.until(lambda: not site.state.connections)


async def test_an_idle_connection_is_closed():
    async with serving(keep_alive_s=0) as site:
        client = await site.connect()
        client.send(rank(b"1"))

        assert (await client.rest()).endswith(b"E1")


async def test_the_timeout_counts_from_the_last_reply_and_spares_who_waits(site):
    client = await site.connect()
    client.send(rank(b"1"))
    await client.reply()
    (connection,) = site.state.connections

    site.lane.go.clear()
    client.send(rank(b"2"))
    await site.until(lambda: site.lane.asked == [b"1", b"2"])
    connection.timeout_keep_alive_handler()  # as when the timer of the first reply rings
    site.lane.go.set()
    assert await client.reply() == b"E2"

    connection.timeout_keep_alive_handler()  # too early for the second
    client.send(rank(b"3"))
    assert await client.reply() == b"E3"

    connection._quiet_since -= connection.timeout_keep_alive
    connection.timeout_keep_alive_handler()
    assert await client.rest() == b""


async def test_a_reader_that_does_not_read_holds_up_its_own_requests_only(site):
    slow, quick = await site.connect(), await site.connect()
    body = b"x" * 200_000
    slow.writer.transport.pause_reading()
    for _ in range(60):
        slow.send(rank(body))
    await site.until(lambda: any(c.flow.write_paused for c in site.state.connections))
    held = len(site.lane.asked)

    quick.send(rank(b"1"))
    assert await quick.reply() == b"E1"
    assert held < 60

    slow.writer.transport.resume_reading()
    for _ in range(60):
        assert len(await slow.reply()) == len(body) + 1


@pytest.mark.parametrize("status", [200, 400, 429, 503, 504])
async def test_the_status_line_is_the_servers(site, status):
    site.state.default_headers = [(b"date", b"today")]
    site.lane.replies_with = status
    client = await site.connect()
    client.send(rank(b"1"))

    head, _ = await client.whole_reply()

    phrase = HTTPStatus(status).phrase.encode()
    assert head == b"HTTP/1.1 %d %b\r\ndate: today\r\ncontent-length: 2\r\n\r\n" % (status, phrase)


async def test_a_reply_that_is_known_at_once_is_sent_at_once_and_in_order(site):
    site.lane.with_tasks = False
    client = await site.connect()
    client.send(rank(b"at once") * 2_000 + rank(b"last"))

    for _ in range(2_000):
        assert await client.reply() == b"Eat once"
    assert await client.reply() == b"Elast"


async def test_a_drain_limit_cuts_off_what_has_no_task_as_what_has_one(site):
    site.lane.with_tasks = False
    site.lane.says_when_cancelled = Reply(503, b"content-length: 1\r\n", b"D")
    site.lane.go.clear()
    client = await site.connect()
    client.send(rank(b"1"))
    await site.until(lambda: site.lane.asked)

    for connection in list(site.state.connections):
        connection.shutdown()
    for waited_for in site.state.tasks:  # as uvicorn does, once its limit has come
        waited_for.cancel(msg="too late")

    assert (await client.rest()).endswith(b"connection: close\r\n\r\nD")
    assert not site.state.tasks


async def test_what_is_left_to_do_is_done_after_the_reply(site):
    site.lane.made = object()
    client = await site.connect()
    client.send(rank(b"1"))

    assert await client.reply() == b"E1"
    await site.until(lambda: site.lane.recorded)
    assert site.lane.recorded == [True]


async def test_a_slate_that_is_ready_when_nobody_is_there_any_more_is_known_to_be_undelivered(site):
    site.lane.made = object()
    site.lane.go.clear()
    client = await site.connect()
    client.send(rank(b"1"))
    await site.until(lambda: site.lane.asked)

    # In this order the slate is made before the connection learns that it is closed.
    site.lane.go.set()
    (connection,) = site.state.connections
    connection.transport.close()
    await site.until(lambda: site.lane.recorded)

    assert site.lane.recorded == [False]
    assert await client.rest() == b""
