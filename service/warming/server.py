"""What only people ask of the cache server: never on a request's path, over a client of its own."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from service.cache.keys import EPOCH_KEY
from service.errors import CacheUnavailable
from service.warming.values import KeyCount, ServerFigures

ANSWER_LIMIT_S = 2.0
MOST_SCANNED = 1_000_000
SCAN_LIMIT_S = 5.0
_SCANNED_AT_ONCE = 1_000
_PREFIX = "podium:"
_NOT_OURS = ("WRONGTYPE", "value is not an integer", "increment or decrement would overflow")
"""How servers refuse a key that holds something else."""

Reply = TypeVar("Reply")


class Held(Struct, frozen=True):
    """Bytes under a key."""

    value: bytes | None
    """None: nothing, or no bytes."""
    expires_in_s: float | None


class _NotOurs(Exception):
    """Something else is under the key than what belongs there."""


class _Full(CacheUnavailable):
    """There is no room for anything."""


class CacheServer:
    """Asks the cache server, each time within a limit. For one event loop.

    Args:
        client: Of its own; whoever made it closes it.
    """

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client: Any = client
        # Replicas hold the same once more.
        is_cluster = isinstance(client, RedisCluster)
        self._each = {"target_nodes": RedisCluster.PRIMARIES} if is_cluster else {}

    async def purge(self, *, beyond: int = 0) -> int:
        """Begin a new epoch.

        Args:
            beyond: One that is known; should the server have lost it, the new one is higher still.

        Raises:
            CacheUnavailable: no answer, so nobody knows whether it has begun.
        """
        try:
            return await self._next_epoch(beyond)
        except _Full:
            await self._make_room()
            return await self._next_epoch(beyond)

    async def _next_epoch(self, beyond: int) -> int:
        try:
            epoch = int(await self._asked(self._client.incr(EPOCH_KEY)))
            if epoch <= beyond:
                epoch = int(await self._asked(self._client.incr(EPOCH_KEY, beyond + 1 - epoch)))
        except _NotOurs:
            # The cache is left alone while that is there: no replica can read an epoch from it.
            epoch = beyond + 1
            await self._asked(self._client.set(EPOCH_KEY, epoch))
        return epoch

    async def _make_room(self) -> None:
        """Delete some scores, which a purge makes useless anyway: a full server takes no new epoch.

        Nothing else: events may be on the same server.

        Raises:
            CacheUnavailable: no answer.
        """
        keys = []
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                async for key in self._client.scan_iter(f"{_PREFIX}*", count=_SCANNED_AT_ONCE):
                    if kind_of(key.decode(errors="replace"), 0) != "other":
                        keys.append(key)
                    if len(keys) == _SCANNED_AT_ONCE:
                        break
        except (RedisError, OSError, TimeoutError) as problem:
            raise CacheUnavailable(_words(problem)) from None
        for key in keys:
            await self._asked(self._client.delete(key))

    async def held(self, key: str) -> Held:
        """What is there, with the time that it has left.

        Raises:
            CacheUnavailable: no answer.
        """
        try:
            value = await self._asked(self._client.get(key))
        except _NotOurs:
            return Held(None, None)
        left_ms = int(await self._asked(self._client.pttl(key)))
        return Held(value, left_ms / 1000 if left_ms >= 0 else None)

    async def keep(self, key: str, value: bytes, ttl_s: int) -> None:
        """Write a note of our own.

        Raises:
            CacheUnavailable: no answer, or it takes no writes.
        """
        await self._asked(self._client.set(key, value, ex=ttl_s))

    async def figures(self) -> ServerFigures:
        """How full it is, and what it does about that.

        Raises:
            CacheUnavailable: no answer, or it does not tell.
        """
        memory = _by_node(await self._asked(self._client.info("memory", **self._each)))
        stats = _by_node(await self._asked(self._client.info("stats", **self._each)))
        sizes = await self._asked(self._client.dbsize(**self._each))
        keys = sum(sizes.values()) if isinstance(sizes, dict) else int(sizes)
        return ServerFigures(
            nodes=len(memory),
            keys=keys,
            used_memory_bytes=_sum(memory, "used_memory"),
            max_memory_bytes=_sum(memory, "maxmemory"),
            policy=", ".join(sorted({str(one.get("maxmemory_policy", "?")) for one in memory})),
            evicted=_sum(stats, "evicted_keys"),
            expired=_sum(stats, "expired_keys"),
        )

    async def count(self, epoch: int) -> KeyCount:
        """The keys by kind: a walk through all of them, a thousand at a time, bounded.

        Args:
            epoch: Now.

        Raises:
            CacheUnavailable: no answer.
        """
        counts = dict.fromkeys(("slates", "rows", "older", "other"), 0)
        seen, is_complete = 0, True
        try:
            async with asyncio.timeout(SCAN_LIMIT_S):
                async for key in self._client.scan_iter(count=_SCANNED_AT_ONCE):
                    counts[kind_of(key.decode(errors="replace"), epoch)] += 1
                    seen += 1
                    if seen >= MOST_SCANNED:
                        is_complete = False
                        break
        except TimeoutError:
            is_complete = False
        except (RedisError, OSError) as problem:
            raise CacheUnavailable(_words(problem)) from None
        return KeyCount(**counts, is_complete=is_complete)

    async def _asked(self, reply: Awaitable[Reply]) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await reply
        except ResponseError as refusal:
            if str(refusal).startswith(_NOT_OURS):
                raise _NotOurs from None
            if isinstance(refusal, OutOfMemoryError):
                raise _Full(_words(refusal)) from None
            raise CacheUnavailable(_words(refusal)) from None
        except (RedisError, OSError, TimeoutError) as problem:
            raise CacheUnavailable(_words(problem)) from None


def kind_of(key: str, epoch: int) -> str:
    """Which field of a `KeyCount` counts a key."""
    parts = key.split(":")
    if not key.startswith(_PREFIX) or len(parts) < 4 or not parts[1].isdigit():
        return "other"
    kinds = {"R", "S"}.intersection(parts[3:5])
    if not kinds or parts[-1] == "lock":
        return "other"
    if int(parts[1]) != epoch:
        return "older"
    return "slates" if "R" in kinds else "rows"


def _by_node(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One mapping per server: a cluster's answer is a mapping of them."""
    nodes: list[Mapping[str, Any]] = [one for one in info.values() if isinstance(one, dict)]
    return nodes if nodes and len(nodes) == len(info) else [info]


def _sum(nodes: list[Mapping[str, Any]], name: str) -> int:
    return sum(int(node.get(name, 0)) for node in nodes)


def _words(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return f"no answer from the cache server within {ANSWER_LIMIT_S:g} s"
    return f"the cache server: {problem}" if str(problem) else type(problem).__name__
