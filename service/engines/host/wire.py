"""What worker and engine process say to each other about a slot, over a socket of its own.

    worker  ->  Open, with the memory     once
    process ->  Opened or Refused         once, when the engines are there
    worker  ->  ring                      the rows are written: score them
    process ->  done                      the scores are written, or the reason why there are none

A ring gives the slot to the process, and its done gives it back; in between
the worker does not touch it. Both carry the number of the call. Who finds the
socket closed knows that the other is dead, and that a call under way is lost.
"""

import contextlib
import errno
import os
import socket
import struct
from typing import Final

import msgspec
from msgspec import Struct

from service.engines import EngineInfo
from service.engines.host.slot import SlotLayout

_LENGTH: Final = struct.Struct("<I")
_RING: Final = struct.Struct("<QdQ")
_DONE: Final = struct.Struct("<QII")
_GREETING: Final = b"s"

SCORED, FAILED, OUT_OF_MEMORY = range(3)


class Wanted(Struct, frozen=True, kw_only=True):
    """Engines of one graph. Slots that want the same share them."""

    bundle: str
    """Its absolute path."""
    engine: str
    precision: str


class Open(Struct, frozen=True, kw_only=True, tag=True):
    """Let a slot be scored by engines, which are loaded for it if they are not there."""

    wanted: Wanted
    layout: SlotLayout


class Opened(Struct, frozen=True, kw_only=True, tag=True):
    """The engines are there."""

    engine: EngineInfo
    predicted_bytes: int
    """Of the device, for all engines of the graph; 0 on a CPU."""
    used_bytes: int
    limit_bytes: int | None
    """Of the device, for all models of the process; None while none is on one."""


class Refused(Struct, frozen=True, tag=True):
    """There are no engines, and why."""

    reason: str


class Ring(Struct, frozen=True):
    """A call."""

    number: int
    wanted_by: float
    """On the monotonic clock, which all processes of a machine share: later nobody waits for it."""
    rows: int


class Done(Struct, frozen=True):
    """What came of a call."""

    number: int
    outcome: int
    """SCORED, FAILED or OUT_OF_MEMORY."""
    reason_bytes: int = 0


_ENCODER: Final = msgspec.msgpack.Encoder()
_OPEN: Final = msgspec.msgpack.Decoder(Open)
_REPLY: Final[msgspec.msgpack.Decoder[Opened | Refused]] = msgspec.msgpack.Decoder(Opened | Refused)


class Gone(Exception):
    """The other end is closed: its process has ended, or wants no more."""


# --- from worker to process, by the way that all workers share -----------------------------


def introduce(way: socket.socket, lane: socket.socket) -> None:
    """Send the process's end of a new lane; it lies there until a process takes it.

    Raises:
        OSError: the way is full or closed.
    """
    socket.send_fds(way, [_GREETING], [lane.fileno()])


def next_lane(way: socket.socket) -> socket.socket | None:
    """Take a lane that was sent; None when nobody is left to send any.

    Raises:
        BlockingIOError: there is none now.
        OSError: this process has too many open files to take it, so it is closed.
    """
    greeting, descriptors, _, _ = socket.recv_fds(way, 1, 1)
    if not greeting:
        return None
    if not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return socket.socket(fileno=descriptors[0])


# --- opening -------------------------------------------------------------------------------


def ask_to_open(lane: socket.socket, wish: Open, memory: int) -> None:
    """Say what the slot is for, and hand over its memory."""
    frame = _ENCODER.encode(wish)
    socket.send_fds(lane, [_LENGTH.pack(len(frame))], [memory])
    lane.sendall(frame)


def asked_to_open(lane: socket.socket) -> tuple[Open, int]:
    """What a new lane is for, and the descriptor of its memory, to be closed after use.

    Raises:
        Gone: the worker has ended.
    """
    head, descriptors, _, _ = socket.recv_fds(lane, _LENGTH.size, 1)
    if not descriptors:
        raise Gone
    try:
        return _OPEN.decode(_exactly(lane, *_LENGTH.unpack(head))), descriptors[0]
    except BaseException:
        os.close(descriptors[0])
        raise


def answer_open(lane: socket.socket, reply: Opened | Refused) -> None:
    """Say what came of it; a worker that is gone does not hear it."""
    frame = _ENCODER.encode(reply)
    with contextlib.suppress(OSError):
        lane.sendall(_LENGTH.pack(len(frame)) + frame)


def answered_open(lane: socket.socket) -> Opened | Refused:
    """What came of it, once the lane is readable.

    Raises:
        Gone: the process has ended.
    """
    (length,) = _LENGTH.unpack(_exactly(lane, _LENGTH.size))
    return _REPLY.decode(_exactly(lane, length))


# --- calls ---------------------------------------------------------------------------------


def ring(lane: socket.socket, call: Ring) -> None:
    """Give the slot to the process.

    Raises:
        Gone: the process has ended.
    """
    try:
        lane.sendall(_RING.pack(call.number, call.wanted_by, call.rows))
    except OSError as error:
        raise Gone from error


def next_ring(lane: socket.socket) -> Ring:
    """The call that a readable lane has.

    Raises:
        Gone: the worker has ended, or wants no more.
    """
    return Ring(*_RING.unpack(_exactly(lane, _RING.size)))


def finish(lane: socket.socket, done: Done) -> None:
    """Give the slot back; a worker that is gone does not want it."""
    with contextlib.suppress(OSError):
        lane.sendall(_DONE.pack(done.number, done.outcome, done.reason_bytes))


def next_done(lane: socket.socket) -> Done:
    """What came of a call; waits as long as the lane's timeout says.

    Raises:
        Gone: the process has ended.
        TimeoutError, BlockingIOError: it takes longer.
    """
    return Done(*_DONE.unpack(_exactly(lane, _DONE.size)))


def _exactly(lane: socket.socket, size: int) -> bytes:
    # What is sent at once arrives at once, so nothing is lost to a timeout in its middle.
    received = b""
    while len(received) < size:
        try:
            part = lane.recv(size - len(received))
        except ConnectionError as error:
            raise Gone from error
        if not part:
            raise Gone
        received += part
    return received
