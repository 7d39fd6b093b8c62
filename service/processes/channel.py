"""How the parent and a worker talk: messages over a socket pair.

A frame is its length (uint32, little-endian) and a message as msgpack.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, Final, Literal, Self

import msgspec
from msgspec import Struct

from service.processes.plan import WorkerPlan
from service.settings import Settings

_LENGTH: Final = struct.Struct("<I")


class Begin(Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker: what it is to serve."""

    settings: Settings
    directory: str
    """That relative paths in the settings start from."""
    host: str
    port: int
    plan: WorkerPlan
    service: str
    """A name that no other running service has, for what a restarted worker takes up again."""
    engines: int | None = None
    """Inherited descriptor of the way to the engine process, where there is one."""


class Ready(Struct, frozen=True, tag=True):
    """A worker can serve. It begins when this was taken note of."""

    welcome: str
    """For the person who started the service."""


class Failed(Struct, frozen=True, tag=True):
    """A worker cannot start as configured; it ends."""

    kind: Literal["startup", "input"]
    message: str


class Drain(Struct, frozen=True, tag=True):
    """Go on serving, and say that new traffic should go elsewhere."""


class Stop(Struct, frozen=True, tag=True):
    """Take what was handed over, finish what is under way, and end."""


class Ask(Struct, frozen=True, tag=True):
    """A command to all workers; from the one that asks, with its own answer."""

    number: int
    command: str
    payload: bytes
    own: bytes = b""
    limit_s: float = 0.0


class Answer(Struct, frozen=True, tag=True):
    """A worker's answer; None if it failed, which it logs itself."""

    number: int
    payload: bytes | None


class Answers(Struct, frozen=True, tag=True):
    """What the others answered, for the worker that asked."""

    number: int
    payloads: tuple[bytes, ...]


class Snapshot(Struct, frozen=True, tag=True):
    """The figures of a worker, in case that it dies."""

    figures: bytes


Message = Begin | Ready | Failed | Drain | Stop | Ask | Answer | Answers | Snapshot

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(Message)


class Channel:
    """One end of a conversation. For one event loop; one task receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `open`."""
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Talk over one end of a socket pair, which then belongs to the channel."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send soon; nothing happens where the other end is gone, as `receive` will tell."""
        if self._writer.is_closing():
            return
        frame = _ENCODER.encode(message)
        self._writer.write(_LENGTH.pack(len(frame)) + frame)

    async def receive(self) -> Message | None:
        """The next message; None when the other end is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message: Message = _DECODER.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None
        return message

    async def flush(self) -> None:
        """Wait until what was sent left this process."""
        if self._writer.is_closing():
            return
        self._writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(OSError):  # the other end is gone
            await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):  # the other end is gone
            await self._writer.wait_closed()
