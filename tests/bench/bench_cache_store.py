"""What a lookup in the cache server costs us: ``python -m tests.bench cache-store``.

CPU time of this process per call, the kernel's share included, of a GET of a
whole slate and an MGET of 100 rows: through the lean client and through
redis-py, over a unix socket and over TCP on loopback, one caller at a time and
16 at once. Median over rounds that take turns, against a real embedded server;
redis-py alone is `Redis.get` and `Redis.mget` without anything of ours around.
"""

from __future__ import annotations

import asyncio
import datetime
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from redis.asyncio import Redis

from service.cache.guarded_store import GuardedStore
from service.cache.store import StoredEntry
from service.settings import CacheSettings, RedisSettings
from service.stores import cache_client
from tests.support.store_servers import TcpServer, open_store

ROUNDS, CALLS, CALLERS = 7, 320, 16
ROW_BYTES, SLATE_BYTES = 52, 480
"""A row of 16 segments and a slate of 100 candidates, as stored."""
ROWS = [
    f"podium:0:0123456789abcdef:S:MDEyMzQ1Njc4OWFiY2RlZg:item{number:06}" for number in range(100)
]
SLATE = "podium:0:0123456789abcdef:R:MDEyMzQ1Njc4OWFiY2RlZg:MDEyMzQ1Njc4OWFiY2RlZg:MDEyMzQ1Njc4OWFi"
CACHE, REDIS = CacheSettings(timeout_s=2.0), RedisSettings(connect_timeout_s=2.0)

Lookup = Callable[[list[str]], Awaitable[object]]


async def cpu_us(lookup: Lookup, keys: list[str], callers: int) -> float:
    """Microseconds of this process per call."""

    async def caller() -> None:
        for _ in range(CALLS // callers):
            await lookup(keys)

    began = time.process_time_ns()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time_ns() - began) / CALLS / 1000


def alone(client: Redis) -> Lookup:
    async def lookup(keys: list[str]) -> object:
        return await (client.get(keys[0]) if len(keys) == 1 else client.mget(keys))

    return lookup


async def figures(server: TcpServer) -> dict[tuple[str, str], list[float]]:
    """Client and transport to the medians of the four kinds of load."""
    stores: dict[tuple[str, str], GuardedStore] = {}
    clients: list[Redis] = []
    lookups: dict[tuple[str, str], Lookup] = {}
    for transport, url in (("unix", server.url), ("tcp", server.tcp_url)):
        for name in ("lean", "redis-py"):
            store = stores[name, transport] = open_store(url, CACHE, REDIS, client=name)
            await store.start()
            lookups[name, transport] = store.get
        clients.append(cache_client(url, REDIS))
        lookups["redis-py alone", transport] = alone(clients[-1])
    filled = stores["lean", "unix"]
    await filled.put([StoredEntry(row, b"r" * ROW_BYTES, 3600.0) for row in ROWS])
    await filled.put([StoredEntry(SLATE, b"s" * SLATE_BYTES, 3600.0)])
    kinds = [(keys, callers) for keys in ([SLATE], ROWS) for callers in (1, CALLERS)]
    rounds = [
        {who: [await cpu_us(lookup, *kind) for kind in kinds] for who, lookup in lookups.items()}
        for _ in range(ROUNDS)
    ]
    for store in stores.values():
        assert store.status().counters.errors == 0, "a lookup failed, so the figures are not of it"
        await store.stop()
    for client in clients:
        await client.aclose()
    return {
        who: [statistics.median(of[who][place] for of in rounds) for place in range(len(kinds))]
        for who in lookups
    }


def main() -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    print(
        f"{today}, Python {platform.python_version()}, {platform.machine()}, "
        f"redis {version('redis')}, hiredis {version('hiredis')}; "
        f"CPU us per call, medians of {ROUNDS} rounds of {CALLS} calls\n"
    )
    print(f"{'':24}{'GET':>12}{'16 at once':>12}{'MGET 100':>12}{'16 at once':>12}")
    with TcpServer() as server:
        for (client, transport), medians in asyncio.run(figures(server)).items():
            print(f"{client + ', ' + transport:24}" + "".join(f"{us:12.1f}" for us in medians))


if __name__ == "__main__":
    main()
