"""A line without redis-py: all calls share one connection to a standalone server.

A connection that ends is replaced by the next call or look, whichever comes
first; how often that is tried while the server is away is the breaker's
matter. Looks have a connection of their own, as the shared one ends with the
first call that is not answered in time. Every look checks that both are in
step: an answer that is not the echo of what was just sent ends the connection.
"""

import asyncio
import itertools
from collections.abc import Sequence

from service.cache.lean_connection import LeanAddress, LeanConnection
from service.cache.link import EPOCH, Command, ProtocolDoubt, epoch_in


class LeanLine:
    """Calls to one server over one `LeanConnection` after the other."""

    def __init__(self, address: LeanAddress, *, patience_s: float) -> None:
        """Nothing is opened before the first call.

        Args:
            address: Where to.
            patience_s: A call that had this long and was not answered costs the connection.
        """
        self._address = address
        self._patience_s = patience_s
        self._shared: LeanConnection | None = None
        self._for_looks: LeanConnection | None = None
        self._opened = 0
        self._under_way = 0
        self._numbers = itertools.count()

    @property
    def under_way(self) -> int:
        waiting = self._shared.waiting if self._shared is not None else 0
        return max(self._under_way, waiting)

    @property
    def lost(self) -> int:
        in_use = sum(1 for one in (self._shared, self._for_looks) if one and one.is_usable)
        return self._opened - in_use

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The replies, from one round trip."""
        shared = self._shared = self._usable(self._shared)
        self._under_way += 1
        try:
            return await shared.run(commands, bound_s)
        finally:
            self._under_way -= 1

    async def look(self, bound_s: float) -> bytes | None:
        """The purge epoch, after a check of the connections."""
        shared = self._shared = self._usable(self._shared)
        for_looks = self._for_looks = self._usable(self._for_looks)
        epoch, _ = await asyncio.gather(
            self._in_step(for_looks, bound_s, EPOCH),
            self._in_step(shared, bound_s),
            return_exceptions=True,
        )
        if isinstance(epoch, BaseException):
            raise epoch
        return epoch_in(epoch)

    async def close(self) -> None:
        for connection in (self._shared, self._for_looks):
            if connection is not None:
                connection.close()
                await connection.wait_closed()

    async def _in_step(
        self, connection: LeanConnection, bound_s: float, command: Command | None = None
    ) -> object:
        """The reply to a command, or None; ends a connection that does not echo.

        Raises:
            ProtocolDoubt: it does not.
            Exception: as of `run`.
        """
        nonce = b"in step %d" % next(self._numbers)
        echo, *replies = await connection.run(
            [("PING", nonce), *([command] if command else [])], bound_s
        )
        if isinstance(echo, Exception):
            raise echo
        if echo != nonce:
            doubt = ProtocolDoubt("the connection was out of step")
            connection.close(doubt)
            raise doubt
        return replies[0] if replies else None

    def _usable(self, connection: LeanConnection | None) -> LeanConnection:
        if connection is not None and connection.is_usable:
            return connection
        self._opened += 1
        return LeanConnection(self._address, patience_s=self._patience_s)
