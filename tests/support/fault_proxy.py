"""Stands between a client and a Redis server, and spoils what the server replies.

    async with FaultProxy(server.socket_path) as proxy:
        store = open_store(proxy.url, ...)
        proxy.fault = Fault("swap", share=0.2)

Commands pass as they are; replies are taken apart, so that a fault meets whole
replies. It runs in the caller's event loop, and may be told something else at
any time.
"""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from msgspec import Struct

Kind = Literal["none", "delay", "error", "truncate", "garbage", "swap", "insert", "swallow"]


class Fault(Struct, frozen=True):
    """What happens to replies.

    delay: it and all behind it on its connection come `delay_s` later. error: an
    error comes instead. truncate: half of it comes, then the connection ends.
    garbage: bytes that are no reply come instead. swap: it changes places with
    the next reply that goes to anybody. insert: somebody's reply comes before it.
    swallow: nothing comes through in either direction, and nothing ends.
    """

    kind: Kind = "none"
    share: float = 1.0
    """How many of the replies it happens to."""
    delay_s: float = 0.1


class FaultProxy:
    """Listens on a unix socket of its own in front of a server's."""

    def __init__(self, server: Path, *, seed: int = 0) -> None:
        self.fault = Fault()
        self.spoiled = 0
        """Replies that something happened to."""
        self._server = server
        self._directory = Path(tempfile.mkdtemp(prefix="podium-proxy-"))
        self._random = random.Random(seed)
        self._held: tuple[asyncio.StreamWriter, bytes] | None = None
        self._last = b"+OK\r\n"
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._directory / 'proxy.sock'))}"

    @property
    def connections(self) -> int:
        """Connections of clients that are open now."""
        return len(self._writers)

    def cut(self) -> None:
        """End every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        path = self._directory / "proxy.sock"
        self._listener = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.cut()
        # Not cancelled: on Python 3.11 `asyncio.start_unix_server` complains of that.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._server)
        except OSError:
            writer.transport.abort()  # as the server is gone, so is the way to it
            self._writers.discard(writer)
            self._tasks.discard(task)
            return
        replies = asyncio.create_task(self._pass_replies(from_server, writer))
        self._tasks.add(replies)
        try:
            while commands := await reader.read(65_536):
                if self.fault.kind != "swallow":
                    to_server.write(commands)
        except OSError:
            pass  # the client went away; so do we
        finally:
            replies.cancel()
            to_server.transport.abort()
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks -= {task, replies}

    async def _pass_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        waiting = b""
        while received := await reader.read(65_536):
            waiting += received
            start = 0
            while (end := end_of_reply(waiting, start)) is not None:
                await self._hand_on(waiting[start:end], writer)
                start = end
            waiting = waiting[start:]
        writer.transport.abort()

    async def _hand_on(self, reply: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self.fault
        if self._held is not None and self._held[0].is_closing():
            self._held = None
        if fault.kind == "none" or self._random.random() >= fault.share:
            self._send(reply, writer)
            return
        self.spoiled += 1
        if fault.kind == "delay":
            await asyncio.sleep(fault.delay_s)
            self._send(reply, writer)
        elif fault.kind == "error":
            self._send(b"-ERR Fault Injected\r\n", writer)
        elif fault.kind == "garbage":
            self._send(self._random.randbytes(40) + b"\r\n", writer)
        elif fault.kind == "truncate":
            self._send(reply[: len(reply) // 2], writer)
            writer.close()
        elif fault.kind == "insert":
            self._send(self._last + reply, writer)
        elif fault.kind == "swap":
            self._swap(reply, writer)
        self._last = reply

    def _swap(self, reply: bytes, writer: asyncio.StreamWriter) -> None:
        if self._held is None:
            self._held = (writer, reply)
            return
        (other, held), self._held = self._held, None
        self._send(reply, other)
        self._send(held, writer)

    def _send(self, reply: bytes, writer: asyncio.StreamWriter) -> None:
        if not writer.is_closing():
            writer.write(reply)


def end_of_reply(data: bytes, start: int) -> int | None:
    """Where the reply that begins at `start` ends; None if it has not all come."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, after = data[start : start + 1], line_end + 2
    if kind == b"$":
        size = int(data[start + 1 : line_end])
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    if kind == b"*":
        for _ in range(int(data[start + 1 : line_end])):
            inner = end_of_reply(data, after)
            if inner is None:
                return None
            after = inner
    return after
