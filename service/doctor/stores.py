"""Cache and event stores: the embedded Valkey, or the servers that the settings name."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from redis.exceptions import AuthenticationError, RedisError

from service.clock import SystemClock
from service.doctor.findings import Finding, ok, problem
from service.doctor.servers import Role, bounded, server_findings
from service.errors import StartupError
from service.settings import Settings
from service.stores import EmbeddedStores, cluster_clients, events_client, redacted

_ANSWER_LIMIT_S, _LOOK_LIMIT_S = 2.0, 10.0


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
    """Each server that the settings name, for what is kept there."""
    redis, found = settings.redis, list[Finding]()
    cache = Role(name="cache", limit_s=settings.cache.timeout_s)
    events = Role(name="events", limit_s=settings.events.timeout_s)
    if redis.url is not None:
        shares = redis.events_url in {None, redis.url}
        found += await _server("redis.url", redis.url, settings, [cache, events][: 1 + shares])
    if redis.events_url not in {None, redis.url}:
        found += await _server("redis.events_url", str(redis.events_url), settings, [events])
    return found


async def _server(
    setting: str, url: str, settings: Settings, roles: Sequence[Role]
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
    clock = SystemClock()
    looks = [server_findings(setting, shown, client, roles, clock) for client in clients]
    try:
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            await asyncio.gather(*(client.ping() for client in clients))
        told = await asyncio.gather(*(bounded(look, _LOOK_LIMIT_S) for look in looks))
        # The nodes of a cluster are set up alike: each thing is told once.
        return list(dict.fromkeys(chain.from_iterable(told)))
    except (RedisError, OSError, TimeoutError) as error:
        if _is_locked(error):
            advice = f"correct user and password of {setting}"
            return [problem(setting, f"{shown} does not let us in: {error}", advice)]
        # Sentinel's goes on with each client and all of its options.
        reason = str(error).partition(" : <")[0]
        found = f"{shown} does not answer ({type(error).__name__}: {reason})"
        return [problem(setting, found, f"start it, or correct {setting}")]
    finally:
        for client in clients:
            await client.aclose()


def _is_locked(error: BaseException | None) -> bool:
    """Whether it is about user or password; redis-py wraps what it says while it connects."""
    while error is not None:
        if isinstance(error, AuthenticationError):
            return True
        error = error.__cause__ or error.__context__
    return False
