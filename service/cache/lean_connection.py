"""One connection to a Redis or Valkey server that many calls share, on hiredis.

Commands of all callers go out in one write per turn of the event loop, and
replies are handed out strictly in order. That order is all that ties a reply
to its call, so whatever casts doubt on it (a reply nobody waits for, one that
its command cannot have, bytes that are no protocol, a call that the server
did not answer in time) ends the connection and every call on it. A call whose
caller went away stays in line, and its reply is thrown away.

A test sends nonsense, halves and strangers' replies over it; the tag inside
every value is the second line of defence.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast

import hiredis
from msgspec import Struct
from redis.exceptions import ResponseError

from service.cache.link import Command, NoTurn, ProtocolDoubt, check_replies
from service.cache.patience import STEPS
from service.stores import ReplyBounds, connected

_CALLS_LIMIT = 1024
"""Calls on the connection at once, those included whose caller went away."""
_INCOMPLETE = object()


class LeanAddress(Struct, frozen=True, kw_only=True):
    """Where the server is, and who we are there."""

    path: str | None = None
    """Of a unix socket; without it host and port."""
    host: str = "localhost"
    port: int = 6379
    username: str | None = None
    password: str | None = None
    database: int = 0
    connect_timeout_s: float

    def __repr__(self) -> str:
        return f"LeanAddress({self.path or f'{self.host}:{self.port}'})"  # without the password

    def greeting(self) -> list[Command]:
        """What a new connection says first."""
        said: list[Command] = []
        if self.password is not None:
            user = [self.username] if self.username else []
            said.append(("AUTH", *user, self.password))
        if self.database:
            said.append(("SELECT", self.database))
        return said


class _Call:
    """Commands written together, and the replies they still wait for."""

    __slots__ = ("commands", "future", "packed", "replies", "timer")

    def __init__(self, commands: Sequence[Command], future: asyncio.Future[list[object]]) -> None:
        self.commands = commands
        self.packed = b"".join([_packed(command) for command in commands])
        self.future = future
        self.replies: list[object] = []
        self.timer: asyncio.TimerHandle | None = None

    def end(self, problem: Exception | None = None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.future.done():
            return  # the caller went away
        if problem is None:
            self.future.set_result(self.replies)
        else:
            self.future.set_exception(problem)
            self.future.exception()  # no complaint if the caller goes away at this very moment


class LeanConnection(asyncio.Protocol):
    """Takes calls from the moment it is made; they go out once it is connected."""

    def __init__(self, address: LeanAddress, *, patience_s: float) -> None:
        """Begin to connect.

        Args:
            address: Where to.
            patience_s: A call that had this long and was not answered ends the connection.
        """
        self._address = address
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=ProtocolDoubt, replyError=ResponseError, notEnoughData=_INCOMPLETE
        )
        self._bounds = ReplyBounds()
        self._unsent: list[_Call] = []
        self._calls: deque[_Call] = deque()  # that were sent, in this order
        self._transport: asyncio.WriteTransport | None = None
        self._ended: Exception | None = None
        self._greetings = deque(address.greeting())
        self._may_send = asyncio.Event()
        self._connecting = asyncio.create_task(self._connect(), name="cache-connect")

    @property
    def is_usable(self) -> bool:
        return self._ended is None

    @property
    def waiting(self) -> int:
        """Calls whose replies have not come, those included whose caller went away."""
        return len(self._calls) + len(self._unsent)

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The replies, from one round trip.

        Raises:
            NoTurn: too many calls are on their way.
            TimeoutError: they took longer than `bound_s`.
            ConnectionError: the connection ended.
            ProtocolDoubt: it ended because of what came over it.
        """
        if self._ended is not None:
            raise self._ended
        if self.waiting >= _CALLS_LIMIT:
            raise NoTurn(f"{_CALLS_LIMIT} calls are under way")
        call = _Call(commands, self._loop.create_future())
        if not self._unsent and self._may_send.is_set():
            self._loop.call_soon(self._flush)
        self._unsent.append(call)
        call.timer = self._loop.call_later(bound_s / STEPS, self._step, call, bound_s, STEPS - 1)
        return await call.future

    def close(self, why: Exception | None = None) -> None:
        """End the connection and every call on it."""
        if self._ended is not None:
            return
        self._ended = why or ConnectionError("closed")
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        calls = [*self._calls, *self._unsent]
        self._calls.clear()
        self._unsent.clear()
        for call in calls:
            call.end(self._ended)

    async def wait_closed(self) -> None:
        """Return when nothing of a closed connection is left in the event loop."""
        await asyncio.gather(self._connecting, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes its socket on the next turn

    # --- asyncio.Protocol ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            # What it has read it may keep for a while, and counts it.
            held = self._reader.len() if self._reader.has_data() else 0
            if not self._bounds.allow(data, held=held):
                raise ProtocolDoubt("a reply that nobody can have asked for")
            self._reader.feed(data)
            while self._ended is None and (reply := self._reader.gets()) is not _INCOMPLETE:
                self._take(reply)
        except ProtocolDoubt as doubt:
            self.close(doubt)
        except MemoryError:
            self.close(ProtocolDoubt("a reply larger than memory"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(ConnectionError(f"the connection ended: {exc}" if exc else "the server left"))

    # --- how it goes --------------------------------------------------------------------

    async def _connect(self) -> None:
        address = self._address
        try:
            async with asyncio.timeout(address.connect_timeout_s):
                if address.path is not None:
                    await self._loop.create_unix_connection(lambda: self, address.path)
                else:
                    await connected(address.host, self._connect_to)
                await self._may_send.wait()
        except TimeoutError:
            self.close(ConnectionError("no connection within the connect timeout"))
        except Exception as problem:  # a host name can also fail to be encoded
            self.close(ConnectionError(f"no connection: {problem}"))

    async def _connect_to(self, host: str) -> None:
        await self._loop.create_connection(lambda: self, host, self._address.port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.WriteTransport, transport)
        if self._ended is not None:
            transport.abort()
            return
        # Nothing else goes out before these are accepted: it would be done in
        # the name of another user, or in another database.
        transport.write(b"".join(_packed(command) for command in self._greetings))
        if not self._greetings:
            self._begin()

    def _begin(self) -> None:
        self._may_send.set()
        self._flush()

    def _be_greeted(self, reply: object) -> None:
        command = self._greetings.popleft()
        if isinstance(reply, Exception):
            self.close(ConnectionError(f"{command[0]!s} is refused: {reply}"))
        elif not self._greetings:
            self._begin()

    def _flush(self) -> None:
        calls = [call for call in self._unsent if not call.future.done()]
        self._unsent.clear()
        if calls and self._transport is not None:
            self._calls.extend(calls)
            self._transport.write(b"".join([call.packed for call in calls]))

    def _take(self, reply: object) -> None:
        if self._greetings:
            self._be_greeted(reply)
            return
        if not self._calls:
            raise ProtocolDoubt("a reply that nobody waits for")
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) == len(call.commands):
            check_replies(call.commands, call.replies)
            self._calls.popleft()
            call.end()

    def _step(self, call: _Call, bound_s: float, steps_left: int) -> None:
        """Steps and not one timer, for the reasons that `patience` gives."""
        if call.future.done():
            return
        if steps_left:
            step_s = bound_s / STEPS
            call.timer = self._loop.call_later(step_s, self._step, call, bound_s, steps_left - 1)
            return
        call.end(TimeoutError())
        # A connection that is not there yet has its own time limit: one that takes
        # longer to make than a lookup may last would otherwise never be made.
        if bound_s >= self._patience_s and self._may_send.is_set():
            self.close(ConnectionError("the server did not answer in time"))


def _packed(command: Command) -> bytes:
    # The stub knows tuples of one word only.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
