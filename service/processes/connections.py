"""New connections on their way from the parent, which accepts them, to a worker.

Each goes to the worker with the fewest open ones. A shared listening socket
gives them to whoever wakes first, and one socket per worker (SO_REUSEPORT) to
a worker by chance; with both some worker has twice the load of another, and
with the latter a second service could start on the same address unnoticed.
"""

import array
import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from service.processes.board import Slot

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""Connections taken before other work has its turn."""
_RETRY_S: Final = 0.005
STALE_S: Final = 2.0
"""A worker whose event loop did not turn for so long is given nothing if another can take it."""
CONNECTION: Final = b"c"
_PEER: Final = b"p"
_DESCRIPTOR_BYTES: Final = array.array("i").itemsize


def connection_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, for the parent and for a worker: each datagram hands over one connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class Recipient(Protocol):
    """A worker, to who hands it connections."""

    given: int
    """Connections handed to it, ever."""

    @property
    def slot(self) -> Slot: ...

    @property
    def connections(self) -> socket.socket: ...


def _given_to(worker: Recipient) -> tuple[bool, int, int, int]:
    """Least for the worker that should have the next connection."""
    slot = worker.slot
    on_its_way = max(0, worker.given - slot.seen)
    return slot.silent_s > STALE_S, slot.open + on_its_way, slot.under_way, worker.given


class Acceptor:
    """Accepts, and hands over. For one event loop."""

    def __init__(self, listener: socket.socket, workers: Callable[[], Sequence[Recipient]]) -> None:
        """Prepare.

        Args:
            listener: Listens; it is made non-blocking.
            workers: Those that take connections now.
        """
        listener.setblocking(False)
        self._listener = listener
        self._workers = workers
        self._waiting: deque[socket.socket] = deque()
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if not self._accepting:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)
            self._accepting = True

    def stop(self) -> None:
        """Accept no more, and close the address."""
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
        self._hand_over()
        for connection in self._waiting:
            connection.close()
        self._listener.close()

    def give_again(self, connections: list[socket.socket]) -> None:
        """Hand connections over that their worker died without taking."""
        self._waiting.extend(connections)
        self._hand_over()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as problem:  # too many open files: those that wait can wait on
                _log.error("a connection cannot be accepted: %s", problem.strerror)
                self._pause()
                self._retry_later()
                break
            self._waiting.append(connection)
            self._hand_over()
            if self._waiting:
                break

    def _hand_over(self) -> None:
        while self._waiting:
            if not self._give(self._waiting[0]):
                # The kernel keeps further callers meanwhile.
                self._pause()
                self._retry_later()
                return
            self._waiting.popleft().close()  # the worker has it now

    def _give(self, connection: socket.socket) -> bool:
        able = list(self._workers())
        while able:
            worker = min(able, key=_given_to)
            try:
                socket.send_fds(worker.connections, [CONNECTION], [connection.fileno()])
            except OSError:  # it is full, or just gone
                able.remove(worker)
            else:
                worker.given += 1
                return True
        return False

    def _pause(self) -> None:
        if self._accepting:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._accepting = False

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._hand_over()
        if not self._waiting:
            self.start()


def introduce(one: socket.socket, number: int, other: socket.socket, other_number: int) -> None:
    """Give two workers, by their ends and numbers, a socket pair to talk to each other."""
    ends = socket.socketpair()
    with ends[0], ends[1]:
        for to, end, peer in ((one, ends[0], other_number), (other, ends[1], number)):
            with contextlib.suppress(OSError):  # it is full or gone: the two do without
                socket.send_fds(to, [_PEER + bytes((peer,))], [end.fileno()])


def take_next(end: socket.socket) -> tuple[bytes, socket.socket] | None:
    """What was handed over next, and what for; None if there is nothing now."""
    space = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
    try:
        what, ancillary, _, _ = end.recvmsg(2, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    except (BlockingIOError, InterruptedError):
        return None
    for _, _, data in ancillary:
        handed = socket.socket(fileno=array.array("i", data[:_DESCRIPTOR_BYTES])[0])
        handed.setblocking(False)
        return what, handed
    return None


def take_connections(end: socket.socket) -> list[socket.socket]:
    """The callers' connections that were handed over and not taken."""
    connections = []
    while (taken := take_next(end)) is not None:
        what, handed = taken
        if what == CONNECTION:
            connections.append(handed)
        else:
            handed.close()
    return connections


class Incoming:
    """A worker's end: every connection gets a protocol on this event loop."""

    def __init__(
        self,
        end: socket.socket,
        slot: Slot,
        protocol: Callable[[], asyncio.Protocol],
        meet: Callable[[int, socket.socket], Awaitable[None]],
    ) -> None:
        """Prepare.

        Args:
            end: The worker's, of `connection_pair`.
            slot: The worker's own.
            protocol: Makes what serves a caller.
            meet: Told of another worker, by its number, and of the way to it.
        """
        self._end, self._slot, self._protocol, self._meet = end, slot, protocol, meet
        self._seen = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self.open: set[asyncio.Protocol] = _Counted(self._count)
        """For uvicorn, which keeps the open connections in it."""

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._end, self._take)

    async def stop(self) -> None:
        """Take what is there, and no more."""
        asyncio.get_running_loop().remove_reader(self._end)
        while self._take_one():
            pass
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._take_one():
                return

    def _take_one(self) -> bool:
        taken = take_next(self._end)
        if taken is None:
            return False
        what, handed = taken
        if what == CONNECTION:
            self._seen += 1
            self._begin(self._attach(handed))
        else:
            self._begin(self._meet(what[1], handed))
        return True

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the caller is gone already
            connection.close()
        self._count()

    def _count(self) -> None:
        self._slot.connections(self._seen, len(self.open))


class _Counted(set[asyncio.Protocol]):
    """A set that says when something left it."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def discard(self, element: object) -> None:
        super().discard(element)
        self._changed()
