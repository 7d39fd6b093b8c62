"""Rows that were missing, computed in the background: bounded, and never in a request's way.

To fill one row the segments' representatives are scored, about a hundred rows of
model input. That pays only for items that are asked for again and again. So

* a row is computed only once its item was asked for `ADMITTED` times lately, the
  most wanted first;
* fills live on credit. A candidate that had a row has saved one row of scoring,
  and earns one; one that had none was scored, and earns `SHARE`. A fill spends what
  it scores. So fills never cost more than a share of what requests score beside
  what the cache has saved them;
* a few rows at a time go to the batcher, behind everybody else's;
* who computes a row takes a lock on it, so that other processes leave it to him,
  and looks first whether one of them has done it already.
"""

import asyncio
import logging
from contextvars import Context

import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.joining import SMALLEST_SCORE
from ranking_models.schema import Encoder, FeatureBatch, Float32, Int32
from service.batching.batcher import Batcher
from service.cache.row_codec import UInt16, quantised
from service.cache.row_keys import RowSpace
from service.cache.rows import ScoreRows
from service.clock import Clock
from service.engines.rows import CandidateRows, CandidateTables
from service.errors import DeadlineExpired, EngineFailed, RankingError

ADMITTED = 2
"""Times that an item was asked for lately, until its row is worth computing."""
SHARE = 0.2
"""What a candidate without a row earns: fills may add a fifth to what requests score."""
EARLY_CREDIT = 20_000
"""Rows that may be scored before anything was earned: the most popular items, at the start."""
MOST_CREDIT = 100_000
MOST_WAITING = 2_048
"""Rows that wait to be computed; further ones are asked for again if they matter."""
ITEMS_AT_ONCE = 4
"""Items of one job: about 500 rows, an engine call or two."""
FILL_TIMEOUT_S = 5.0
"""After it a fill is given up, and another process may try."""
_log = logging.getLogger(__name__)


class _Wanted(Struct, frozen=True):
    """Rows of one context."""

    space: RowSpace
    context: FeatureBatch
    positions: set[int]
    epoch: int
    """That they are for."""


class Speakers:
    """The users whose scores make a segment's: its representatives, and nobody for segment 0."""

    def __init__(self, bundle: Bundle) -> None:
        segments = bundle.segments
        assert segments is not None
        known = segments.representatives >= 0
        nobody = Encoder(bundle.schema.of("user")).encode_rows([{}])
        users = bundle.users.take(segments.representatives[known])
        self.users = FeatureBatch.concatenate([nobody, users])
        speaks = known.sum(axis=1)
        speaks[0] = 1
        self._starts = np.concatenate([[0], np.cumsum(speaks)[:-1]])
        self._speaks = speaks

    @property
    def count(self) -> int:
        """Rows of model input that one row of scores takes."""
        return self.users.rows

    def rows(self, tables: CandidateTables, context: FeatureBatch, items: Int32) -> CandidateRows:
        """Each item beside every speaker, item by item."""
        return CandidateRows(
            tables=tables,
            users=self.users,
            contexts=context.take(np.zeros(self.count, np.intp)),
            request_of_row=np.tile(np.arange(self.count, dtype=np.int32), len(items)),
            items=np.repeat(items, self.count),
        )

    def steps(self, scores: Float32) -> UInt16:
        """Each segment's mean log odds, quantised, ``[items, segments]``, from these rows' scores.

        As `ranking_models.segments.segment_scores` has it.
        """
        sure = np.clip(scores.astype(np.float64), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
        odds = (np.log(sure) - np.log1p(-sure)).reshape(-1, self.count)
        return quantised(np.add.reduceat(odds, self._starts, axis=1) / self._speaks)


class RowFiller:
    """Computes the missing rows of one deployment. Used from one event loop.

    Args:
        rows: Where they are kept.
        speakers: Whose scores make them.
        tables: The deployment's candidates.
        batcher: Its engines.
        deployment: Its name.
        clock: The batcher's.
    """

    def __init__(
        self,
        rows: ScoreRows,
        speakers: Speakers,
        tables: CandidateTables,
        batcher: Batcher,
        deployment: str,
        clock: Clock,
    ) -> None:
        self._rows, self._speakers, self._tables = rows, speakers, tables
        self._batcher, self._deployment, self._clock = batcher, deployment, clock
        self._waiting: dict[str, _Wanted] = {}
        self._count = 0
        self._credit = float(EARLY_CREDIT)
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Rows that wait to be computed."""
        return self._count

    def earn(self, hits: int, misses: int) -> None:
        """Take in what a request's rows have saved, and what it had to score."""
        self._credit = min(MOST_CREDIT, self._credit + hits + SHARE * misses)

    def want(self, space: RowSpace, context: FeatureBatch, positions: Int32) -> None:
        """Have rows computed, each once however often it is wanted meanwhile."""
        asked = self._rows.table.times_asked(space.prefix, positions)
        wanted = positions[asked >= ADMITTED].tolist()[: MOST_WAITING - self._count]
        if wanted:
            new = _Wanted(space, context, set(), self._rows.store.epoch)
            there = self._waiting.setdefault(space.prefix, new).positions
            before = len(there)
            there.update(wanted)
            self._count += len(there) - before
        if self._count and (self._task is None or self._task.done()):
            # It is part of no request's trace.
            self._task = asyncio.get_running_loop().create_task(
                self._fill_all(), name="cache-row-fills", context=Context()
            )

    async def fill(self, space: RowSpace, context: FeatureBatch, positions: Int32) -> int:
        """Compute the rows that nobody has, however often they were asked for and on no credit: for
        who fills the cache before demand comes.

        Args:
            space: Of the context.
            context: One row, encoded.
            positions: Of items in the catalogue, each once.

        Returns:
            How many were computed; another process computes some of the others, maybe.

        Raises:
            RankingError, EngineFailed, DeadlineExpired: they cannot be computed now.
        """
        wanted, computed = _Wanted(space, context, set(), self._rows.store.epoch), 0
        for first in range(0, len(positions), ITEMS_AT_ONCE):
            some = positions[first : first + ITEMS_AT_ONCE]
            computed += await self._fill(wanted, some, on_credit=False)
        return computed

    async def quiet(self) -> None:
        """Wait until nothing is being computed; what there is no credit for still waits."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _fill_all(self) -> None:
        while self._count:
            items = min(ITEMS_AT_ONCE, int(self._credit / self._speakers.count))
            if not items:
                return
            wanted, positions = self._most_wanted(items)
            try:
                await self._fill(wanted, positions)
            except (RankingError, EngineFailed, DeadlineExpired) as why:
                _log.debug("%d score rows are not computed now: %r", len(positions), why)
                self._rows.count(fills_failed=len(positions))
                return  # the engines have other worries; whoever wants them asks again
            finally:
                self._forget(wanted, positions)

    def _most_wanted(self, items: int) -> tuple[_Wanted, Int32]:
        """Of the context that waits longest, the items that are asked for most."""
        wanted = next(iter(self._waiting.values()))
        positions = np.array(sorted(wanted.positions), np.int32)
        asked = self._rows.table.times_asked(wanted.space.prefix, positions)
        return wanted, positions[np.argsort(-asked.astype(np.int16), kind="stable")[:items]]

    def _forget(self, wanted: _Wanted, positions: Int32) -> None:
        """No more wanted; a context with rows that still are goes behind the others."""
        prefix = wanted.space.prefix
        del self._waiting[prefix]
        self._count -= len(positions)
        wanted.positions.difference_update(positions.tolist())
        if wanted.positions:
            self._waiting[prefix] = wanted

    async def _fill(self, wanted: _Wanted, positions: Int32, *, on_credit: bool = True) -> int:
        """How many were computed."""
        if wanted.epoch != self._rows.store.epoch:
            return 0  # purged while it waited
        positions, locked = await self._left_to_us(wanted.space, positions)
        if not len(positions):
            return 0
        if on_credit:
            self._credit -= len(positions) * self._speakers.count
        try:
            return await self._compute(wanted, positions)
        finally:
            await asyncio.gather(*map(self._rows.store.unlock, locked))

    async def _compute(self, wanted: _Wanted, positions: Int32) -> int:
        done = await self._batcher.score(
            self._speakers.rows(self._tables, wanted.context, positions),
            deadline=self._clock.now() + FILL_TIMEOUT_S,
            priority="low",
            deployment=self._deployment,
        )
        took = done.last_batch.batch_time
        self._rows.worth.scoring_costs(None if took is None else took.row_s)
        if done.fallback:
            raise EngineFailed("a fallback has scored them, and only the first engine's are kept")
        steps = self._speakers.steps(done.scores)
        await self._rows.keep(wanted.space, positions, steps, done.engine_s / len(positions))
        return len(positions)

    async def _left_to_us(self, space: RowSpace, positions: Int32) -> tuple[Int32, list[str]]:
        """The rows that no other process has computed, nor is about to; and the locks on them."""
        fresh = await self._rows.fetch_fresh(space, positions)
        if fresh is None:
            return positions, []
        missing = positions[~fresh]
        store, keys = self._rows.store, [f"{space.key(at)}:L" for at in missing.tolist()]
        locks = await asyncio.gather(*(store.lock(key, FILL_TIMEOUT_S) for key in keys))
        ours = np.array([lock is not False for lock in locks], np.bool_)
        return missing[ours], [key for key, lock in zip(keys, locks, strict=True) if lock]
