"""A line without redis-py: three connections to a standalone server, each shared by many calls.

One is for lookups. Writes have their own: a server may hold them up and answer
lookups all the same (CLIENT PAUSE WRITE). So have looks, as the others end with
the first call that is not answered in time. A connection that ends is replaced
by the next call or look, whichever comes first; how often that is tried while
the server is away is the breaker's matter. Every look checks that they are in
step: an answer that is not the echo of what was just sent ends the connection.
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

from redis.exceptions import ResponseError

from service.cache.lean_connection import LeanAddress, LeanConnection
from service.cache.link import EPOCH, PROOFS, Command, ProtocolDoubt, check_proofs, epoch_in

_READS: Final = frozenset({"GET", "MGET"})
_WRITES_AT_ONCE: Final = 256


class LeanLine:
    """Calls to one server over one `LeanConnection` after the other."""

    writes_at_once = _WRITES_AT_ONCE

    def __init__(self, address: LeanAddress, *, patience_s: float) -> None:
        """Nothing is opened before the first call.

        Args:
            address: Where to.
            patience_s: A call that had this long and was not answered costs the connection.
        """
        self._address = address
        self._patience_s = patience_s
        self._lookups: LeanConnection | None = None
        self._writes: LeanConnection | None = None
        self._looks: LeanConnection | None = None
        self._opened = 0
        self._under_way = 0
        self._numbers = itertools.count()

    @property
    def under_way(self) -> int:
        waiting = (one.waiting for one in (self._lookups, self._writes) if one is not None)
        return max(self._under_way, sum(waiting))

    @property
    def lost(self) -> int:
        return self._opened - len(self._in_use())

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The replies, from one round trip."""
        if commands[0][0] in _READS:
            connection = self._lookups = self._usable(self._lookups)
        else:
            connection = self._writes = self._usable(self._writes)
        self._under_way += 1
        try:
            replies = await connection.run(commands, bound_s)
        finally:
            self._under_way -= 1
        if connection is self._writes and any(_is_read_only(reply) for reply in replies):
            connection.close()  # the name may lead to another master by now
        return replies

    async def look(self, bound_s: float) -> bytes | None:
        """The purge epoch, after a check of the connections."""
        lookups = self._lookups = self._usable(self._lookups)
        looks = self._looks = self._usable(self._looks)
        checked = [lookups] if self._writes is None else [lookups, self._writes]
        epoch, *_ = await asyncio.gather(
            self._in_step(looks, bound_s, EPOCH),
            *(self._in_step(one, bound_s) for one in checked if one.is_usable),
            return_exceptions=True,
        )
        if isinstance(epoch, ResponseError):  # the name may lead to another server by now
            for connection in self._in_use():
                connection.close()
        if isinstance(epoch, BaseException):
            raise epoch
        return epoch_in(epoch)

    async def prove(self, bound_s: float) -> None:
        """Have `PROOFS` words echoed over the connection of lookups."""
        lookups = self._lookups = self._usable(self._lookups)
        await self._echoed(lookups, bound_s, PROOFS)

    async def close(self) -> None:
        for connection in (self._lookups, self._writes, self._looks):
            if connection is not None:
                connection.close()
                await connection.wait_closed()

    async def _in_step(
        self, connection: LeanConnection, bound_s: float, *commands: Command
    ) -> object:
        """The reply to a command behind an echo, or None.

        Raises:
            Exception: as of `_echoed`.
        """
        (reply,) = await self._echoed(connection, bound_s, 1, *commands) or [None]
        return reply

    async def _echoed(
        self, connection: LeanConnection, bound_s: float, times: int, *commands: Command
    ) -> list[object]:
        """The replies to commands behind so many echoes; ends a connection that does not echo.

        Raises:
            ProtocolDoubt: it does not.
            Exception: as of `run`, or most echoes are refused.
        """
        words = [b"in step %d" % next(self._numbers) for _ in range(times)]
        pings: list[Command] = [("PING", word) for word in words]
        replies = await connection.run([*pings, *commands], bound_s)
        echoes = replies[:times]
        check_proofs(echoes)
        for word, echo in zip(words, echoes, strict=True):
            if echo != word and not isinstance(echo, Exception):
                doubt = ProtocolDoubt("the connection was out of step")
                connection.close(doubt)
                raise doubt
        return replies[times:]

    def _in_use(self) -> list[LeanConnection]:
        every = (self._lookups, self._writes, self._looks)
        return [one for one in every if one is not None and one.is_usable]

    def _usable(self, connection: LeanConnection | None) -> LeanConnection:
        if connection is not None and connection.is_usable:
            return connection
        self._opened += 1
        return LeanConnection(self._address, patience_s=self._patience_s)


def _is_read_only(reply: object) -> bool:
    return isinstance(reply, Exception) and str(reply).startswith("READONLY ")
