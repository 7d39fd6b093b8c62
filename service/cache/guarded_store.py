"""A `ScoreStore` on servers that may be slow, full, lying or gone.

While the breaker is open no call touches a server; a background task looks
whether they are back, with jitter. The same look reads the purge epoch, so
that the store is only used while the epoch is known: a purge is in force
within a second everywhere, and an outage cannot bring back what was purged.

Before that, from the first sign that a server hangs, it is in doubt: nobody is
kept waiting for it until it has proved that it answers, which it is asked to
do at once and again and again, and soon the breaker opens.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from redis.exceptions import ResponseError

from service.breaker import Breaker
from service.cache.keys import EPOCH_KEY
from service.cache.link import Link, NodeFailed, NoTurn, Read, words_of
from service.cache.lookout import Lookout
from service.cache.losses import Losses
from service.cache.store import Fetched, StoreCounters, StoredEntry, StoreStatus
from service.cache.watched import Watched, unwatched
from service.cache.writing import Writes
from service.clock import Clock
from service.settings import CacheSettings, RedisSettings

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.3
_LOOK_AGAIN_S: Final = 0.05
_EPOCH_LIMIT_S: Final = 0.8
"""An epoch read longer ago than this, and not to be read again, is not known any more."""
_LOOK_LIMIT_S: Final = 0.25
"""For one look while the epoch is known: so that two fail before it is not known any more."""


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
        self._clock = clock
        self._watched = watched
        self._breaker = Breaker(
            failures=cache.breaker_failures, probe_s=cache.breaker_probe_s, jitter=jitter
        )
        self._losses = Losses(self._breaker, cache.breaker_failures)
        self._lookout = Lookout(cache.timeout_s, self._fall_in_doubt)
        self._doubt = asyncio.Event()
        self._writes = Writes(link, settings=cache, clock=clock, jitter=jitter, watched=watched)
        self._epoch = 0
        self._epoch_read_at = -math.inf
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
        counts = self._counts + self._writes.counts
        return StoreStatus(
            state="degraded" if self._breaker.is_open else "connected",
            breaker=self._breaker.state,
            breaker_opened=self._breaker.opened,
            problem=self._problem if self._breaker.is_open else None,
            writes_problem=self._writes.problem,
            writes_opened=self._writes.opened,
            client=self._link.name,
            under_way=self._link.under_way,
            counters=StoreCounters(**counts, lost_connections=self._link.lost),
        )

    def turns_away(self) -> bool:
        """Whether nothing is asked now; counted as a lookup that was not made."""
        if self._is_left_alone():
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
        answered = False
        self._lookout.begins()
        try:
            with self._watched("GET" if len(keys) == 1 else "MGET", 1) as watching:
                read = await self._link.read(keys, bound_s)
                answered = True
                if read.problems:
                    watching.failed(read.problems[0])
        # Everything: a lookup must not fail a request, whatever a client
        # library may raise when its connection breaks.
        except Exception as problem:
            self._note_failure(problem, began, bound_s)
            self._count_error(problem)
            return Fetched("error", (None,) * len(keys))
        finally:
            self._lookout.ends(answered=answered)
        if read.problems:
            return self._in_part(read, began, bound_s)
        self._note_success()
        self._counts["lookups"] += 1
        return Fetched("ok", tuple(read.values))

    async def put(self, entries: Sequence[StoredEntry]) -> None:
        """Write entries, unless the servers are left alone, refuse them, or are busy with them."""
        if self._is_left_alone():
            self._writes.skip(len(entries))
        else:
            await self._writes.put(entries)

    async def lock(self, key: str, ttl_s: float) -> bool | None:
        """Take a lock that ends by itself: True if it is ours, None if not known."""
        if self._is_left_alone():
            self._counts["lock_errors"] += 1
            return None
        return await self._writes.lock(key, ttl_s)

    async def unlock(self, key: str) -> None:
        """Give a lock back, unless its time is over: then it may be somebody else's by now."""
        if not self._is_left_alone():
            await self._writes.unlock(key)

    def _is_left_alone(self) -> bool:
        return self._breaker.is_open or self._doubt.is_set()

    # --- what calls have met ------------------------------------------------------------

    def _in_part(self, read: Read, began: float, bound_s: float) -> Fetched:
        """What is known although some keys, or all, met a problem."""
        wrong_types = sum(1 for problem in read.problems if _is_wrong_type(problem))
        self._counts["wrong_types"] += wrong_types
        faults = [problem for problem in read.problems if not _is_wrong_type(problem)]
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
        # It closes no breaker: only a look does, which brings the epoch along.
        self._losses.answered()
        self._doubt.clear()

    def _note_failure(self, problem: Exception, began: float, bound_s: float) -> None:
        if not self._blames_servers(problem, bound_s) or self._breaker.is_open:
            return
        self._problem = words_of(problem)
        # A refusal takes no time and costs no connection.
        note = self._breaker.failed if isinstance(problem, ResponseError) else self._losses.lost
        opened = note(started=began, now=self._clock.now())
        if opened:
            self._opens()
        elif isinstance(problem, TimeoutError):
            self._fall_in_doubt()

    def _blames_servers(self, problem: Exception, bound_s: float) -> bool:
        if isinstance(problem, NodeFailed):
            return False  # its link leaves it alone; if all fail, so do the looks
        if isinstance(problem, TimeoutError):
            # A caller that had next to no time to begin with says that it is in
            # a hurry, not that the servers are slow.
            return bound_s >= self._timeout_s / 4
        return not isinstance(problem, NoTurn)

    def _fall_in_doubt(self) -> None:
        if not self._breaker.is_open:
            self._doubt.set()

    def _opens(self) -> None:
        self._doubt.clear()
        _log.warning("the cache server is left alone, rankings go on without: %s", self._problem)

    # --- looks --------------------------------------------------------------------------

    async def _watch(self) -> None:
        known = not self._breaker.is_open
        while not self._stopping:
            await self._next_look(known)
            if self._breaker.admits(self._clock.now()):
                known = await self._look()

    async def _next_look(self, known: bool) -> None:
        """Return when one is due: at once while there is doubt."""
        if self._breaker.is_open:
            await asyncio.sleep(max(0.0, self._breaker.probe_at - self._clock.now()))
            return
        timer = asyncio.timeout(_LOOK_EVERY_S if known else _LOOK_AGAIN_S)
        with contextlib.suppress(TimeoutError):
            async with timer:
                await self._doubt.wait()

    async def _look(self) -> bool:
        """Read the purge epoch, which shows that the servers answer."""
        began, needs_proof = self._clock.now(), self._is_left_alone()
        try:
            self._epoch = await self._epoch_now(self._look_limit_s())
            if needs_proof:
                # Connected now, it must answer as soon as a lookup must be answered: who is asked
                # again too early keeps requests waiting until it is left alone once more.
                await self._link.prove(self._timeout_s)
        except Exception as problem:
            self._problem = words_of(problem)
            self._epoch_is_not_read(began)
            return False
        if self._breaker.is_open:
            _log.info("the cache server answers again")
        self._epoch_read_at = began
        self._breaker.succeeded()
        self._doubt.clear()
        return True

    def _look_limit_s(self) -> float:
        if self._doubt.is_set():
            return self._timeout_s
        # Longer than a lookup may take: nobody waits, and a connection that
        # is slow to make is then there for the lookups.
        first = self._breaker.is_open or self._epoch_read_at == -math.inf
        return self._find_again_s if first else min(self._find_again_s, _LOOK_LIMIT_S)

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
            self._opens()


def _is_wrong_type(problem: Exception) -> bool:
    return str(problem).startswith("WRONGTYPE")
