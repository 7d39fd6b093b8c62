"""Slates in Redis: one GET per lookup, one SET per write, and never in a request's way.

Every call holds one of `pool_size` slots and runs under one timer that covers
the connection and the command (redis-py has a timer for each; together they are
half of a lookup's CPU time); the wait for the slot has its own. Both are
patient with a busy event loop: see `patience`. A call that the timer cuts off
costs its connection, so its reply can reach nobody else; the tag inside the
value is the second line of defence.

While the breaker is open no request touches Redis; a background task looks
whether it is back. The same look reads the purge epoch, so that Redis is only
used while the epoch is known, and an outage cannot bring back purged entries.
"""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from ranking_models.schema import Float32
from service.breaker import Breaker
from service.cache import CacheCounters, CacheLookup, CacheStatus
from service.cache.codec import Entry, decode, encode
from service.cache.keys import EPOCH_KEY, SlateKey
from service.cache.patience import Patience
from service.clock import Clock
from service.settings import CacheSettings, RedisSettings

_log = logging.getLogger(__name__)

_Reply = TypeVar("_Reply")


class _LeftAlone(Exception):
    """The breaker opened before it was the caller's turn."""


class RedisScoreCache:
    """A `ScoreCache` in a Redis or Valkey server. Used from one event loop."""

    def __init__(
        self,
        client: Redis,
        *,
        cache: CacheSettings,
        redis: RedisSettings,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        watched: Callable[[str], AbstractContextManager[None]] = lambda command: nullcontext(),
    ) -> None:
        """Take a client of `service.stores.cache_client`; its owner closes it after `stop`.

        Args:
            watched: Makes a context around each command, for telemetry.
        """
        self._client = client
        self._settings = cache
        self._look_timeout_s = redis.connect_timeout_s + cache.timeout_s
        self._slots = asyncio.Semaphore(redis.pool_size)
        # Writes can wait and lookups cannot: most slots stay theirs.
        self._writes_limit = max(1, redis.pool_size // 4)
        self._writes_under_way = 0
        self._clock = clock
        self._jitter = jitter
        self._watched = watched
        self._breaker = Breaker(
            failures=cache.breaker_failures, probe_s=cache.breaker_probe_s, jitter=jitter
        )
        self._epoch = 0
        self._problem: str | None = None
        self._counts: Counter[str] = Counter()
        self._stopping = False
        self._watch_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at Redis once, and from then on in the background. Never fails."""
        if not await self._look() and not self._breaker.is_open:
            self._open()
        self._watch_task = asyncio.create_task(self._watch(), name="cache-watch")

    async def stop(self) -> None:
        """Stop looking."""
        # Told as well as cancelled: on Python 3.11 `asyncio.wait_for`, which redis-py
        # uses, loses a cancellation that comes together with the answer.
        self._stopping = True
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.gather(self._watch_task, return_exceptions=True)
            self._watch_task = None

    @property
    def epoch(self) -> int:
        """The purge epoch, at most one probe interval old while Redis answers."""
        return self._epoch

    def status(self) -> CacheStatus:
        """What lookups, writes and looks have met; asks nobody."""
        return CacheStatus(
            state="degraded" if self._breaker.is_open else "connected",
            breaker=self._breaker.state,
            breaker_opened=self._breaker.opened,
            problem=self._problem if self._breaker.is_open else None,
            counters=CacheCounters(**self._counts),
        )

    async def get(self, key: SlateKey, *, timeout_s: float = math.inf) -> CacheLookup:
        """Look a slate up, within the cache timeout and the caller's."""
        if self._breaker.is_open:
            self._count("left_alone")
            return CacheLookup(outcome="open")
        try:
            bound_s = min(timeout_s, self._settings.timeout_s)
            value = await self._bounded("GET", lambda: self._client.get(key.text), bound_s)
        except _LeftAlone:
            self._count("left_alone")
            return CacheLookup(outcome="open")
        # Everything: a lookup must not fail a request, whatever a client
        # library may raise when its connection breaks.
        except Exception as problem:
            return self._failed_lookup(problem)
        if value is None:
            self._count("misses")
            return CacheLookup(outcome="miss")
        entry = decode(key, value) if isinstance(value, bytes) else None
        if entry is None:
            self._count("misses", "unreadable")
            return CacheLookup(outcome="miss")
        self._count("hits")
        age_s = max(0.0, self._clock.wall() - entry.created_s)
        return CacheLookup(outcome="hit", scores=entry.scores, age_s=age_s)

    async def put(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """Store a slate's scores, unless Redis is left alone or too many writes are under way."""
        crowded = self._writes_under_way >= self._writes_limit
        if self._breaker.is_open or crowded or not np.isfinite(scores).all():
            self._count("writes_skipped")
            return
        value = encode(key, Entry(scores, self._clock.wall(), computed_s))
        self._writes_under_way += 1
        try:
            ttl_ms, bound_s = self._ttl_ms(), self._settings.timeout_s
            await self._bounded(
                "SET", lambda: self._client.set(key.text, value, px=ttl_ms), bound_s
            )
            self._count("writes")
        except _LeftAlone:
            self._count("writes_skipped")
        except Exception:  # as in `get`
            self._count("write_errors")
        finally:
            self._writes_under_way -= 1

    async def _bounded(
        self, name: str, command: Callable[[], Awaitable[_Reply]], bound_s: float
    ) -> _Reply:
        """Run a command within a time, and let the breaker know how it went."""
        async with Patience(bound_s):
            await self._slots.acquire()
        try:
            if self._breaker.is_open:
                raise _LeftAlone  # it opened while we waited for our turn
            began = self._clock.now()
            try:
                with self._watched(name):
                    async with Patience(bound_s):
                        reply = await command()
            except Exception as problem:
                if self._blames_redis(problem, bound_s):
                    self._note_failure(problem, began)
                raise
        finally:
            self._slots.release()
        # While open, only a look closes the breaker: it brings the epoch along.
        if not self._breaker.is_open:
            self._breaker.succeeded()
        return reply

    def _blames_redis(self, problem: Exception, bound_s: float) -> bool:
        if isinstance(problem, TimeoutError):
            # A caller that had next to no time to begin with says that it is in
            # a hurry, not that Redis is slow.
            return bound_s >= self._settings.timeout_s / 4
        # A full server, a replica and a key of another type still answer lookups.
        return not (isinstance(problem, OutOfMemoryError | ReadOnlyError) or _wrong_type(problem))

    def _failed_lookup(self, problem: Exception) -> CacheLookup:
        if _wrong_type(problem):
            self._count("misses", "unreadable")
            return CacheLookup(outcome="miss")
        self._count("errors", *(["timeouts"] if isinstance(problem, TimeoutError) else []))
        return CacheLookup(outcome="error")

    def _count(self, *what: str) -> None:
        for name in what:
            self._counts[name] += 1

    def _note_failure(self, problem: Exception, began: float) -> None:
        self._problem = f"{type(problem).__name__}: {problem}".removesuffix(": ")
        if self._breaker.failed(started=began, now=self._clock.now()):
            self._log_open()

    def _open(self) -> None:
        self._breaker.trip(self._clock.now())
        self._log_open()

    def _log_open(self) -> None:
        _log.warning("the cache server is left alone, rankings go on without: %s", self._problem)

    async def _watch(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._until_next_look())
            if self._breaker.admits(self._clock.now()):
                await self._look()

    def _until_next_look(self) -> float:
        if self._breaker.is_open:
            return max(0.0, self._breaker.probe_at - self._clock.now())
        return self._settings.breaker_probe_s

    async def _look(self) -> bool:
        """Read the purge epoch, which shows that Redis answers."""
        began = self._clock.now()
        try:
            # Longer than a lookup may take: nobody waits, and a connection that
            # is slow to make is then there for the lookups.
            async with asyncio.timeout(self._look_timeout_s):
                epoch = int(await self._client.get(EPOCH_KEY) or 0)
        except Exception as problem:
            self._note_failure(problem, began)
            return False
        if self._breaker.is_open:
            _log.info("the cache server answers again")
        self._epoch = epoch
        self._breaker.succeeded()
        return True

    def _ttl_ms(self) -> int:
        spread = self._settings.ttl_jitter * (2 * self._jitter() - 1)
        return max(1, round(self._settings.ttl_s * (1 + spread) * 1000))


def _wrong_type(problem: Exception) -> bool:
    return str(problem).startswith("WRONGTYPE")
