"""Mode ``exact``: only requests with identical inputs share an answer.

A slate that the cache has is given out, computed anew behind the reply when it
is due, and computed at once where the cache has none.
"""

import asyncio
import contextlib
from contextvars import Context
from typing import Final

from msgspec import Struct

from service.batching.records import ScoredRows, ScoredTooLate
from service.cache import CacheLookup, ScoreCache, SlateKey
from service.cache.metered import SAMPLED, Metered
from service.clock import Clock
from service.errors import DeadlineExpired, EngineFailed, RankingError
from service.scoring.computing import Computing, End
from service.scoring.slates import (
    Asked,
    SlateScores,
    Wanted,
    answer,
    cached,
    computed,
    found_report,
    fresh,
    in_need,
    last_resort,
    share_s,
)
from service.telemetry import Telemetry

RENEWAL_S: Final = 1.0
"""Longest that a slate may take to be computed anew behind the reply."""
MOST_RENEWALS: Final = 64
"""At a time. What is due beyond that is given out as it is, and renewed for a later reader."""


class Renewals(Struct):
    """What became of slates that were to be computed anew, since the start."""

    renewed: int = 0
    elsewhere: int = 0
    """Another process computes them, or just has."""
    not_computed: int = 0
    """The engines were too busy, failed, or left it to a fallback."""
    too_many: int = 0
    """So many were under way that it was left to a later reader."""


class ExactScores:
    """Finds or computes the scores of whole slates. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._clock = clock
        self._lookups = 0
        self._computing = Computing(telemetry=telemetry, clock=clock)
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self.renewals = Renewals()

    def at_once(self, wanted: Wanted, cache: ScoreCache, key: SlateKey) -> SlateScores | None:
        """The slate, if this process itself knows it; nothing is waited for."""
        found = cache.peek(key)
        if found is None:
            return None
        if wanted.deployment.slate_worth is not None:
            wanted.deployment.slate_worth.known_here(wanted.request)
        return self._found(wanted, cache, key, found, 0.0)

    async def scores(self, wanted: Wanted, cache: ScoreCache, key: SlateKey) -> SlateScores:
        """The slate, of the cache or of an engine; after `at_once` had none.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
        """
        batcher = wanted.deployment.batcher
        assert batcher is not None, "who has a cache has engines"
        if self._computing.is_under_way(key, batcher, wanted.request.priority):
            asked = answer(CacheLookup(outcome="miss"), key, 0.0)
            return await self._compute(wanted, cache, key, asked, claims=False)
        started = self._clock.now()
        found = await self._look_up(wanted, cache, key, started)
        took_s = self._clock.now() - started
        if found.scores is not None:
            return self._found(wanted, cache, key, found, took_s)
        claims = found.outcome == "miss" and _others_may_compute(wanted, cache, key)
        return await self._compute(wanted, cache, key, answer(found, key, took_s), claims=claims)

    async def _look_up(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, started: float
    ) -> CacheLookup:
        """Ask the store; learn what that costs, and what it is good for."""
        # The other half is for the engines, should the cache hang.
        asking = cache.get(key, timeout_s=max(0.0, wanted.deadline - started) / 2)
        worth, took_s = wanted.deployment.slate_worth, None
        self._lookups += 1
        if worth is not None and self._lookups % SAMPLED == 1:
            metered = Metered(asking)
            found = await metered
            took_s = metered.took_s
        else:
            found = await asking
        if worth is not None and (found.scores is not None or found.outcome == "miss"):
            worth.looked_up(wanted.request, found=found.scores is not None, cpu_s=took_s)
        return found

    async def stop(self) -> None:
        """Give up what is being renewed."""
        tasks = tuple(self._renewing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, asked: Asked, *, claims: bool
    ) -> SlateScores:
        try:
            got = await self._computing.scores(wanted, cache, key, claims=claims)
        except (DeadlineExpired, EngineFailed) as why:
            late = fresh(asked, why.scored) if isinstance(why, ScoredTooLate) else None
            kept = cache.left(key)
            if kept is not None:
                return last_resort(wanted, asked, kept, why, late)
            return in_need(wanted, asked, why, late)
        if isinstance(got.end, ScoredRows):
            if wanted.deployment.slate_worth is not None:
                wanted.deployment.slate_worth.scored(share_s(got.end))
            return computed(wanted.deployment, asked, got.end, shared=got.shared)
        return self._found(wanted, cache, key, got.end, asked.took_s)

    def _found(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, found: CacheLookup, took_s: float
    ) -> SlateScores:
        if found.refresh:
            self._renew(wanted, cache, key, found)
        assert found.scores is not None
        asked = Asked(report=found_report(found), scores=found.scores, took_s=took_s)
        return cached(wanted.deployment, asked, found.scores)

    def _renew(self, wanted: Wanted, cache: ScoreCache, key: SlateKey, found: CacheLookup) -> None:
        batcher = wanted.deployment.batcher
        assert batcher is not None
        if key.text in self._renewing or self._computing.is_under_way(key, batcher):
            return
        if len(self._renewing) >= MOST_RENEWALS:
            self.renewals.too_many += 1
            return
        renewal = self._renewed(wanted, cache, key, found.age_s or 0.0)
        # It is part of no request's trace: most are answered before it begins.
        task = asyncio.get_running_loop().create_task(renewal, context=Context())
        self._renewing[key.text] = task
        task.add_done_callback(lambda _: self._renewing.pop(key.text, None))

    async def _renewed(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, age_s: float
    ) -> None:
        if await cache.claim(key, for_s=RENEWAL_S) is False:
            self.renewals.elsewhere += 1
            return
        newest = await cache.get(key)
        if newest.age_s is not None and newest.age_s < age_s:
            self.renewals.elsewhere += 1  # done before we asked
            return
        end: End | None = None
        # Refused at the door, or its deployment has left: a later reader tries again.
        with contextlib.suppress(RankingError):
            deadline = self._clock.now() + RENEWAL_S
            end = await self._computing.renewed(wanted, cache, key, deadline)
        if isinstance(end, ScoredRows) and not end.fallback:
            self.renewals.renewed += 1
            await cache.put(key, end.scores, computed_s=end.engine_s)
        else:
            self.renewals.not_computed += 1


def _others_may_compute(wanted: Wanted, cache: ScoreCache, key: SlateKey) -> bool:
    """Whether to ask the other processes first, at the price of a round trip.

    Pages are for everybody; what a user asks for the first time, nobody else asks for.
    """
    return wanted.request.anchor_item is not None or cache.in_demand(key)
