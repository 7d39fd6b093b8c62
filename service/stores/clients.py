"""Redis clients that fail fast: no retries, bounded connects, no secrets in messages."""

from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StartupError
from service.settings import EventSettings, RedisSettings
from service.stores.url import NOT_A_URL, StoreUrl, redacted, store_url

_EVENTS_POOL_SIZE = 16

_Pool = TypeVar("_Pool", bound=ConnectionPool)


class _MasterPool(SentinelConnectionPool):
    """Connections to whatever sentinels say is the master; closes those to sentinels as well."""

    sentinel_manager: Sentinel

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class _BlockingMasterPool(_MasterPool, BlockingConnectionPool):
    """The same, where callers wait for a connection."""


def cache_client(url: str, redis: RedisSettings) -> Redis:
    """A client for the cache server; `service.cache.redis_store` bounds its commands.

    It has no command timeout and no wait for a connection of its own: the store
    covers both with one timer, at half the CPU time per lookup.

    Raises:
        StartupError: the URL cannot be used, or names a cluster: see `cluster_clients`.
    """
    parsed = store_url(url, setting="redis.url", cluster=redis.cluster)
    if parsed.kind == "cluster":
        raise StartupError(
            f"redis.url {redacted(url)} names a cluster where only one server is of use"
        )
    return _cache_client(parsed, redis)


def node_client(parsed: StoreUrl, host: str, port: int, redis: RedisSettings) -> Redis:
    """The same for one node of a cluster."""
    return _cache_client(StoreUrl(kind="server", template=parsed.at(host, port)), redis)


def cluster_clients(url: str, redis: RedisSettings) -> tuple[Redis, ...]:
    """A client for each server that the URL of the cache server, or its cluster, names.

    Raises:
        StartupError: the URL cannot be used.
    """
    parsed = store_url(url, setting="redis.url", cluster=redis.cluster)
    if parsed.kind != "cluster":
        return (_cache_client(parsed, redis),)
    return tuple(node_client(parsed, host, port, redis) for host, port in parsed.hosts)


def events_client(url: str, redis: RedisSettings, events: EventSettings) -> Redis:
    """A client for the event server: one command, or the wait for a connection, is bounded.

    Raises:
        StartupError: the URL cannot be used.
    """
    setting = "redis.events_url"
    parsed = store_url(url, setting=setting, cluster=redis.cluster and url == redis.url)
    if parsed.kind == "cluster":
        raise StartupError(
            f"events cannot be kept in the cluster {redacted(url)}: "
            "set redis.events_url to one server, or to sentinels"
        )
    options = {
        "max_connections": _EVENTS_POOL_SIZE,
        "timeout": events.timeout_s,
        "socket_timeout": events.timeout_s,
        "socket_connect_timeout": redis.connect_timeout_s,
    }
    if parsed.kind == "sentinel":
        return _master_client(_BlockingMasterPool, parsed, redis, setting, options)
    return _client(BlockingConnectionPool, parsed, redis, setting, options)


def _cache_client(parsed: StoreUrl, redis: RedisSettings) -> Redis:
    options: dict[str, object] = {
        # One connection more than lookups and writes may hold, so that the look
        # at the server gets through when they all are taken.
        "max_connections": redis.pool_size + 1,
        "socket_timeout": None,
        "socket_connect_timeout": redis.connect_timeout_s,
    }
    if parsed.kind == "sentinel":
        return _master_client(_MasterPool, parsed, redis, "redis.url", options)
    return _client(ConnectionPool, parsed, redis, "redis.url", options)


def _client(
    pool_class: type[_Pool],
    parsed: StoreUrl,
    redis: RedisSettings,
    setting: str,
    options: dict[str, Any],
) -> Redis:
    url = parsed.template
    try:
        pool = pool_class.from_url(url, **_tls(parsed, redis), **_every(), **options)
        _try_options(pool)
    except (ValueError, TypeError, OSError, RedisError) as problem:
        raise _unusable(setting, url, problem) from None
    return Redis.from_pool(pool)


def _master_client(
    pool_class: type[_MasterPool],
    parsed: StoreUrl,
    redis: RedisSettings,
    setting: str,
    options: dict[str, Any],
) -> Redis:
    url = parsed.at(*parsed.hosts[0])
    try:
        known = dict(parse_url(url)) | _tls(parsed, redis) | _every()
        for name in ("host", "port", "connection_class"):
            known.pop(name, None)
        to_sentinels = {
            **_every(),
            **_tls(parsed, redis),
            "ssl": parsed.is_tls,
            "username": parsed.sentinel_username,
            "password": parsed.sentinel_password,
            "socket_timeout": redis.connect_timeout_s,
            "socket_connect_timeout": redis.connect_timeout_s,
        }
        sentinels = Sentinel(parsed.hosts, sentinel_kwargs=to_sentinels)  # type: ignore[no-untyped-call]
        tls = SentinelManagedSSLConnection
        pool = pool_class(
            parsed.service,
            sentinels,
            connection_class=tls if parsed.is_tls else SentinelManagedConnection,
            **known,
            **options,
        )
        _try_options(pool)
    except (ValueError, TypeError, OSError, RedisError) as problem:
        raise _unusable(setting, url, problem) from None
    return Redis.from_pool(pool)


def _every() -> dict[str, Any]:
    return {
        # By default redis-py tries 10 times more: a timeout of 20 ms becomes 4 s.
        "retry": Retry(NoBackoff(), 0),
        # RESP3 costs a round trip more per connection and saves nothing here,
        # nor does telling the server our name.
        "protocol": 2,
        "driver_info": None,
    }


def _tls(parsed: StoreUrl, redis: RedisSettings) -> dict[str, Any]:
    """What the settings say of certificates; options in the URL go before."""
    if not parsed.is_tls:
        return {}
    given = {
        "ssl_ca_certs": redis.tls_ca,
        "ssl_certfile": redis.tls_cert,
        "ssl_keyfile": redis.tls_key,
    }
    return {
        name: file for name, file in given.items() if file and f"{name}=" not in parsed.template
    }


def _try_options(pool: ConnectionPool) -> None:
    """Make a connection object, which is when options of the URL are looked at."""
    connection = pool.make_connection()  # type: ignore[no-untyped-call]
    if isinstance(connection, SSLConnection):
        _share_tls_context(pool, connection)


def _unusable(setting: str, url: str, problem: Exception) -> StartupError:
    # No text of a ValueError: it can quote a part of the password.
    why = NOT_A_URL if isinstance(problem, ValueError) else str(problem)
    return StartupError(f"{setting} {redacted(url)} cannot be used: {why}")


def _share_tls_context(pool: ConnectionPool, first: SSLConnection) -> None:
    """Load certificates once per pool.

    redis-py does it once per connection, 20-35 ms on the event loop each: a
    lookup that needs a new connection would never be in time.
    """
    shared = first.ssl_context
    shared.get()

    class SharedContextConnection(type(first)):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context = shared

    pool.connection_class = SharedContextConnection
