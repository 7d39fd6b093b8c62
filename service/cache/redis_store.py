"""A line through redis-py: one server, found by address or by Sentinel, with or without TLS.

Every call holds one of `pool_size` slots and runs under one timer that covers
the wait for the slot, the connection and the commands (redis-py has a timer
for each; together they are half of a lookup's CPU time). The timer is patient
with a busy event loop: see `patience`. A call that it cuts off, or whose
replies cannot be right, costs its connection, so that what still arrives can
reach nobody else. One whose caller goes away is awaited to its end all the
same: new connections, for clients that disconnect by the thousand, would cost
everybody more than their replies. When so many are under way that these alone take
longer than the next may, it gets no turn at all: it would wait in vain, and keep
the event loop from those that do not.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, ResponseError

from service.cache.link import (
    EPOCH,
    PROOFS,
    Command,
    NoTurn,
    check_proofs,
    check_replies,
    epoch_in,
)
from service.cache.patience import Patience

_CALL_S: Final = 0.0002
"""About what a call takes of this process's time, at best."""


class RedisLine:
    """Borrows a connection of a client's pool per call."""

    def __init__(self, client: Redis, *, pool_size: int) -> None:
        """Take a client of `service.stores.cache_client`; `close` closes it."""
        self._client = client
        self._pool = client.connection_pool
        self._slots = asyncio.Semaphore(pool_size)
        # Writes can wait and lookups cannot: most connections stay theirs.
        self.writes_at_once = max(1, pool_size // 4)
        self._calls: set[asyncio.Task[list[object]]] = set()
        self._lost = 0

    @property
    def under_way(self) -> int:
        return len(self._calls)

    @property
    def lost(self) -> int:
        return self._lost

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The replies, from one round trip."""
        if self._slots.locked() and len(self._calls) * _CALL_S >= bound_s:
            raise NoTurn(f"{len(self._calls)} calls are under way")
        call = asyncio.create_task(self._in_its_turn(commands, bound_s))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await asyncio.shield(call)

    async def look(self, bound_s: float) -> bytes | None:
        """The purge epoch, over a connection that lookups cannot hold."""
        async with Patience(bound_s):
            (reply,) = await self._on_a_connection([EPOCH])
            if isinstance(reply, Exception):
                # By now the name, or sentinels, may lead to another server.
                await self._pool.disconnect(inuse_connections=False)
        return epoch_in(reply)

    async def prove(self, bound_s: float) -> None:
        """Have the purge epoch read `PROOFS` times: not every user may send PING."""
        async with Patience(bound_s):
            check_proofs(await self._on_a_connection([EPOCH] * PROOFS))

    async def close(self) -> None:
        for call in (calls := [*self._calls]):
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.aclose()

    async def _in_its_turn(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        began: float | None = None
        loop = asyncio.get_running_loop()
        try:
            async with Patience(bound_s), self._slots:
                began = loop.time()
                return await self._on_a_connection(commands)
        except TimeoutError:
            if began is None or loop.time() - began < bound_s / 4:
                raise NoTurn("too many calls are under way") from None
            raise

    async def _on_a_connection(self, commands: Sequence[Command]) -> list[object]:
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            replies = [await _reply(connection) for _ in commands]
            check_replies(commands, replies)
            if any(isinstance(reply, ReadOnlyError) for reply in replies):
                await connection.disconnect(nowait=True)  # there may be another master
            return replies
        except BaseException:
            self._lost += 1
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)


async def _reply(connection: AbstractConnection) -> object:
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal
