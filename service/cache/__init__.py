"""The score cache: what it promises, whoever keeps the entries.

A failing cache makes the service slower, never wrong and never unavailable:
no method raises, each is bounded in time, and every failure leaves a count.
"""

import math
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from ranking_models.schema import Float32
from service.breaker import BreakerState
from service.cache.keys import SlateKey, slate_key
from service.messages import CacheLevel

__all__ = [
    "CacheCounters",
    "CacheLevel",
    "CacheLookup",
    "CacheOutcome",
    "CacheStatus",
    "FirstLevelStatus",
    "ScoreCache",
    "SlateKey",
    "slate_key",
]

CacheOutcome = Literal["hit", "stale", "miss", "error", "open"]
"""stale: there, and past its soft end; error: the cache failed or was too slow; open: it was left
alone, as it keeps failing. Neither of the last two is a miss: nobody knows whether the scores were
there."""


class CacheLookup(Struct, frozen=True, kw_only=True):
    """What the cache knows of one slate."""

    outcome: CacheOutcome
    scores: Float32 | None = None
    """If found, one score per candidate, in the key's order; read-only."""
    age_s: float | None = None
    """If found, seconds since the scores were stored, never negative."""
    level: CacheLevel | None = None
    """If found, where."""
    refresh: bool = False
    """The caller should have them computed anew, behind the reply."""


class CacheCounters(Struct, frozen=True, kw_only=True):
    """What became of lookups and writes since the start."""

    hits: int = 0
    """Those in this process included."""
    process_hits: int = 0
    """Hits and stale ones that this process itself knew."""
    stale: int = 0
    """Found past their soft end."""
    misses: int = 0
    """Nothing under the key, unreadable values included."""
    unreadable: int = 0
    """Values that were not what belongs under their key."""
    errors: int = 0
    """Lookups that failed, those that took too long included."""
    timeouts: int = 0
    """Lookups that got no answer within the cache timeout, or their caller's."""
    left_alone: int = 0
    """Lookups not made: the breaker was open, or the server had fallen silent."""
    writes: int = 0
    write_errors: int = 0
    writes_skipped: int = 0
    """The server was left alone or refuses them, too many were under way, or scores are not
    finite."""
    lock_errors: int = 0
    """Times it was not known whether another process computes the same."""


class FirstLevelStatus(Struct, frozen=True, kw_only=True):
    """What this process itself keeps."""

    entries: int = 0
    bytes: int = 0
    """About what they take."""


class CacheStatus(Struct, frozen=True, kw_only=True):
    """How the cache is, for health and metrics."""

    state: Literal["connected", "degraded"]
    breaker: BreakerState = "closed"
    breaker_opened: int = 0
    """How often the breaker has opened."""
    problem: str | None = None
    """Why it is degraded."""
    writes_problem: str | None = None
    """Why nothing is stored now, though what is there is found; None: it is."""
    writes_opened: int = 0
    """How often that began."""
    counters: CacheCounters = msgspec.field(default_factory=CacheCounters)
    first_level: FirstLevelStatus = msgspec.field(default_factory=FirstLevelStatus)


class ScoreCache(Protocol):
    """Scores of whole slates, kept for a while under keys that say all they depend on.

    Used from one event loop. Cancelling a call disturbs no other call.
    """

    @property
    def epoch(self) -> int:
        """The purge epoch that new keys belong to."""
        ...

    def peek(self, key: SlateKey) -> CacheLookup | None:
        """What this process itself knows of a slate, if it is enough: a hit or a stale one.

        Nothing is waited for, and nothing counted unless it is found.
        """
        ...

    def turns_away(self) -> bool:
        """Whether `get` would ask nobody now, as the cache keeps failing.

        Counted as a lookup that was not made: who hears yes does not call `get`.
        """
        ...

    async def get(self, key: SlateKey, *, timeout_s: float = math.inf) -> CacheLookup:
        """Look a slate up beyond this process, after `peek` found nothing.

        What is found is exactly the scores that were put.

        Args:
            key: What is asked.
            timeout_s: Longest that the caller can wait, if that is less than the cache
                would take. Bound a lookup here and not by cancelling it: a cancelled
                lookup says nothing about the cache, one that took too long does.
        """
        ...

    def left(self, key: SlateKey) -> CacheLookup | None:
        """What this process still has of a slate, up to its hard end: for when nobody can compute.

        A stale lookup, whatever the age.
        """
        ...

    def learn(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """Keep a slate's scores in this process, for those who ask until they are `put`."""
        ...

    async def put(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """Keep a slate's scores, which took `computed_s` to compute.

        May drop them. Call it after the reply: nobody should wait for it.
        """
        ...

    def in_demand(self, key: SlateKey) -> bool:
        """Whether it was asked for before, lately: then others may compute it as well."""
        ...

    async def claim(self, key: SlateKey, *, for_s: float) -> bool | None:
        """Ask to be the only process that computes a slate.

        Args:
            key: Of the slate.
            for_s: How long it may take. The claim ends by itself, then or earlier.

        Returns:
            Whether it is ours to compute; None: nobody knows.
        """
        ...

    def status(self) -> CacheStatus:
        """How the cache is, from what its calls have met; asks nobody."""
        ...
