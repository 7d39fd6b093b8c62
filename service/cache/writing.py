"""Entries and locks on their way to servers that may take none: full, read-only or paused.

Such a server still answers lookups, so what becomes of writes says nothing
about these. A write that is refused again and again is left out, and so are
locks, which would keep requests waiting for nothing; now and then one entry is
sent to see whether it is taken.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from service.breaker import Breaker
from service.cache.link import Command, Link, NodeFailed, NoTurn, refused, words_of
from service.cache.store import StoredEntry
from service.cache.watched import Watched
from service.clock import Clock
from service.settings import CacheSettings

_ENTRIES_LIMIT: Final = 2048
"""On their way at once. Writes can wait, so beyond this they are dropped."""
_LOCKS_KEPT: Final = 1024


class Writes:
    """Sends what is written, each call within the cache timeout. Raises nothing.

    Args:
        link: Where to.
        settings: The timeout; how many refusals are enough, and how long then until the next try.
        clock: For tries, and the ends of locks.
        jitter: Draws from [0, 1).
        watched: Makes a context around each call.
    """

    def __init__(
        self,
        link: Link,
        *,
        settings: CacheSettings,
        clock: Clock,
        jitter: Callable[[], float],
        watched: Watched,
    ) -> None:
        self._link, self._clock, self._watched = link, clock, watched
        self._timeout_s = settings.timeout_s
        self._breaker = Breaker(
            failures=settings.breaker_failures, probe_s=settings.breaker_probe_s, jitter=jitter
        )
        self._problem = ""
        self._calls = self._entries = 0
        self._locks: dict[str, float] = {}
        self._locks_limit = _LOCKS_KEPT
        self.counts: Counter[str] = Counter()
        """By the names of `StoreCounters`."""

    @property
    def problem(self) -> str | None:
        """Why entries are left out now; None: they are sent."""
        return self._problem if self._breaker.is_open else None

    @property
    def opened(self) -> int:
        """How often it began that entries are left out."""
        return self._breaker.opened

    def skip(self, count: int) -> None:
        """Entries are dropped unsent."""
        self.counts["writes_skipped"] += count

    async def put(self, entries: Sequence[StoredEntry]) -> None:
        """Write entries, unless they would be refused or too many are on their way."""
        count = len(entries)
        full = self._entries + count > _ENTRIES_LIMIT and self._entries > 0
        busy = full or self._calls >= self._link.writes_at_once
        if busy or not self._breaker.admits(self._clock.now()):
            self.skip(count)
            return
        commands: list[Command] = [
            ("SET", entry.key, entry.value, "PX", _milliseconds(entry.ttl_s)) for entry in entries
        ]
        self._entries += count
        self._calls += 1
        try:
            replies = await self._run(commands)
        finally:
            self._entries -= count
            self._calls -= 1
        written = sum(1 for reply in replies if not isinstance(reply, Exception))
        self.counts["writes"] += written
        self.counts["write_errors"] += count - written

    async def lock(self, key: str, ttl_s: float) -> bool | None:
        """Take a lock, as `ScoreStore.lock` says."""
        if self._breaker.is_open:
            self.counts["lock_errors"] += 1
            return None
        # From before the server can have begun to count: see `unlock`.
        ends_at = self._clock.now() + ttl_s
        (reply,) = await self._run([("SET", key, b"1", "NX", "PX", _milliseconds(ttl_s))])
        if isinstance(reply, Exception):
            self.counts["lock_errors"] += 1
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
            self.counts["lock_errors"] += 1

    def _remember(self, key: str, ends_at: float) -> None:
        if len(self._locks) >= self._locks_limit:
            now = self._clock.now()
            self._locks = {key: end for key, end in self._locks.items() if end > now}
            # So that locks by the thousand are not gone through again for each new one.
            self._locks_limit = max(_LOCKS_KEPT, 2 * len(self._locks))
        self._locks[key] = ends_at

    async def _run(self, commands: Sequence[Command]) -> Sequence[object]:
        """The replies; if nobody can be asked, what went wrong in the place of each."""
        began = self._clock.now()
        replies: Sequence[object]
        try:
            with self._watched(_operation(commands), len(commands)) as watching:
                replies = await self._link.run(commands, self._timeout_s)
                if failed := refused(replies):
                    watching.failed(failed[0])
        # Everything: nothing that a client library may raise must fail a request.
        except Exception as problem:
            replies = [problem] * len(commands)
        self._note(replies, began)
        return replies

    def _note(self, replies: Sequence[object], began: float) -> None:
        failed = refused(replies)
        if not replies or len(failed) < len(replies):
            self._breaker.succeeded()
        # One of several servers has a breaker of its own; no turn is our own crowd.
        elif not isinstance(failed[0], NodeFailed | NoTurn):
            self._problem = words_of(failed[0])
            self._breaker.failed(started=began, now=self._clock.now())


def _operation(commands: Sequence[Command]) -> str:
    """As the database conventions name it; the commands are all the same one."""
    command = str(commands[0][0])
    return command if len(commands) == 1 else f"PIPELINE {command}"


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
