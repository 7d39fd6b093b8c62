"""One slate of two rankers: both score the request, and a team draft takes turns.

Source:
    Radlinski, Kurup, Joachims (2008), "How does clickthrough data reflect retrieval
    quality?", CIKM; see `experiments.interleaving`.
"""

import asyncio

import msgspec
from msgspec import Struct

from experiments.interleaving import coins, team_draft
from service.batching.records import ScoredRows
from service.cache import ScoreCache
from service.deployments import Deployment, Deployments
from service.errors import RankingError
from service.features import RequestRows
from service.messages import CacheReport, CacheResult, RankedItem, RankRequest
from service.routing import Caching, Interleave
from service.scoring import Fresh, SlateScorer, SlateScores, Wanted


class Drafted(Struct, frozen=True, kw_only=True):
    """The items of an interleaved slate."""

    slate_id: str
    """Its coins are this id's."""
    items: tuple[RankedItem, ...]
    """In the order of the draft, each with the score of the ranker that placed it."""
    teams: tuple[str, ...]
    """The two variants."""
    picks: str
    """A digit per item: the place in `teams` of the one that placed it."""

    def team_of(self) -> dict[str, str]:
        """Item id to the variant that placed it."""
        picks = zip(self.items, self.picks, strict=True)
        return {item.id: self.teams[int(pick)] for item, pick in picks}


class Mixed(Struct, frozen=True, kw_only=True):
    """What the two rankers gave."""

    rows: RequestRows
    """As `deployment` encoded the request."""
    deployment: Deployment
    """The control's; where only one of the two could score, that one's."""
    scored: SlateScores
    """What the reply tells of both: model and scores are those of `deployment`."""
    drafted: Drafted | None
    """None where only one could score, or none: then the slate is not interleaved."""
    variant: str
    """Whose slate it is where it is not interleaved."""
    batches: tuple[ScoredRows, ...] = ()
    """What engines scored for it alone."""
    also: tuple[tuple[ScoreCache, Fresh], ...] = ()
    """What else the caches do not know yet."""


class _Side(Struct, frozen=True, kw_only=True):
    """A ranker that scored the request, or ordered it by popularity since it could not."""

    variant: str
    deployment: Deployment
    rows: RequestRows
    scored: SlateScores


class Interleaver:
    """Ranks by two deployments at once. For one event loop."""

    def __init__(self, scorer: SlateScorer, deployments: Deployments) -> None:
        self._scorer, self._deployments = scorer, deployments

    async def mixed(
        self, request: RankRequest, interleave: Interleave, deadline: float, slate_id: str
    ) -> Mixed:
        """Score by both, and draft.

        If one cannot score, the slate is the other's alone.

        Args:
            request: Decoded and valid in itself.
            interleave: Whose rankers.
            deadline: Until when scores are wanted.
            slate_id: Of the slate to come.

        Raises:
            RankingError: neither could, and why the control could not.
        """
        sides = await asyncio.gather(
            *(
                self._side(request, variant, deployment, deadline, caching)
                for (variant, deployment), caching in zip(
                    interleave.teams, interleave.caching, strict=True
                )
            ),
            return_exceptions=True,
        )
        for side in sides:
            if isinstance(side, BaseException) and not isinstance(side, RankingError):
                raise side
        answered = [side for side in sides if isinstance(side, _Side)]
        able = [side for side in answered if side.scored.degraded != "popularity"]
        if len(able) == 2:
            return _both(request, interleave, *able, slate_id=slate_id)
        if able:
            return _alone(able[0], degraded=True)
        if answered:
            return _alone(answered[0], degraded=False)  # by popularity, and it says why
        raise next(side for side in sides if isinstance(side, RankingError))

    async def _side(
        self, request: RankRequest, variant: str, name: str, deadline: float, caching: Caching
    ) -> _Side:
        deployment = self._deployments[name]
        rows = deployment.features.encode(request)
        wanted = Wanted(request, deployment, rows, deadline, caching)
        scored = await self._scorer.scores(wanted)
        return _Side(variant=variant, deployment=deployment, rows=rows, scored=scored)


def _both(
    request: RankRequest, interleave: Interleave, control: _Side, treatment: _Side, *, slate_id: str
) -> Mixed:
    scores = (control.scored.scores, treatment.scored.scores)
    rankings = [(-side).argsort(kind="stable").tolist() for side in scores]
    flips = coins(slate_id, interleave.key, (request.k + 1) // 2)
    draft = team_draft(rankings[0], rankings[1], request.k, flips)
    ids = control.rows.item_ids
    drafted = Drafted(
        slate_id=slate_id,
        items=tuple(
            RankedItem(ids[at], float(scores[team][at]), rank)
            for rank, (at, team) in enumerate(zip(draft.order, draft.teams, strict=True), 1)
        ),
        teams=(control.variant, treatment.variant),
        picks="".join(map(str, draft.teams)),
    )
    fresh, cache = treatment.scored.fresh, treatment.deployment.cache
    return Mixed(
        rows=control.rows,
        deployment=control.deployment,
        scored=_told_of_both(control, treatment),
        drafted=drafted,
        variant=control.variant,
        batches=_paid(control, treatment),
        also=() if fresh is None or cache is None else ((cache, fresh),),
    )


def _alone(side: _Side, *, degraded: bool) -> Mixed:
    scored = side.scored
    if degraded:
        scored = msgspec.structs.replace(scored, degraded=scored.degraded or "fallback_engine")
    return Mixed(
        rows=side.rows,
        deployment=side.deployment,
        scored=scored,
        drafted=None,
        variant=side.variant,
        batches=_paid(side),
    )


def _told_of_both(control: _Side, treatment: _Side) -> SlateScores:
    """The control's, with the cache asked twice and the time of the slower engine."""
    one, other = control.scored, treatment.scored
    return msgspec.structs.replace(
        one,
        cache=_cache_report(one.cache, other.cache),
        cache_s=max(one.cache_s, other.cache_s),
        degraded=one.degraded or other.degraded,
        batch=max(_batches(control, treatment), key=lambda b: b.queue_s + b.engine_s, default=None),
    )


def _paid(*sides: _Side) -> tuple[ScoredRows, ...]:
    """Who shares the scores of another request pays for nothing."""
    return _batches(*(side for side in sides if not side.scored.shared))


def _batches(*sides: _Side) -> tuple[ScoredRows, ...]:
    return tuple(side.scored.batch for side in sides if side.scored.batch is not None)


def _cache_report(one: CacheReport, other: CacheReport) -> CacheReport:
    """Of both lookups: each candidate is in it once for every cache that was asked."""
    answered = [r for r in (one, other) if r.result not in ("bypass", "error")]
    if not answered:
        return one if one.result == "error" else other
    hits, misses = sum(r.hits for r in answered), sum(r.misses for r in answered)
    result: CacheResult = "partial"
    if len(answered) == 2 and (not hits or not misses):
        stale = any(report.result == "stale" for report in answered)
        result = "miss" if misses else "stale" if stale else "hit"
    ages = [report.age_ms for report in answered if report.age_ms is not None]
    return CacheReport(result=result, hits=hits, misses=misses, age_ms=max(ages, default=None))
