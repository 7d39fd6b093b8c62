"""Cache and event stores: the embedded Valkey, or the servers that the settings name."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.doctor.findings import Finding, note, ok, problem
from service.errors import StartupError
from service.settings import Settings
from service.stores import (
    EmbeddedStores,
    cache_server_problems,
    cluster_clients,
    events_client,
    events_server_problems,
    redacted,
)

_ANSWER_LIMIT_S = 2.0


def store_findings(settings: Settings) -> Iterator[Finding]:
    """Start what Podium would run itself, and reach what it would not."""
    with tempfile.TemporaryDirectory(prefix="podium-doctor-") as directory:
        yield from asyncio.run(_embedded(settings, Path(directory)))
    yield from asyncio.run(_named(settings))


async def _embedded(settings: Settings, directory: Path) -> list[Finding]:
    """Nothing where the settings name all servers."""
    stores = EmbeddedStores(
        directory, redis=settings.redis, max_memory_mb=settings.cache.max_memory_mb
    )
    names = ", ".join(server.name for server in stores.status())
    if not names:
        return []
    try:
        async with stores:
            return [ok("embedded Valkey", f"starts and answers ({names})")]
    except StartupError as error:
        found, _, advice = str(error).rpartition("; ")
        return [problem("embedded Valkey", found, advice)]


async def _named(settings: Settings) -> list[Finding]:
    redis, found = settings.redis, list[Finding]()
    if redis.url is not None:
        found += await _server("redis.url", redis.url, settings, cache_server_problems)
    if redis.events_url is not None:
        found += await _server("redis.events_url", redis.events_url, settings, _events_problems)
    return found


async def _events_problems(client: Redis) -> tuple[str, ...]:
    return await events_server_problems(client)


async def _server(
    setting: str,
    url: str,
    settings: Settings,
    problems: Callable[[Redis], Awaitable[tuple[str, ...]]],
) -> list[Finding]:
    shown = redacted(url)
    try:
        clients = (
            cluster_clients(url, settings.redis)
            if setting == "redis.url"
            else (events_client(url, settings.redis, settings.events),)
        )
    except StartupError as error:
        return [problem(setting, str(error), f"correct {setting}")]
    try:
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            await asyncio.gather(*(client.ping() for client in clients))
        told = await asyncio.gather(*(problems(client) for client in clients))
        # The nodes of a cluster are set up alike: each problem is told once.
        notes = [note(setting, one) for one in dict.fromkeys(chain.from_iterable(told))]
        return [ok(setting, f"{shown} answers"), *notes]
    except (RedisError, OSError, TimeoutError) as error:
        found = f"{shown} does not answer ({type(error).__name__}: {error})"
        return [problem(setting, found, f"start it, or correct {setting}")]
    finally:
        for client in clients:
            await client.aclose()
