"""The client that only people's questions go through."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.settings import RedisSettings
from service.stores import StoreUrl, cache_client, store_url
from service.warming.server import CacheServer


@asynccontextmanager
async def open_cache_server(url: str, redis: RedisSettings) -> AsyncIterator[CacheServer]:
    """A way to the cache server beside that of the requests; connects when first asked.

    Raises:
        StartupError: the URL cannot be used.
    """
    parsed = store_url(url, setting="redis.url", cluster=redis.cluster)
    client: Redis | RedisCluster
    client = _cluster(parsed, redis) if parsed.kind == "cluster" else cache_client(url, redis)
    try:
        yield CacheServer(client)
    finally:
        await client.aclose()


def _cluster(parsed: StoreUrl, redis: RedisSettings) -> RedisCluster:
    files = {
        "ssl_ca_certs": redis.tls_ca,
        "ssl_certfile": redis.tls_cert,
        "ssl_keyfile": redis.tls_key,
    }
    tls: dict[str, Any] = {name: file for name, file in files.items() if file and parsed.is_tls}
    return RedisCluster.from_url(
        parsed.at(*parsed.hosts[0]),
        startup_nodes=[ClusterNode(host, port) for host, port in parsed.hosts],
        protocol=2,
        # Whoever asks can ask again; by default redis-py tries for seconds.
        retry=Retry(NoBackoff(), 1),
        socket_connect_timeout=redis.connect_timeout_s,
        **tls,
    )
