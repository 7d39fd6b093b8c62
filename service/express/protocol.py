"""A connection that answers plain ranking requests itself.

Everything else is uvicorn's: whatever is not plain is fed to it untouched, and
until its reply is complete the connection is its own. Replies leave in the
order of the requests; one request of a connection is under way at a time.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, cast

from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.errors import ClientGone
from service.express.head import Head, read_head
from service.express.lane import RankLane, Underway
from service.express.plain import PlainCall
from service.express.reply import Reply
from service.express.shared import SharedLane
from service.telemetry import Exchange

_SCHEMES = {b"http": "http", b"https": "https"}


def express_protocol(lane: RankLane | SharedLane) -> type[asyncio.Protocol]:
    """The class of the connections whose ranking requests a lane answers; for uvicorn."""
    return type("PodiumProtocol", (ExpressProtocol,), {"lane": lane})


class ExpressProtocol(HttpToolsProtocol):
    """One connection; `lane` is set by `express_protocol`."""

    lane: ClassVar[RankLane | SharedLane]

    _call: "_Call | PlainCall | None" = None
    """The request under way on the express lane."""
    _rest: bytes = b""
    """What came after it."""
    _is_reading: bool = False
    """uvicorn's parser is inside a request."""
    _quiet_since: float = 0.0
    """When the last express reply left, on the loop's clock."""
    _served: RequestResponseCycle | None = None
    """The request that uvicorn serves, while it has read others behind it."""
    _given: Iterable[tuple[bytes, bytes]] = ()
    """What the server gives with every reply, and as it is sent."""
    _given_lines: bytes = b""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn tells the request that it read last, which is not the one that it serves if
        # the client pipelined: that one would write to a closed connection, and be an error.
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()
        call, self._call = self._call, None
        if call is not None:
            call.hang_up()

    def data_received(self, data: bytes) -> None:
        if self._call is not None:
            self._more(self._call, data)
        elif self._is_reading or (self.cycle is not None and not self.cycle.response_complete):
            super().data_received(data)
        else:
            self._begin(data)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self._is_reading = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._is_reading = False
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._call is None:
            super().shutdown()
        else:
            self._call.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        # Set once and looked at when it rings: cheaper than a new timer for every request.
        self.timeout_keep_alive_task = None
        if self._call is not None:
            return  # its reply sets the next
        left_s = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._close_when_quiet(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _begin(self, data: bytes, *, pipelined: bool = False) -> None:
        """The connection is idle, and a request begins."""
        head = read_head(data)
        if head is None or not self.lane.takes(head, self.client):
            super().data_received(data)
            return
        ends = head.body_at + head.body_bytes
        body, self._rest = data[head.body_at : ends], data[ends:]
        missing = head.body_bytes - len(body)
        is_free = not (missing or pipelined or self.flow.write_paused)
        if is_free and head.plain and self.lane.plain(body, head, self):
            return
        exchange = self.lane.exchange(head, self._scheme(head), self.server)
        call = self._call = _Call(self, head, exchange)
        if missing:
            self._in_task(call, call.wait_for_more(body, missing, self.loop))
        elif not is_free:
            # Those behind it are begun where it ends: without a task that would be a recursion.
            self._in_task(call, body)
        else:
            self._start(call, body)

    def _start(self, call: "_Call", body: bytes) -> None:
        then = partial(self._reply, call)
        started = self.lane.start(body, call.head, self.client, call.exchange, then)
        if started is None:
            self._in_task(call, body)
        elif isinstance(started, Reply):
            self._reply(call, started)
        else:
            call.underway = started
            # uvicorn waits for all in there, and at its limit cancels them: no more is asked of it.
            self.tasks.add(cast(asyncio.Task[Any], call))

    def _in_task(self, call: "_Call", body: "bytes | asyncio.Future[bytes]") -> None:
        call.task = self.loop.create_task(self._serve(call, body))
        self.tasks.add(call.task)
        call.task.add_done_callback(self.tasks.discard)

    def _more(self, call: "_Call | PlainCall", data: bytes) -> None:
        """More of the body under way, or what waits until it is answered."""
        self._rest += call.take(data)
        if self._rest:
            self.flow.pause_reading()

    async def _serve(self, call: "_Call", body: "bytes | asyncio.Future[bytes]") -> None:
        with call.exchange as exchange:
            reply = await self.lane.answer(body, call.head, self.client, exchange.started_at)
            delivered = False
            try:
                if self.flow.write_paused:
                    await self.flow.drain()
                delivered = self._tell(call, reply)
            finally:
                if reply.ranked is not None:
                    await self.lane.record(reply.ranked, delivered=delivered)

    def _reply(self, call: "_Call", reply: Reply) -> None:
        """Nothing has been written since the call began, so what is written now needs no wait."""
        call.underway = None
        self.tasks.discard(cast(asyncio.Task[Any], call))
        delivered = self._tell(call, reply)
        if reply.ranked is not None:
            task = self.loop.create_task(self.lane.record(reply.ranked, delivered=delivered))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def give_up(self, call: "_Call") -> None:
        """The caller is gone, or the drain limit has come."""
        underway, call.underway = call.underway, None
        if underway is None:
            return  # answered meanwhile
        reply = underway.cancel()
        if reply is not None:
            self._reply(call, reply)
            return
        self.tasks.discard(cast(asyncio.Task[Any], call))
        call.exchange.end()

    def begin(self, call: PlainCall) -> None:
        """The plain lane answers a request."""
        self._call = call
        self.tasks.add(cast(asyncio.Task[Any], call))  # as in `_start`

    def finish(self, call: PlainCall, status: int, headers: bytes, body: bytes) -> None:
        """The plain lane's reply; nothing has been written since the call began."""
        self.tasks.discard(cast(asyncio.Task[Any], call))
        self._write(call, status, headers, body)
        if self._call is call:
            self._next()

    def forget(self, call: PlainCall) -> None:
        """The plain lane has nobody to tell."""
        self.tasks.discard(cast(asyncio.Task[Any], call))

    def _tell(self, call: "_Call", reply: Reply) -> bool:
        """Whether somebody is there to be told."""
        written = self._write(call, reply.status, reply.headers, reply.body)
        call.exchange.status = reply.status
        call.exchange.end()
        if self._call is call:
            self._next()
        return written

    def _write(self, call: "_Call | PlainCall", status: int, headers: bytes, body: bytes) -> bool:
        transport = self.transport
        if transport.is_closing():
            return False
        given = self.server_state.default_headers
        if given is not self._given:  # once a second, with the new date
            self._given, self._given_lines = given, _lines(given)
        end = b"\r\n" if call.keep_alive else b"connection: close\r\n\r\n"
        transport.write(
            b"%b%b%b%b%b" % (STATUS_LINE[status], self._given_lines, headers, end, body)
        )
        if not call.keep_alive:
            transport.close()
        return True

    def _next(self) -> None:
        """The reply has left: the next request, or the keep-alive timeout."""
        self._call = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._rest:
            rest, self._rest = self._rest, b""
            self.flow.resume_reading()
            self._begin(rest, pipelined=True)
            return
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_when_quiet(self.timeout_keep_alive)

    def _close_when_quiet(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def _scheme(self, head: Head) -> str:
        told = _SCHEMES.get(head.fields.get(b"x-forwarded-proto", b""))
        app = self.app
        if (
            told is not None
            and isinstance(app, ProxyHeadersMiddleware)
            and self.client is not None
            and self.client[0] in app.trusted_hosts
        ):
            return told
        return self.scheme or "http"


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class _Call:
    """A request on the express lane, from its head to its reply."""

    __slots__ = (
        "_arriving",
        "_body",
        "_connection",
        "_missing",
        "exchange",
        "head",
        "keep_alive",
        "task",
        "underway",
    )

    def __init__(self, connection: ExpressProtocol, head: Head, exchange: Exchange) -> None:
        self._connection = connection
        self.head = head
        self.exchange = exchange
        self.keep_alive = head.keep_alive
        self.task: asyncio.Task[None] | None = None
        self.underway: Underway | None = None
        self._missing = 0
        self._body = bytearray()
        self._arriving: asyncio.Future[bytes] | None = None

    def wait_for_more(
        self, begun: bytes, missing: int, loop: asyncio.AbstractEventLoop
    ) -> "asyncio.Future[bytes]":
        """The whole body, once the missing bytes have come."""
        self._body += begun
        self._missing = missing
        self._arriving = loop.create_future()
        return self._arriving

    def take(self, data: bytes) -> bytes:
        """More of the body; gives back what comes after it."""
        if self._missing == 0:
            return data
        self._body += data[: self._missing]
        rest, self._missing = data[self._missing :], max(0, self._missing - len(data))
        if self._missing == 0:
            self._end(bytes(self._body))
        return rest

    def hang_up(self) -> None:
        """Nobody waits for the reply any more."""
        if self._missing:
            self._end(ClientGone())
        elif self.task is not None:
            self.task.cancel()
        else:
            self._connection.give_up(self)

    def cancel(self, msg: str | None = None) -> None:
        """The drain limit has come. Acted on a turn later, as by the tasks beside it."""
        self._connection.loop.call_soon(self._connection.give_up, self)

    def _end(self, body: bytes | ClientGone) -> None:
        arriving = self._arriving
        if arriving is None or arriving.done():
            return  # the drain limit has cut it off
        if isinstance(body, bytes):
            arriving.set_result(body)
        else:
            arriving.set_exception(body)
