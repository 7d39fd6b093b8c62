"""Where a client's server is, as telemetry names it."""

from redis.asyncio import Redis

from service.settings import RedisSettings
from service.stores.clients import cluster_clients
from service.stores.url import store_url


def address_of(client: Redis) -> tuple[str, int | None, int]:
    """Host or socket path, port, and database, as spans name them."""
    options = client.connection_pool.connection_kwargs
    database = int(options.get("db") or 0)
    if "path" in options:
        return str(options["path"]), None, database
    return str(options.get("host", "localhost")), int(options.get("port", 6379)), database


def place_of(url: str, redis: RedisSettings) -> tuple[str, int | None, int]:
    """The same for the cache server at a URL; of several servers the first that is named.

    Raises:
        StartupError: the URL cannot be used.
    """
    parsed = store_url(url, setting="redis.url", cluster=redis.cluster)
    host, port, database = address_of(cluster_clients(url, redis)[0])
    return (*parsed.hosts[0], database) if parsed.hosts else (host, port, database)
