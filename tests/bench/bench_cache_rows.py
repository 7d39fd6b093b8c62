"""What score rows cost a request, and Redis: ``python -m tests.bench cache-rows``.

Requests of 100 candidates drawn from a catalogue of a million items by Zipf 1.0,
against this process's table alone and with a real embedded server behind it that
holds the rows of the 100,000 most popular. CPU time of this process per request
(the kernel's share included), after the table has come to its hit rate; bytes per
row by the server's own account.
"""

from __future__ import annotations

import asyncio
import datetime
import platform
import statistics
import time

import numpy as np
from redis.asyncio import Redis

from ranking_models.schema import FeatureBatch, Int32
from service.cache.row_keys import RowSpace
from service.cache.rows import RowLevels, ScoreRows
from service.cache.store import ScoreStore
from service.cache.worth import RowWorth
from service.clock import SystemClock
from service.settings import CacheSettings, RedisSettings
from tests.support.store_servers import TcpServer, open_store

CATALOGUE, HELD, CANDIDATES, SEGMENTS = 1_000_000, 100_000, 100, 16
WARMING, ROUNDS, REQUESTS = 6_000, 9, 300
TARGET_US, TARGET_BYTES = 150.0, 220
CONTEXT = FeatureBatch(dense=np.array([[0.5]], np.float32), ids=np.array([[1, 2]], np.int32))
CACHE = CacheSettings(timeout_s=2.0, rows="always")
SCORING_S = 3e-6
"""Of a row, about what the demonstration model's engine takes; `engine` measures it."""
HASH = "0123456789abcdef" * 4


class Demand:
    """Distinct candidates by Zipf 1.0; positions are ranks."""

    def __init__(self) -> None:
        weights = 1 / np.arange(1, CATALOGUE + 1)
        self._cumulated = np.cumsum(weights) / weights.sum()
        self._random = np.random.default_rng(0)

    def request(self) -> Int32:
        drawn = np.searchsorted(self._cumulated, self._random.random(2 * CANDIDATES))
        _, first = np.unique(drawn, return_index=True)
        return drawn[np.sort(first)][:CANDIDATES].astype(np.int32)


def rows_over(store: ScoreStore, settings: CacheSettings) -> ScoreRows:
    levels = RowLevels.over(store, settings, SystemClock())
    return levels.rows(SEGMENTS, HASH)


async def fill(rows: ScoreRows, space: RowSpace) -> None:
    random = np.random.default_rng(1)
    for first in range(0, HELD, 1_000):
        positions = np.arange(first, first + 1_000, dtype=np.int32)
        steps = random.integers(0, 65_536, (1_000, SEGMENTS)).astype(np.uint16)
        await rows.keep(space, positions, steps, 0.001)


async def lookups(rows: ScoreRows, requests: list[Int32]) -> float:
    """Microseconds of this process per request."""
    began = time.process_time_ns()
    for items in requests:
        await rows.known(rows.space(CONTEXT), items, (), 3)
    return (time.process_time_ns() - began) / len(requests) / 1000


async def measured(rows: ScoreRows, demand: Demand) -> tuple[float, float, float]:
    """CPU per request, and the shares of candidates found in the process and behind it."""
    before = rows.status().counters
    costs = [
        await lookups(rows, [demand.request() for _ in range(REQUESTS)]) for _ in range(ROUNDS)
    ]
    after, asked = rows.status().counters, ROUNDS * REQUESTS * CANDIDATES
    return (
        statistics.median(costs),
        (after.process_hits - before.process_hits) / asked,
        (after.store_hits - before.store_hits) / asked,
    )


async def bytes_per_row(client: Redis, empty: int, space: RowSpace) -> tuple[float, float]:
    """Of the server's memory in all, and what it says of single keys."""
    used = int((await client.info("memory"))["used_memory"])
    single = [await client.memory_usage(space.key(at)) for at in range(0, HELD, HELD // 100)]
    return (used - empty) / HELD, statistics.mean(size for size in single if size is not None)


async def run(server: TcpServer) -> None:
    demand = Demand()
    store = open_store(server.url, CACHE, RedisSettings(connect_timeout_s=2.0), client="lean")
    await store.start()
    async with Redis.from_url(server.url) as client:
        empty = int((await client.info("memory"))["used_memory"])
        filling = rows_over(store, CACHE)
        space = filling.space(CONTEXT)
        await fill(filling, space)
        in_all, single = await bytes_per_row(client, empty, space)
    always = rows_over(store, CACHE)
    for _ in range(WARMING):
        await always.known(always.space(CONTEXT), demand.request(), (), 3)
    with_server = await measured(always, demand)
    # The same warm table, and another rule.
    always.worth = RowWorth("never")
    alone = await measured(always, demand)
    always.worth = RowWorth("auto")
    always.worth.scoring_costs(SCORING_S)
    await measured(always, demand)
    learnt = await measured(always, demand)
    fetching = "fetches" if always.status().worth.fetching else "does not fetch"
    await store.stop()
    print(f"{datetime.date.today()}, {platform.processor() or platform.machine()}, 1 process")
    print(f"{CANDIDATES} candidates of {CATALOGUE:,} items, Zipf 1.0, {SEGMENTS} segments\n")
    print("| rows come from | CPU per request | in the process | fetched |")
    print("|---|--:|--:|--:|")
    for words, (cost, process, fetched) in (
        ("this process alone", alone),
        ("this process, else the server", with_server),
        (f"auto, {SCORING_S * 1e6:.0f} us to score a row: {fetching}", learnt),
    ):
        print(f"| {words} | {cost:.0f} us | {process:.1%} | {fetched:.1%} |")
    print(f"\nbytes per row in the server: {in_all:.0f} in all, MEMORY USAGE {single:.0f}")
    reached = (
        min(alone[0], learnt[0]) <= TARGET_US,
        single <= TARGET_BYTES and in_all <= TARGET_BYTES,
    )
    for words, good in zip(
        (f"<= {TARGET_US:.0f} us in the process", f"<= {TARGET_BYTES} bytes per row"),
        reached,
        strict=True,
    ):
        print(f"target {words}: {'reached' if good else 'MISSED'}")


def main() -> None:
    with TcpServer() as server:
        asyncio.run(run(server))


if __name__ == "__main__":
    main()
