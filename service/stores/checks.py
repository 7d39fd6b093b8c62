"""Whether an external server is set up for what we keep in it.

Problems are told and never fatal: a server may be shared on purpose. One that
cannot be reached has none; that is the breaker's subject.
"""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from service.settings import RedisSettings
from service.stores.address import address_of
from service.stores.clients import cluster_clients

_CHECK_TIMEOUT_S = 1.0
_CACHE_ADVICE = "set maxmemory, and maxmemory-policy to allkeys-lfu"
_EVENTS_ADVICE = "set appendonly yes, appendfsync always and maxmemory-policy noeviction"


async def cache_problems(url: str, redis: RedisSettings) -> tuple[str, ...]:
    """What is wrong with the cache server at a URL, or with each that the URL names.

    Raises:
        StartupError: the URL cannot be used.
    """
    clients = cluster_clients(url, redis)
    try:
        told = await asyncio.gather(*(cache_server_problems(client) for client in clients))
    finally:
        for client in clients:
            await client.aclose()
    if len(clients) == 1:
        return told[0]
    places = [":".join(str(part) for part in address_of(client)[:2]) for client in clients]
    return tuple(
        f"{place}: {problem}"
        for place, problems in zip(places, told, strict=True)
        for problem in problems
    )


async def cache_server_problems(client: Redis) -> tuple[str, ...]:
    """What is wrong with a cache server, one sentence each, with what to do."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            memory = await client.info("memory")
    except (RedisError, OSError, TimeoutError) as problem:
        return _unknown("cache", problem, _CACHE_ADVICE)
    problems = []
    if not int(memory.get("maxmemory", 0)):
        problems.append("the cache server may grow without limit: set maxmemory")
    policy = memory.get("maxmemory_policy")
    if policy == "noeviction":
        problems.append(
            "the cache server refuses writes when it is full: set maxmemory-policy to allkeys-lfu"
        )
    elif policy != "allkeys-lfu":
        problems.append(
            f"the cache server evicts by {policy} and loses what is asked for often: "
            "set maxmemory-policy to allkeys-lfu"
        )
    return tuple(problems)


async def events_server_problems(client: Redis) -> tuple[str, ...]:
    """What is wrong with an event server, one sentence each, with what to do."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            memory = await client.info("memory")
            persistence = await client.info("persistence")
            settings = await client.config_get("appendfsync")
    except (RedisError, OSError, TimeoutError) as problem:
        return _unknown("event", problem, _EVENTS_ADVICE)
    problems = []
    if memory.get("maxmemory_policy") != "noeviction":
        problems.append(
            "the event server drops events when it is full: set maxmemory-policy noeviction, "
            "or redis.events_url to a server of its own"
        )
    if not persistence.get("aof_enabled"):
        problems.append("the event server loses all events when it restarts: set appendonly yes")
    elif settings.get("appendfsync") != "always":
        problems.append(
            "the event server can lose the last second of acknowledged events: "
            "set appendfsync always"
        )
    return tuple(problems)


def _unknown(server: str, problem: Exception, advice: str) -> tuple[str, ...]:
    if not isinstance(problem, ResponseError):
        return ()
    return (f"unknown: the {server} server does not tell its settings ({problem}); {advice}",)
