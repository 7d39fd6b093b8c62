"""What carries commands to the cache servers: the border below `guarded_store`.

A line leads to one server, a link to all of them. Both bound every call in
time and leave nothing behind of one that fails or is cancelled; unlike the
store above them they raise.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from service.cache.keys import EPOCH_KEY

Word = str | bytes | int
Command = tuple[Word, ...]
"""A command and its arguments; the key, if it has one, is the second word."""


class ProtocolDoubt(Exception):
    """A reply is not what can follow the command: nothing from this connection is believed."""


class NoTurn(Exception):
    """So many calls were under way that this one had no time left; says nothing of the server."""


class NodeFailed(Exception):
    """One of several servers failed or is left alone by its link; the others may well answer."""


class NodeTimedOut(NodeFailed, TimeoutError):
    """One of several servers did not answer in time."""


class Read(Struct, frozen=True):
    """Values by key, and what went wrong with some of them."""

    values: Sequence[bytes | None]
    """One per key; None: nothing there, or not known because of a problem."""
    problems: Sequence[Exception] = ()


PROOFS = 20
"""Replies in a row that a server must give in time to be believed: one of which every tenth reply
is late or spoiled gives them once in eight times."""


class Line(Protocol):
    """To one server."""

    @property
    def under_way(self) -> int:
        """Calls that hold a connection or wait for a reply."""
        ...

    @property
    def lost(self) -> int:
        """Connections given up so far."""
        ...

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The reply to each command, in order; a refused command's is a `ResponseError`.

        Raises:
            NoTurn: too many calls are under way.
            Exception: no or no sensible answer, whatever the client library calls it.
        """
        ...

    @property
    def writes_at_once(self) -> int:
        """Calls that write, of which so many under way keep no lookup waiting."""
        ...

    async def look(self, bound_s: float) -> bytes | None:
        """The purge epoch as the server keeps it, after a check of the connections."""
        ...

    async def prove(self, bound_s: float) -> None:
        """Have the server give `PROOFS` replies where lookups go, in the time that one has.

        Raises:
            Exception: a reply was late or wrong, or most were refusals.
        """
        ...

    async def close(self) -> None: ...


class Link(Protocol):
    """To all servers of one store."""

    @property
    def name(self) -> str:
        """What talks to them: lean, redis-py."""
        ...

    @property
    def under_way(self) -> int: ...

    @property
    def lost(self) -> int: ...

    async def read(self, keys: Sequence[str], bound_s: float) -> Read:
        """Values of keys, of which there is at least one.

        Raises:
            Exception: nothing is known of any.
        """
        ...

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """As of a line; of one of several servers that fails every reply is a `NodeFailed`."""
        ...

    @property
    def writes_at_once(self) -> int:
        """As of a line."""
        ...

    async def look(self, bound_s: float) -> bytes | None:
        """As of a line."""
        ...

    async def prove(self, bound_s: float) -> None:
        """As of a line; of one of several servers at least."""
        ...

    async def close(self) -> None: ...


class OneServer:
    """A link of a single line: one GET or MGET per read."""

    def __init__(self, name: str, line: Line) -> None:
        self.name = name
        self._line = line

    @property
    def under_way(self) -> int:
        return self._line.under_way

    @property
    def lost(self) -> int:
        return self._line.lost

    async def read(self, keys: Sequence[str], bound_s: float) -> Read:
        if len(keys) == 1:
            (reply,) = await self._line.run([("GET", keys[0])], bound_s)
            return read_of([reply])
        (reply,) = await self._line.run([("MGET", *keys)], bound_s)
        if isinstance(reply, Exception):
            raise reply
        return Read(reply)  # type: ignore[arg-type]  # the line has checked what it is

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        return await self._line.run(commands, bound_s)

    @property
    def writes_at_once(self) -> int:
        return self._line.writes_at_once

    async def look(self, bound_s: float) -> bytes | None:
        return await self._line.look(bound_s)

    async def prove(self, bound_s: float) -> None:
        await self._line.prove(bound_s)

    async def close(self) -> None:
        await self._line.close()


_VALUE_TYPES = {bytes, type(None)}


def read_of(replies: Sequence[object]) -> Read:
    """Replies to GET, one per key."""
    values = [reply if type(reply) is bytes else None for reply in replies]
    return Read(values, refused(replies))


def refused(replies: Sequence[object]) -> list[Exception]:
    """What went wrong, where that came in the place of replies."""
    return [reply for reply in replies if isinstance(reply, Exception)]


def check_proofs(replies: Sequence[object]) -> None:
    """Take replies for a proof, unless most are refusals: a few of these cost nobody time.

    Raises:
        Exception: the first refusal.
    """
    refusals = refused(replies)
    if 2 * len(refusals) > len(replies):
        raise refusals[0]


def words_of(problem: Exception) -> str:
    """What went wrong, for people; never a password."""
    return f"{type(problem).__name__}: {problem}".removesuffix(": ")


def check_replies(commands: Sequence[Command], replies: Sequence[object]) -> None:
    """Refuse replies that these commands cannot have.

    Raises:
        ProtocolDoubt: the connection they came over is out of step.
    """
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception):
            continue
        if command[0] == "MGET":
            fits = (
                type(reply) is list
                and len(reply) == len(command) - 1
                and set(map(type, reply)) <= _VALUE_TYPES
            )
        elif command[0] == "GET":
            fits = reply is None or type(reply) is bytes
        elif command[0] == "SET":
            fits = reply is None or reply == b"OK"
        else:
            fits = isinstance(reply, list) == (command[0] == "CLUSTER")
        if not fits:
            raise ProtocolDoubt(f"the reply to {command[0]!s} cannot be one")


EPOCH: Command = ("GET", EPOCH_KEY)


def epoch_in(reply: object) -> bytes | None:
    """The reply to `EPOCH`, or what went wrong with it, raised."""
    if isinstance(reply, Exception):
        raise reply
    assert reply is None or isinstance(reply, bytes)
    return reply
