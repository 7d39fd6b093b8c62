"""Where a client's server is, as telemetry names it."""

from redis.asyncio import Redis


def address_of(client: Redis) -> tuple[str, int | None, int]:
    """Host or socket path, port, and database, as spans name them."""
    options = client.connection_pool.connection_kwargs
    database = int(options.get("db") or 0)
    if "path" in options:
        return str(options["path"]), None, database
    return str(options.get("host", "localhost")), int(options.get("port", 6379)), database
