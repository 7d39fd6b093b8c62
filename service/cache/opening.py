"""From a URL and settings to a `ScoreStore`: which client talks to the servers."""

import random
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import parse_url

from service.cache.cluster import ClusterLink
from service.cache.guarded_store import GuardedStore
from service.cache.lean_connection import LeanAddress
from service.cache.lean_store import LeanLine
from service.cache.link import Link, OneServer
from service.cache.redis_store import RedisLine
from service.cache.watched import Watched, unwatched
from service.clock import Clock
from service.errors import StartupError
from service.settings import CacheSettings, RedisSettings
from service.stores import StoreUrl, cache_client, redacted, store_url

_LEAN_OPTIONS = {"path", "host", "port", "username", "password", "db"}


def score_store(
    url: str,
    *,
    cache: CacheSettings,
    redis: RedisSettings,
    clock: Clock,
    jitter: Callable[[], float] = random.random,
    watched: Watched = unwatched,
) -> GuardedStore:
    """The store at a URL, not started yet; nothing is opened before `start`.

    Args:
        url: `redis.url`, or that of the embedded server.
        cache: Its time limit and breaker.
        redis: Which client, and how it connects.
        clock: For the breaker and the age of the purge epoch.
        jitter: Draws from [0, 1).
        watched: Makes a context around each command, for telemetry.

    Raises:
        StartupError: the URL cannot be used, or not with this client.
    """
    parsed = store_url(url, setting="redis.url", cluster=redis.cluster)
    link = _link(url, parsed, cache, redis, clock, jitter)
    return GuardedStore(link, cache=cache, redis=redis, clock=clock, jitter=jitter, watched=watched)


def _link(
    url: str,
    parsed: StoreUrl,
    cache: CacheSettings,
    redis: RedisSettings,
    clock: Clock,
    jitter: Callable[[], float],
) -> Link:
    address = None if redis.client == "redis-py" else _lean_address(parsed, redis)
    if redis.client == "lean" and address is None:
        raise StartupError(
            f'redis.client = "lean" talks to one server at a plain redis:// or unix:// URL, and '
            f'redis.url is {redacted(url)}: set redis.client to "auto"'
        )
    if address is not None:
        return OneServer("lean", LeanLine(address, patience_s=cache.timeout_s / 4))
    if parsed.kind == "cluster":
        return ClusterLink(parsed, cache=cache, redis=redis, clock=clock, jitter=jitter)
    return OneServer("redis-py", RedisLine(cache_client(url, redis), pool_size=redis.pool_size))


def _lean_address(parsed: StoreUrl, redis: RedisSettings) -> LeanAddress | None:
    """For the lean client, if it can do what the URL asks for.

    Raises:
        StartupError: nobody can.
    """
    if parsed.kind != "server" or parsed.is_tls:
        return None
    cache_client(parsed.template, redis)  # refuses what is no URL, and connects to nothing
    given: dict[str, Any] = {**parse_url(parsed.template)}
    given.pop("connection_class", None)
    if not given.keys() <= _LEAN_OPTIONS:
        return None
    database = int(given.pop("db", 0) or 0)
    return LeanAddress(**given, database=database, connect_timeout_s=redis.connect_timeout_s)
