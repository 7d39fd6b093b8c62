"""Whole requests on their way to a worker that has nothing to do.

Connections are spread evenly, their requests are not: some send more than
others, and chance does the rest. A worker that finds more requests than it can
score next hands some to a worker that is idle at that moment. The body goes as
it came; the reply comes back as it is to be sent. Both sides together spend
some 0.1 ms on it, so it is done only where the wait would be longer than that,
and nobody hands on what was handed over.

If the other worker dies meanwhile, the request is answered where it arrived.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from service.processes.board import Board
from service.processes.connections import STALE_S

HANDED_FROM_ROWS: Final = 200
"""Rows that must wait already: less is scored here before another worker has answered."""
FINISH_S: Final = 5.0
"""Longest that a worker which ends waits for what others asked of it."""

_LENGTH: Final = struct.Struct("<I")


class Handed(Struct, frozen=True, array_like=True, tag=True):
    """A request for another worker."""

    number: int
    body: bytes
    arrived: float
    """On the monotonic clock, which all processes of a machine share."""
    traceparent: bytes
    """The caller's; empty without one."""


class Returned(Struct, frozen=True, array_like=True, tag=True):
    """Its answer."""

    number: int
    status: int
    headers: bytes
    body: bytes


Serve = Callable[[Handed, Callable[[Returned], None]], Awaitable[None]]
"""Answers a request by calling the second argument, and then does what is left to do."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(Handed | Returned)


class HandoverCounts(Struct):
    """What this worker did since its start, in requests."""

    given: int = 0
    """Answered by another worker."""
    taken: int = 0
    """Answered for another worker."""
    lost: int = 0
    """Handed to a worker that died, and so answered here after all."""


class Handover:
    """One worker's way to the others. For one event loop."""

    def __init__(self, board: Board, number: int) -> None:
        self._board, self._slot = board, board.slots[number]
        self._links: dict[int, _Link] = {}
        self._under_way = 0
        self._serve: Serve | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self.counts = HandoverCounts()

    def serve(self, serve: Serve) -> None:
        """Say how requests of other workers are answered here."""
        self._serve = serve

    async def link(self, number: int, end: socket.socket) -> None:
        """Talk to another worker over one end of a socket pair, until either ends."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: _Link(self._asked), sock=end)
        self._links[number] = link

    @contextmanager
    def ranking(self) -> Iterator[None]:
        """Around a request that is answered here: the others see that we are busy."""
        self.began()
        try:
            yield
        finally:
            self.ended()

    def began(self) -> None:
        """A request is answered here from now on, until `ended`."""
        self._under_way += 1
        self._slot.under_way = self._under_way

    def ended(self) -> None:
        self._under_way -= 1
        self._slot.under_way = self._under_way

    def has_taker(self, waiting_rows: int) -> bool:
        """Whether `elsewhere` would hand a request over.

        Args:
            waiting_rows: That wait for our engines already.
        """
        return waiting_rows >= HANDED_FROM_ROWS and self._idle_worker() is not None

    async def elsewhere(
        self, waiting_rows: int, body: bytes, arrived: float, traceparent: bytes = b""
    ) -> Returned | None:
        """Another worker's answer; None if the request is to be answered here.

        Args:
            waiting_rows: That wait for our engines already.
            body: The request's.
            arrived: When it came, on the monotonic clock.
            traceparent: The caller's header.
        """
        if waiting_rows < HANDED_FROM_ROWS:
            return None
        link = self._idle_worker()
        if link is None:
            return None
        returned = await link.ask(body, arrived, traceparent)
        if returned is None:
            self.counts.lost += 1
        else:
            self.counts.given += 1
        return returned

    async def finish(self) -> None:
        """Answer what was handed to us, within a limit."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=FINISH_S)
        for link in self._links.values():
            link.close()

    def _idle_worker(self) -> "_Link | None":
        for number, link in self._links.items():
            slot = self._board.slots[number]
            if link.is_free and slot.is_serving and not slot.under_way and slot.silent_s < STALE_S:
                return link
        return None

    def _asked(self, link: "_Link", handed: Handed) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(link, handed))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, link: "_Link", handed: Handed) -> None:
        assert self._serve is not None
        await self._serve(handed, link.send)
        self.counts.taken += 1


class _Link(asyncio.Protocol):
    """The connection to one other worker: questions and answers both ways."""

    def __init__(self, asked: "Callable[[_Link, Handed], None]") -> None:
        self._hear = asked
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._numbers = 0
        self._awaited: dict[int, asyncio.Future[Returned | None]] = {}

    @property
    def is_free(self) -> bool:
        """Nothing of ours is there: what its slot says takes a moment to follow."""
        return self._transport is not None and not self._awaited

    async def ask(self, body: bytes, arrived: float, traceparent: bytes) -> Returned | None:
        """The answer; None if the other worker is gone."""
        self._numbers = number = self._numbers + 1
        future: asyncio.Future[Returned | None] = asyncio.get_running_loop().create_future()
        self._awaited[number] = future
        try:
            self.send(Handed(number, body, arrived, traceparent))
            return await future
        finally:
            del self._awaited[number]

    def send(self, message: Handed | Returned) -> None:
        if self._transport is not None:
            frame = _ENCODER.encode(message)
            self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._awaited.values():
            if not future.done():
                future.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            message = _DECODER.decode(bytes(buffer[_LENGTH.size : end]))
            del buffer[:end]
            self._take(message)

    def _take(self, message: Handed | Returned) -> None:
        if isinstance(message, Handed):
            self._hear(self, message)
            return
        future = self._awaited.get(message.number)
        if future is not None and not future.done():  # else its caller has left
            future.set_result(message)
