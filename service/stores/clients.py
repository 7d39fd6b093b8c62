"""Redis clients that fail fast: no retries, bounded connects, no secrets in messages."""

from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StartupError
from service.settings import EventSettings, RedisSettings
from service.stores.connections import BoundedParser, prepare
from service.stores.sentinels import MasterPool, Sentinels
from service.stores.url import NOT_A_URL, StoreUrl, redacted, store_url

_EVENTS_POOL_SIZE = 16

_Pool = TypeVar("_Pool", bound=ConnectionPool)


class _BlockingMasterPool(MasterPool, BlockingConnectionPool):
    """A `MasterPool` where callers wait for a connection."""


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
        "parser_class": BoundedParser,
    }
    if parsed.kind == "sentinel":
        return _master_client(MasterPool, parsed, redis, "redis.url", options)
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
        prepare(pool)
    except (ValueError, TypeError, OSError, RedisError) as problem:
        raise _unusable(setting, url, problem) from None
    return Redis.from_pool(pool)


def _master_client(
    pool_class: type[MasterPool],
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
        sentinels = Sentinels(parsed.hosts, sentinel_kwargs=to_sentinels)  # type: ignore[no-untyped-call]
        for sentinel in sentinels.sentinels:
            sentinel.connection_pool.connection_kwargs["parser_class"] = BoundedParser
            prepare(sentinel.connection_pool)
        tls = SentinelManagedSSLConnection
        pool = pool_class(
            parsed.service,
            sentinels,
            connection_class=tls if parsed.is_tls else SentinelManagedConnection,
            **known,
            **options,
        )
        prepare(pool)
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


def _unusable(setting: str, url: str, problem: Exception) -> StartupError:
    # No text of a ValueError: it can quote a part of the password.
    why = NOT_A_URL if isinstance(problem, ValueError) else str(problem)
    return StartupError(f"{setting} {redacted(url)} cannot be used: {why}")
