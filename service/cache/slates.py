"""Whole slates on two levels: in this process for a moment, and in a store for all replicas.

Scores are kept as computed, so a cached answer is the computed answer. What a
reader finds carries its age, from which `freshness` says how good it still is;
this process keeps an entry no longer than the store does.
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Final
from weakref import ref

import numpy as np
from msgspec import Struct

from ranking_models.schema import Float32
from service.cache import CacheCounters, CacheLevel, CacheLookup, CacheStatus, FirstLevelStatus
from service.cache.codec import Entry, decode, encode
from service.cache.first_level import FirstLevel
from service.cache.freshness import Lifetimes
from service.cache.keys import SlateKey
from service.cache.store import ScoreStore, StoredEntry
from service.clock import Clock
from service.settings import CacheSettings

_OVERHEAD_BYTES: Final = 700
"""What an entry of the first level takes beside key and scores: its objects and dictionary slots,
by `tests/service/cache/test_slates.py`."""
_MB: Final = 1_000_000
_HOT: Final = 2
"""Times that a slate was asked for lately, until another process may compute it too."""


class _Kept(Struct, frozen=True):
    """A slate in this process."""

    entry: Entry
    soft_s: float
    learnt_from: "ref[Float32] | None" = None
    """The very scores that it is a copy of."""


def lifetimes(settings: CacheSettings) -> Lifetimes:
    """How long entries are good for, as the settings say."""
    return Lifetimes(
        ttl_s=settings.ttl_s,
        jitter=settings.ttl_jitter,
        hard_factor=settings.hard_ttl_factor,
        refresh_beta=settings.refresh_beta,
    )


class SlateCache:
    """A `ScoreCache` over a store. Used from one event loop.

    Args:
        store: The level of all replicas; its owner starts and stops it.
        settings: Bounds and lifetimes.
        clock: Ages go by its wall, and the first level by `now`.
        draw: Random numbers from 0 to 1 (excluded).
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        settings: CacheSettings,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._wall, self._draw = store, clock.wall, draw
        self._lifetimes = lifetimes(settings)
        self._first: FirstLevel[_Kept] = FirstLevel(
            settings.first_level_mb * _MB, settings.first_level_ttl_s, clock.now
        )
        self._first_ttl_s = settings.first_level_ttl_s
        self._epoch = store.epoch
        self._counts: Counter[str] = Counter()

    @property
    def store(self) -> ScoreStore:
        """The level of all replicas, for other kinds of entries as well."""
        return self._store

    @property
    def epoch(self) -> int:
        """The store's. When it moves, this process forgets what it has of the one before."""
        epoch = self._store.epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._first.clear()
        return epoch

    def peek(self, key: SlateKey) -> CacheLookup | None:
        """What the first level knows, if it is enough."""
        kept = self._first.get(key.text)
        found = None if kept is None else self._found(key, kept, "process")
        if found is not None:
            self._counts["process_hits"] += 1
        return found

    def turns_away(self) -> bool:
        """Whether the store is left alone; see `ScoreCache.turns_away`."""
        return self._store.turns_away()

    async def get(self, key: SlateKey, *, timeout_s: float = math.inf) -> CacheLookup:
        """Look a slate up in the store: one round trip."""
        fetched = await self._store.get((key.text,), timeout_s=timeout_s)
        if fetched.outcome != "ok":
            return CacheLookup(outcome=fetched.outcome)
        found = self._read(key, fetched.values[0]) or self._learnt_meanwhile(key)
        if found is None:
            self._counts["misses"] += 1
            return CacheLookup(outcome="miss")
        return found

    def left(self, key: SlateKey) -> CacheLookup | None:
        """What the first level still holds, whatever its own TTL says."""
        # As long by our own clock too: the wall may have been set back since.
        hard_s = self._lifetimes.hard_s(self._lifetimes.soft_s(key.tag))
        kept = self._first.left(key.text, within_s=hard_s)
        if kept is None:
            return None
        age_s = self._age_s(kept.entry)
        if len(kept.entry.scores) != key.count or self._is_gone(kept, age_s):
            return None
        self._counts["stale"] += 1
        scores = kept.entry.scores
        return CacheLookup(outcome="stale", scores=scores, age_s=age_s, level="process")

    def learn(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """Keep scores in this process."""
        self._keep_copy(key, scores, computed_s)

    async def put(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """Keep scores on both levels; the first knows them at once."""
        kept = self._learnt(key, scores) or self._keep_copy(key, scores, computed_s)
        if kept is None:
            self._counts["writes_skipped"] += 1
            return
        hard_s = self._lifetimes.hard_s(kept.soft_s)
        await self._store.put([StoredEntry(key.text, encode(key, kept.entry), hard_s)])

    def in_demand(self, key: SlateKey) -> bool:
        """Whether it was asked for more than once, lately."""
        return self._first.times_asked(key.text) >= _HOT

    async def claim(self, key: SlateKey, *, for_s: float) -> bool | None:
        """Take the slate's lock in the store.

        Never for longer than half of a lifetime: so nobody has to give it back, and the next
        turn to compute the slate does not meet it.
        """
        half_s = self._lifetimes.soft_s(key.tag) / 2
        ours = await self._store.lock(f"{key.text}:lock", min(for_s, half_s))
        if ours is False:
            # From now on the store is asked, which has the other's scores as soon as there are any.
            self._first.drop(key.text)
        return ours

    def status(self) -> CacheStatus:
        """The store's, and what became of the slates."""
        store = self._store.status()
        below = store.counters
        return CacheStatus(
            state=store.state,
            breaker=store.breaker,
            breaker_opened=store.breaker_opened,
            problem=store.problem,
            writes_problem=store.writes_problem,
            writes_opened=store.writes_opened,
            counters=CacheCounters(
                hits=self._counts["hits"],
                process_hits=self._counts["process_hits"],
                stale=self._counts["stale"],
                misses=self._counts["misses"],
                unreadable=self._counts["unreadable"] + below.wrong_types,
                errors=below.errors,
                timeouts=below.timeouts,
                left_alone=below.left_alone,
                writes=below.writes,
                write_errors=below.write_errors,
                writes_skipped=self._counts["writes_skipped"] + below.writes_skipped,
                lock_errors=below.lock_errors,
            ),
            first_level=FirstLevelStatus(entries=len(self._first), bytes=self._first.bytes),
        )

    def _found(self, key: SlateKey, kept: _Kept, level: CacheLevel) -> CacheLookup | None:
        """An entry as a reader gets it; None if its time is over."""
        entry, soft_s = kept.entry, kept.soft_s
        age_s = self._age_s(entry)
        state = self._lifetimes.state(age_s, soft_s)
        if state == "gone" or len(entry.scores) != key.count:
            return None
        due = self._lifetimes.is_due(age_s, soft_s, entry.computed_s, self._draw())
        self._counts["hits" if state == "fresh" else "stale"] += 1
        return CacheLookup(
            outcome="hit" if state == "fresh" else "stale",
            scores=entry.scores,
            age_s=age_s,
            level=level,
            refresh=due,
        )

    def _read(self, key: SlateKey, value: bytes | None) -> CacheLookup | None:
        """What the store's value says, which the first level keeps from now on."""
        if value is None:
            return None
        entry = decode(key, value)
        if entry is None:
            self._counts["unreadable"] += 1
            return None
        kept = _Kept(entry, self._lifetimes.soft_s(key.tag))
        found = self._found(key, kept, "server")
        if found is not None:
            self._keep(key, kept)
        return found

    def _learnt_meanwhile(self, key: SlateKey) -> CacheLookup | None:
        """What another request of this process computed while the store was asked."""
        kept = self._first.left(key.text, within_s=self._first_ttl_s)
        return None if kept is None else self._found(key, kept, "process")

    def _is_gone(self, kept: _Kept, age_s: float) -> bool:
        return self._lifetimes.state(age_s, kept.soft_s) == "gone"

    def _age_s(self, entry: Entry) -> float:
        return max(0.0, self._wall() - entry.created_s)

    def _learnt(self, key: SlateKey, scores: Float32) -> _Kept | None:
        """The copy that was made when these scores were learnt."""
        kept = self._first.left(key.text)
        if kept is None or kept.learnt_from is None or kept.learnt_from() is not scores:
            return None
        return kept

    def _keep_copy(self, key: SlateKey, scores: Float32, computed_s: float) -> _Kept | None:
        """What is kept; None if the scores are not fit to be. Whoever computed them may change his
        own."""
        if len(scores) != key.count or not np.isfinite(scores).all():
            return None
        copy = scores.astype(np.float32)
        copy.flags.writeable = False
        entry = Entry(copy, self._wall(), computed_s)
        kept = _Kept(entry, self._lifetimes.soft_s(key.tag), ref(scores))
        self._keep(key, kept)
        return kept

    def _keep(self, key: SlateKey, kept: _Kept) -> None:
        size = _OVERHEAD_BYTES + len(key.text) + kept.entry.scores.nbytes
        self._first.put(key.text, kept, size)
