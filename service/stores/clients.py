"""Redis clients that fail fast: no retries, bounded connects, no secrets in messages."""

import re
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StartupError
from service.settings import EventSettings, RedisSettings

_EVENTS_POOL_SIZE = 16
_NOT_A_URL = (
    "a URL looks like redis://user:password@host:6379/0, rediss:// (TLS) or unix:///path, "
    "with special characters of the password percent-encoded"
)

_Pool = TypeVar("_Pool", bound=ConnectionPool)


def cache_client(url: str, redis: RedisSettings) -> Redis:
    """A client for the cache server; `RedisScoreCache` bounds its commands.

    It has no command timeout and no wait for a connection of its own: the cache
    covers both with one timer, at half the CPU time per lookup.

    Raises:
        StartupError: the URL cannot be used.
    """
    # One connection more than lookups and writes may hold, so that the look at
    # the server gets through when they all are taken.
    return _client(
        ConnectionPool,
        url,
        setting="redis.url",
        max_connections=redis.pool_size + 1,
        socket_timeout=None,
        socket_connect_timeout=redis.connect_timeout_s,
    )


def events_client(url: str, redis: RedisSettings, events: EventSettings) -> Redis:
    """A client for the event server: one command, or the wait for a connection, is bounded.

    Raises:
        StartupError: the URL cannot be used.
    """
    return _client(
        BlockingConnectionPool,
        url,
        setting="redis.events_url",
        max_connections=_EVENTS_POOL_SIZE,
        timeout=events.timeout_s,
        socket_timeout=events.timeout_s,
        socket_connect_timeout=redis.connect_timeout_s,
    )


def redacted(url: str) -> str:
    """The URL as it may appear in logs and on pages: without its passwords.

    Works on the text, as a password with an unescaped slash or hash makes a URL
    that parses into the wrong parts.
    """
    shown = re.sub(r"(password=)[^&]*", r"\1***", url)
    # Everything from the first colon of the credentials to the last @.
    return re.sub(r"^([^:]*://[^:@]*):.*@", r"\1:***@", shown, flags=re.DOTALL)


def _client(pool_class: type[_Pool], url: str, *, setting: str, **options: object) -> Redis:
    try:
        pool = pool_class.from_url(
            url,
            # By default redis-py tries 10 times more: a timeout of 20 ms becomes 4 s.
            retry=Retry(NoBackoff(), 0),
            # RESP3 costs a round trip more per connection and saves nothing here,
            # nor does telling the server our name.
            protocol=2,
            driver_info=None,
            **options,
        )
        # Options in the URL are only looked at when a connection is made.
        connection = pool.make_connection()  # type: ignore[no-untyped-call]
        if isinstance(connection, SSLConnection):
            _share_tls_context(pool, connection)
    except (ValueError, TypeError, OSError, RedisError) as problem:
        # `from None`, and no text of a ValueError: it can quote a part of the password.
        why = _NOT_A_URL if isinstance(problem, ValueError) else str(problem)
        raise StartupError(f"{setting} {redacted(url)} cannot be used: {why}") from None
    return Redis.from_pool(pool)


def _share_tls_context(pool: ConnectionPool, first: SSLConnection) -> None:
    """Load certificates once per pool.

    redis-py does it once per connection, 20-35 ms on the event loop each: a
    lookup that needs a new connection would never be in time.
    """
    shared = first.ssl_context
    shared.get()

    class SharedContextConnection(SSLConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context = shared

    pool.connection_class = SharedContextConnection
