"""What connections of redis-py do for us besides: find hosts, share certificates, bound replies."""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.connection import Connection, DefaultParser, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from service.stores.names import connected
from service.stores.replies import ReplyBounds


class BoundedParser(DefaultParser):  # type: ignore[misc, valid-type]
    """hiredis behind `ReplyBounds`."""

    def on_connect(self, connection: Connection | UnixDomainSocketConnection) -> None:
        super().on_connect(connection)
        self._bounds = ReplyBounds()

    async def read_from_socket(self) -> bool:
        """Hand on what came; as the class above, which has no place to look at it between."""
        data = await self._stream.read(self._read_size)
        if not data:
            raise RedisConnectionError("the server left")
        # What it has read it may keep for a while, and counts it.
        held = self._reader.len() if self._reader.has_data() else 0
        if not self._bounds.allow(data, held=held):
            raise InvalidResponse("a reply that nobody can have asked for")
        self._reader.feed(data)
        return True


def prepare(pool: ConnectionPool) -> None:
    """Let a pool make connections as we need them.

    Raises:
        Exception: an option of the URL is no use; whatever redis-py raises then.
    """
    first = pool.make_connection()  # type: ignore[no-untyped-call]
    kind = type(first)
    if isinstance(first, Connection):
        kind = _by_name(kind)
    if isinstance(first, SSLConnection):
        kind = _with_shared_context(kind, first)
    pool.connection_class = kind


def _by_name(kind: type[Connection]) -> type[Connection]:
    """Hosts are looked up in threads that nobody waits for: see `names`."""

    class ConnectionByName(kind):  # type: ignore[misc, valid-type]
        _address = ""

        async def _connect(self) -> None:
            async with asyncio.timeout(self.socket_connect_timeout):
                await connected(self.host, self._connect_to)

        async def _connect_to(self, address: str) -> None:
            self._address = address
            await super()._connect()

        def _connection_arguments(self) -> dict[str, Any]:
            given = super()._connection_arguments()
            # Certificates are for names.
            of_tls = {"server_hostname": self.host} if "ssl" in given else {}
            return {**given, **of_tls, "host": self._address}

    return ConnectionByName


def _with_shared_context(kind: type[Connection], first: SSLConnection) -> type[Connection]:
    """Load certificates once per pool.

    redis-py does it once per connection, 20-35 ms on the event loop each: a
    lookup that needs a new connection would never be in time.
    """
    shared = first.ssl_context
    shared.get()

    class SharedContextConnection(kind):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context = shared

    return SharedContextConnection
