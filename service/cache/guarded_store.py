"""A `ScoreStore` on servers that may be slow, full, lying or gone.

While the breaker is open no call touches a server; a background task looks
whether they are back, with jitter. The same look reads the purge epoch, so
that the store is only used while the epoch is known: a purge is in force
within a second everywhere, and an outage cannot bring back what was purged.
"""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from redis.exceptions import OutOfMemoryError, ReadOnlyError

from service.breaker import Breaker
from service.cache.keys import EPOCH_KEY
from service.cache.link import Command, Link, NodeFailed, NoTurn, Read
from service.cache.store import Fetched, StoreCounters, StoredEntry, StoreStatus
from service.clock import Clock
from service.settings import CacheSettings, RedisSettings

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.3
_LOOK_AGAIN_S = 0.05
_EPOCH_LIMIT_S = 0.8
"""An epoch read longer ago than this, and not to be read again, is not known any more."""
_LOOK_LIMIT_S = 0.25
"""For one look while the epoch is known: so that two fail before it is not known any more."""
_WRITES_LIMIT = 2048
"""Entries on their way at once. Writes can wait, so beyond this they are dropped."""
_LOCKS_KEPT = 1024


class Watching(Protocol):
    """Who measures a call."""

    def failed(self, error: Exception) -> None:
        """It came back, with this instead of a reply or among the replies."""
        ...


Watched = Callable[[str, int], AbstractContextManager[Watching]]
"""Makes a context around each call, for telemetry: the operation, and its number of commands."""


class _Nobody:
    def failed(self, error: Exception) -> None:
        """Nobody measures it."""


_NOBODY = nullcontext(_Nobody())


def unwatched(operation: str, commands: int) -> AbstractContextManager[Watching]:
    return _NOBODY


class GuardedStore:
    """Puts a breaker, an epoch and counters in front of a link."""

    def __init__(
        self,
        link: Link,
        *,
        cache: CacheSettings,
        redis: RedisSettings,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        watched: Watched = unwatched,
    ) -> None:
        """Take a link, which is closed by `stop`."""
        self._link = link
        self._timeout_s = cache.timeout_s
        self._find_again_s = redis.connect_timeout_s + cache.timeout_s
        # Writes can wait and lookups cannot: most connections stay theirs.
        self._puts_limit = max(1, redis.pool_size // 4)
        self._puts_under_way = self._writes_under_way = 0
        self._clock = clock
        self._watched = watched
        self._breaker = Breaker(
            failures=cache.breaker_failures, probe_s=cache.breaker_probe_s, jitter=jitter
        )
        self._epoch = 0
        self._epoch_read_at = -math.inf
        self._locks: dict[str, float] = {}
        self._locks_limit = _LOCKS_KEPT
        self._problem: str | None = None
        self._counts: Counter[str] = Counter()
        self._stopping = False
        self._watch_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at the servers once, and from then on in the background. Never fails."""
        await self._look()
        self._watch_task = asyncio.create_task(self._watch(), name="cache-watch")

    async def stop(self) -> None:
        """Stop looking, and close the connections."""
        # Told as well as cancelled: on Python 3.11 `asyncio.wait_for`, which redis-py
        # uses, loses a cancellation that comes together with the answer.
        self._stopping = True
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.gather(self._watch_task, return_exceptions=True)
            self._watch_task = None
        await self._link.close()

    @property
    def epoch(self) -> int:
        """The purge epoch, at most half a second old while connected."""
        return self._epoch

    def status(self) -> StoreStatus:
        """What calls and looks have met; asks nobody."""
        return StoreStatus(
            state="degraded" if self._breaker.is_open else "connected",
            breaker=self._breaker.state,
            breaker_opened=self._breaker.opened,
            problem=self._problem if self._breaker.is_open else None,
            client=self._link.name,
            under_way=self._link.under_way,
            counters=StoreCounters(**self._counts, lost_connections=self._link.lost),
        )

    def turns_away(self) -> bool:
        """Whether nothing is asked now; counted as a lookup that was not made."""
        if self._breaker.is_open:
            self._counts["left_alone"] += 1
            return True
        return False

    async def get(self, keys: Sequence[str], *, timeout_s: float = math.inf) -> Fetched:
        """Read values within the cache timeout and the caller's."""
        if self.turns_away():
            return Fetched("open", (None,) * len(keys))
        if not keys:
            return Fetched("ok", ())
        bound_s, began = min(timeout_s, self._timeout_s), self._clock.now()
        try:
            with self._watched("GET" if len(keys) == 1 else "MGET", 1) as watching:
                read = await self._link.read(keys, bound_s)
                if read.problems:
                    watching.failed(read.problems[0])
        # Everything: a lookup must not fail a request, whatever a client
        # library may raise when its connection breaks.
        except Exception as problem:
            self._note_failure(problem, began, bound_s)
            self._count_error(problem)
            return Fetched("error", (None,) * len(keys))
        if read.problems:
            return self._in_part(read, began, bound_s)
        self._note_success()
        self._counts["lookups"] += 1
        return Fetched("ok", tuple(read.values))

    async def put(self, entries: Sequence[StoredEntry]) -> None:
        """Write entries, unless the servers are left alone or too many are on their way."""
        count = len(entries)
        full = self._writes_under_way + count > _WRITES_LIMIT and self._writes_under_way > 0
        if self._breaker.is_open or full or self._puts_under_way >= self._puts_limit:
            self._counts["writes_skipped"] += count
            return
        commands: list[Command] = [
            ("SET", entry.key, entry.value, "PX", _milliseconds(entry.ttl_s)) for entry in entries
        ]
        self._writes_under_way += count
        self._puts_under_way += 1
        try:
            replies = await self._run(commands)
        finally:
            self._writes_under_way -= count
            self._puts_under_way -= 1
        written = sum(1 for reply in replies if not isinstance(reply, Exception))
        self._counts["writes"] += written
        self._counts["write_errors"] += count - written

    async def lock(self, key: str, ttl_s: float) -> bool | None:
        """Take a lock that ends by itself: True if it is ours, None if not known."""
        if self._breaker.is_open:
            self._counts["lock_errors"] += 1
            return None
        # From before the server can have begun to count: see `unlock`.
        ends_at = self._clock.now() + ttl_s
        (reply,) = await self._run([("SET", key, b"1", "NX", "PX", _milliseconds(ttl_s))])
        if isinstance(reply, Exception):
            self._counts["lock_errors"] += 1
            return None
        if reply is None:
            return False
        self._remember(key, ends_at)
        return True

    async def unlock(self, key: str) -> None:
        """Give a lock back, unless its time is over: then it may be somebody else's by now."""
        ends_at = self._locks.pop(key, -math.inf)
        if self._breaker.is_open or self._clock.now() + self._timeout_s >= ends_at:
            return
        (reply,) = await self._run([("DEL", key)])
        if isinstance(reply, Exception):
            self._counts["lock_errors"] += 1

    def _remember(self, key: str, ends_at: float) -> None:
        if len(self._locks) >= self._locks_limit:
            now = self._clock.now()
            self._locks = {key: end for key, end in self._locks.items() if end > now}
            # So that locks by the thousand are not gone through again for each new one.
            self._locks_limit = max(_LOCKS_KEPT, 2 * len(self._locks))
        self._locks[key] = ends_at

    async def _run(self, commands: Sequence[Command]) -> Sequence[object]:
        """The replies; if the servers cannot be asked, what went wrong in the place of each."""
        began = self._clock.now()
        try:
            with self._watched(_operation(commands), len(commands)) as watching:
                replies = await self._link.run(commands, self._timeout_s)
                for reply in replies:
                    if isinstance(reply, Exception):
                        watching.failed(reply)
                        break
        except Exception as problem:  # as in `get`
            self._note_failure(problem, began, self._timeout_s)
            return [problem] * len(commands)
        failed = [reply for reply in replies if isinstance(reply, Exception)]
        if len(failed) == len(replies):
            self._note_failure(failed[0], began, self._timeout_s)
        else:
            self._note_success()
        return replies

    def _in_part(self, read: Read, began: float, bound_s: float) -> Fetched:
        """What is known although some keys, or all, met a problem."""
        wrong_types = sum(1 for problem in read.problems if _tells(problem, "WRONGTYPE"))
        self._counts["wrong_types"] += wrong_types
        faults = [problem for problem in read.problems if not _tells(problem, "WRONGTYPE")]
        if len(faults) == len(read.values):
            self._note_failure(faults[0], began, bound_s)
        else:
            self._note_success()
        if faults:
            self._count_error(faults[0])
            return Fetched("error", tuple(read.values))
        self._counts["lookups"] += 1
        return Fetched("ok", tuple(read.values))

    def _count_error(self, problem: Exception) -> None:
        self._counts["errors"] += 1
        if isinstance(problem, TimeoutError | NoTurn):
            self._counts["timeouts"] += 1

    def _note_success(self) -> None:
        # While open, only a look closes the breaker: it brings the epoch along.
        if not self._breaker.is_open:
            self._breaker.succeeded()

    def _note_failure(self, problem: Exception, began: float, bound_s: float) -> None:
        if not self._blames_servers(problem, bound_s):
            return
        self._problem = _text(problem)
        if self._breaker.failed(started=began, now=self._clock.now()):
            self._log_open()

    def _blames_servers(self, problem: Exception, bound_s: float) -> bool:
        if isinstance(problem, NodeFailed):
            return False  # its link leaves it alone; if all fail, so do the looks
        if isinstance(problem, TimeoutError):
            # A caller that had next to no time to begin with says that it is in
            # a hurry, not that the servers are slow.
            return bound_s >= self._timeout_s / 4
        # A full server, a replica and a key of another type still answer lookups.
        return not (isinstance(problem, NoTurn) or _still_reads(problem))

    def _log_open(self) -> None:
        _log.warning("the cache server is left alone, rankings go on without: %s", self._problem)

    async def _watch(self) -> None:
        known = not self._breaker.is_open
        while not self._stopping:
            await asyncio.sleep(self._until_next_look(known))
            if self._breaker.admits(self._clock.now()):
                known = await self._look()

    def _until_next_look(self, known: bool) -> float:
        if self._breaker.is_open:
            return max(0.0, self._breaker.probe_at - self._clock.now())
        return _LOOK_EVERY_S if known else _LOOK_AGAIN_S

    async def _look(self) -> bool:
        """Read the purge epoch, which shows that the servers answer."""
        began = self._clock.now()
        first = self._breaker.is_open or self._epoch_read_at == -math.inf
        # Longer than a lookup may take: nobody waits, and a connection that
        # is slow to make is then there for the lookups.
        limit_s = self._find_again_s if first else min(self._find_again_s, _LOOK_LIMIT_S)
        try:
            self._epoch = await self._epoch_now(limit_s)
            if self._breaker.is_open:
                # Connected now, it must answer as soon as a lookup must be answered: who is asked
                # again too early keeps requests waiting until it is left alone once more.
                await self._link.look(self._timeout_s)
        except Exception as problem:
            self._problem = _text(problem)
            self._epoch_is_not_read(began)
            return False
        if self._breaker.is_open:
            _log.info("the cache server answers again")
        self._epoch_read_at = began
        self._breaker.succeeded()
        return True

    async def _epoch_now(self, limit_s: float) -> int:
        """The purge epoch, which never goes back.

        The server may have lost it: emptied, evicted, or a replica took over that had not
        heard of the last purge. What was purged must not come back with that.
        """
        held = await self._link.look(limit_s)
        epoch = int(held or 0)
        if epoch < self._epoch:
            unless_purged = ("NX",) if held is None else ()  # by somebody else, just now
            await self._link.run([("SET", EPOCH_KEY, self._epoch, *unless_purged)], limit_s)
        return max(epoch, self._epoch)

    def _epoch_is_not_read(self, began: float) -> None:
        now = self._clock.now()
        opened = self._breaker.failed(started=began, now=now)
        if not self._breaker.is_open and now - self._epoch_read_at > _EPOCH_LIMIT_S:
            opened = self._breaker.trip(now)
        if opened:
            self._log_open()


def _operation(commands: Sequence[Command]) -> str:
    """As the database conventions name it; the commands are all the same one."""
    command = str(commands[0][0])
    return command if len(commands) == 1 else f"PIPELINE {command}"


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _text(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}".removesuffix(": ")


def _tells(problem: Exception, *codes: str) -> bool:
    return str(problem).startswith(codes)


def _still_reads(problem: Exception) -> bool:
    # redis-py knows some errors by class and cuts their code off; the lean client leaves it.
    return isinstance(problem, OutOfMemoryError | ReadOnlyError) or _tells(
        problem, "WRONGTYPE", "OOM ", "READONLY ", "MISCONF "
    )
