"""Score rows of one deployment: looked up for a whole request, on two levels.

A row says what every segment scores an item, so one row serves all users. It is
never wrong while its key is equal, so this process keeps it as long as the
entry itself is good: unlike a slate's copy it needs no shorter life of its own.

What this process does not hold is fetched from Redis only while that costs less
than to score it (see `worth`); what nobody holds is computed in the background
(see `service.deployments.row_fills`), and nobody waits for it.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch, Float32, Int32
from service.cache.metered import Metered
from service.cache.row_codec import RowEntries, UInt16, decode_rows, encode_rows, scores_of
from service.cache.row_keys import RowSpace, UInt64, row_space
from service.cache.row_table import RowTable
from service.cache.store import ScoreStore, StoredEntry, StoreOutcome
from service.cache.worth import RowWorth, WorthReport
from service.clock import Clock
from service.settings import CacheSettings

_MB = 1_000_000
_FEWEST_BYTES = 1 << 16
"""Of the table where the first level is off: it still counts what is asked for."""

Places = npt.NDArray[np.intp]
Fetching = Literal["nothing", "declined", "ok", "error", "open"]
"""What became of the rows that this process did not hold: there were none; asking Redis would cost
more than to score them; as the store says."""

_Number = TypeVar("_Number", np.float64, np.uint16, np.bool_)


class RowCounters(Struct, frozen=True, kw_only=True):
    """What became of rows since the start, each asked once per request."""

    process_hits: int = 0
    """Held by this process."""
    store_hits: int = 0
    """Fetched from Redis."""
    misses: int = 0
    stale: int = 0
    """Of the hits, those past their soft end."""
    bypassed: int = 0
    """Candidates that no key can stand for: unknown to the catalogue, or described by the request;
    and all of a user whom the request describes."""
    unreadable: int = 0
    """Values that were not what belongs under their key."""
    fetches: int = 0
    """Round trips to Redis for a request."""
    declined: int = 0
    """Requests that did not fetch, as it would have cost more than to score."""
    filled: int = 0
    """Rows computed in the background."""
    found_elsewhere: int = 0
    """Rows that were to be computed, and that another process had computed."""
    fills_failed: int = 0
    """Rows that were to be computed and were not: refused, too late, or by no first engine."""


class KnownRows(Struct, frozen=True, kw_only=True):
    """What the cache knows of one request's candidates."""

    found: npt.NDArray[np.bool_]
    """Whether there is a row, ``[candidates]``."""
    scores: Float32
    """What the user's segment scores, ``[candidates]``; where no row was found, it says nothing."""
    asked: int
    """Candidates that have a key."""
    stale: int
    """Rows past their soft end, of those found."""
    age_s: float | None
    """Of the oldest row found."""
    fetching: Fetching

    @property
    def hits(self) -> int:
        return int(np.count_nonzero(self.found))


class RowsStatus(Struct, frozen=True, kw_only=True):
    """How the rows of a deployment are, for metrics and for people who ask why."""

    worth: WorthReport
    counters: RowCounters
    rows: int
    """Held by this process, those of other deployments with as many segments included."""
    bytes: int
    """What they may come to take."""


class RowTables:
    """The tables of this process, shared by deployments: one per number of segments."""

    def __init__(self, settings: CacheSettings) -> None:
        self.keeps = settings.first_level_ttl_s > 0 and settings.first_level_mb > 0
        self._bytes = settings.first_level_mb * _MB if self.keeps else _FEWEST_BYTES
        self._by_segments: dict[int, RowTable] = {}
        self.counts: Counter[str] = Counter()
        """What `RowCounters` has, of all deployments that there are and were."""

    def of(self, segments: int) -> RowTable:
        """The table for rows of so many segments."""
        if segments not in self._by_segments:
            self._by_segments[segments] = RowTable(segments, self._bytes)
        return self._by_segments[segments]


class RowLevels(Struct, frozen=True):
    """What all deployments keep their rows in."""

    store: ScoreStore
    """The level of all replicas."""
    tables: RowTables
    settings: CacheSettings
    clock: Clock

    @staticmethod
    def over(store: ScoreStore, settings: CacheSettings, clock: Clock) -> "RowLevels":
        """With empty tables in this process."""
        return RowLevels(store, RowTables(settings), settings, clock)

    def counts(self) -> dict[str, int]:
        """What became of rows since the start, of all deployments; see `RowCounters`."""
        return msgspec.structs.asdict(RowCounters(**self.tables.counts))

    def rows(self, segments: int, score_hash: str) -> "ScoreRows":
        """Those of a deployment; see `ScoreRows`."""
        return ScoreRows(
            self.store,
            self.tables,
            segments=segments,
            score_hash=score_hash,
            settings=self.settings,
            clock=self.clock,
        )


class ScoreRows:
    """The rows of one deployment. Used from one event loop.

    Args:
        store: The level of all replicas.
        tables: The level of this process.
        segments: Scores of a row.
        score_hash: Stands for all that makes the scores, segments included.
        settings: Lifetimes, and whether requests fetch.
        clock: Ages go by its wall.
        cpu_s: CPU time that this thread has taken.
    """

    def __init__(
        self,
        store: ScoreStore,
        tables: RowTables,
        *,
        segments: int,
        score_hash: str,
        settings: CacheSettings,
        clock: Clock,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.store, self._settings, self._clock = store, settings, clock
        self.table, self._keeps = tables.of(segments), tables.keeps
        self._counts_of_all = tables.counts
        self.segments, self._hash = segments, score_hash
        self.worth = RowWorth(settings.rows)
        self._cpu_s = cpu_s
        self._counts: Counter[str] = Counter()

    def space(self, context: FeatureBatch, arm: str = "") -> RowSpace:
        """Where the rows are that requests with this context share."""
        return row_space(score_hash=self._hash, epoch=self.store.epoch, context=context, arm=arm)

    def status(self) -> RowsStatus:
        """What lookups and fills have met; asks nobody."""
        return RowsStatus(
            worth=self.worth.report(),
            counters=RowCounters(**self._counts),
            rows=len(self.table),
            bytes=self.table.bytes,
        )

    async def known(
        self,
        space: RowSpace,
        items: Int32,
        described: Sequence[int],
        segment: int,
        *,
        timeout_s: float = math.inf,
    ) -> tuple[KnownRows, Int32]:
        """Look up a request's candidates.

        Args:
            space: Of its context.
            items: Their catalogue positions, -1 for unknown.
            described: Candidates, by number, that bring features of their own.
            segment: The user's.
            timeout_s: Longest that the caller can wait.

        Returns:
            What is known, and the positions whose rows are worth computing: missing or stale.
        """
        at = self._with_keys(items, described)
        positions = items[at]
        kept = self.table.find(space.prefix, positions)
        found, age_s = self._good(kept.found & self._keeps, kept.created_s, kept.soft_s)
        steps, soft_s = kept.steps[:, segment].copy(), kept.soft_s
        self.count(process_hits=int(np.count_nonzero(found)))
        fetching: Fetching = "nothing"
        missing = np.flatnonzero(~found)
        if len(missing):
            fetching, rows = await self._fetched(space, positions[missing], timeout_s)
            if rows is not None:
                steps[missing] = rows.steps[:, segment]
                found[missing], age_s[missing] = rows.found, self._ages(rows.created_s)
                soft_s[missing] = self._soft_s(space.tags(positions[missing]))
        stale = found & (age_s >= soft_s)
        hits = int(np.count_nonzero(found))
        self.count(misses=len(at) - hits, stale=int(np.count_nonzero(stale)))
        known = KnownRows(
            found=_spread(found, at, len(items)),
            scores=scores_of(_spread(steps, at, len(items))),
            asked=len(at),
            stale=int(np.count_nonzero(stale)),
            age_s=float(age_s[found].max()) if hits else None,
            fetching=fetching,
        )
        return known, positions[~found | stale]

    def bypassed(self, candidates: int) -> None:
        """Count candidates that no key can stand for."""
        self.count(bypassed=candidates)

    async def fetch_fresh(self, space: RowSpace, positions: Int32) -> npt.NDArray[np.bool_] | None:
        """Take into this process what Redis has, for the background.

        Returns:
            Whose rows are as good as computed, ``[positions]``; None: Redis does not say.
        """
        _, rows = await self._read(space, positions, math.inf)
        if rows is None:
            return None
        fresh = rows.found & (self._ages(rows.created_s) < self._soft_s(space.tags(positions)))
        self.count(found_elsewhere=int(np.count_nonzero(fresh)))
        return fresh

    async def keep(
        self, space: RowSpace, positions: Int32, steps: UInt16, computed_s: float
    ) -> None:
        """Keep computed rows on both levels; the first knows them at once.

        Args:
            computed_s: How long one of them took.
        """
        now, tags = self._clock.wall(), space.tags(positions)
        soft_s = self._soft_s(tags)
        created_s = np.full(len(positions), float(int(now)))
        self.table.put(space.prefix, positions, steps, created_s, soft_s)
        self.count(filled=len(positions))
        values = encode_rows(tags, steps, created_s=now, computed_s=computed_s)
        hard = self._settings.hard_ttl_factor
        await self.store.put(
            [
                StoredEntry(space.key(position), value, ttl_s)
                for position, value, ttl_s in zip(
                    positions.tolist(), values, (soft_s * hard).tolist(), strict=True
                )
            ]
        )

    def _with_keys(self, items: Int32, described: Sequence[int]) -> Places:
        has_key = items >= 0
        if described:
            has_key[list(described)] = False
        at = np.flatnonzero(has_key)
        if len(at) < len(items):
            self.bypassed(len(items) - len(at))
        return at

    async def _fetched(
        self, space: RowSpace, positions: Int32, timeout_s: float
    ) -> tuple[Fetching, RowEntries | None]:
        """What Redis has for a request, if it is worth asking; learns what that costs."""
        if not self.worth.fetches():
            self.count(declined=1)
            return "declined", None
        metered = Metered(self._read(space, positions, timeout_s), self._cpu_s)
        outcome, rows = await metered
        if rows is None:
            return outcome, None
        hits = int(np.count_nonzero(rows.found))
        self.worth.looked_up(len(positions), hits, metered.took_s)
        self.count(fetches=1, store_hits=hits)
        return outcome, rows

    async def _read(
        self, space: RowSpace, positions: Int32, timeout_s: float
    ) -> tuple[StoreOutcome, RowEntries | None]:
        keys = [space.key(position) for position in positions.tolist()]
        fetched = await self.store.get(keys, timeout_s=timeout_s)
        if fetched.outcome != "ok" and not any(fetched.values):
            return fetched.outcome, None
        tags = space.tags(positions)
        rows = decode_rows(tags, fetched.values, self.segments)
        self.count(unreadable=rows.unreadable)
        soft_s = self._soft_s(tags)
        good, _ = self._good(rows.found, rows.created_s, soft_s)
        rows = msgspec.structs.replace(rows, found=good)
        if good.any() and self._keeps:
            kept = positions[good]
            created_s = rows.created_s[good]
            self.table.put(space.prefix, kept, rows.steps[good], created_s, soft_s[good])
        return fetched.outcome, rows

    def _good(
        self,
        found: npt.NDArray[np.bool_],
        created_s: npt.NDArray[np.float64],
        soft_s: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Rows that have not come to their hard end, and the ages of all."""
        age_s = self._ages(created_s)
        return found & (age_s < soft_s * self._settings.hard_ttl_factor), age_s

    def _ages(self, created_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Never negative: a clock that was set back makes nothing younger than new."""
        return np.maximum(self._clock.wall() - created_s, 0.0)

    def _soft_s(self, tags: UInt64) -> npt.NDArray[np.float64]:
        """The soft end of each key's row, the same for every reader; see `freshness`."""
        spread = (tags & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**31 - 1
        return self._settings.ttl_s * (1 + self._settings.ttl_jitter * spread)

    def count(self, **what: int) -> None:
        """Count what became of rows, by the names of `RowCounters`."""
        for name, count in what.items():
            self._counts[name] += count
            self._counts_of_all[name] += count


def _spread(values: npt.NDArray[_Number], at: Places, candidates: int) -> npt.NDArray[_Number]:
    """Values of some candidates among all; 0 elsewhere."""
    if len(at) == candidates:
        return values
    spread = np.zeros(candidates, values.dtype)
    spread[at] = values
    return spread
