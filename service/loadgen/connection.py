"""A keep-alive HTTP/1.1 connection that costs little, so that load measures the service.

A full-grown client spends more time on a request than the service does, on the
same machine; its figures would be about itself. This one sends prepared bytes
and reads status and body with the parser that the service itself uses.
"""

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools


class Answer(NamedTuple):
    """Status and body of a response."""

    status: int
    body: bytes


class Target(NamedTuple):
    """Where requests go."""

    host: str
    port: int

    @staticmethod
    def of(url: str) -> "Target":
        """Host and port of an ``http://`` address.

        Raises:
            ValueError: another scheme, or no host.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not of the form http://host:port")
        return Target(parts.hostname, parts.port or 80)

    def post(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST request with a JSON body."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


class Connection(asyncio.Protocol):
    """One request at a time over one connection, opened again when the server has closed it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []

    async def open(self) -> None:
        """Connect, unless it is.

        Raises:
            OSError: no connection.
        """
        if self._transport is None:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._target)

    async def send(self, request: bytes, *, timeout_s: float) -> Answer:
        """Send prepared bytes and wait for the answer.

        Raises:
            OSError: no connection, or it broke before the answer was complete.
            TimeoutError: no answer in time; the next call opens a new connection.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.open()
                assert self._transport is not None
                self._answer = asyncio.get_running_loop().create_future()
                self._transport.write(request)
                return await self._answer
        except BaseException:
            # The rest of the answer would be taken for that of the next request.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not an HTTP response: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("the server closed the connection"))

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        if not self._parser.should_keep_alive():
            self.close()
        if answer is not None and not answer.done():
            answer.set_result(Answer(self._parser.get_status_code(), b"".join(self._body)))

    def _fail(self, error: OSError) -> None:
        self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
