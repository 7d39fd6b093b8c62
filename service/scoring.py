"""Scores for one slate: from the cache, else from the engines; or by popularity."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from ranking_models.schema import FeatureValue, Float32
from service.batching.records import ScoredRows
from service.cache import CacheLookup, ScoreCache, SlateKey
from service.clock import Clock
from service.deployments import Deployment
from service.errors import DeadlineExpired, DeadlinePassed, EngineFailed, EnginesFailed
from service.features import RequestRows
from service.messages import CacheReport, Candidate, Degraded, ModelRef, RankRequest
from service.telemetry import Telemetry

BYPASS = CacheReport(result="bypass", hits=0, misses=0)


class Fresh(Struct, frozen=True, kw_only=True):
    """Scores that the cache does not know yet, to be stored after the reply."""

    key: SlateKey
    scores: Float32
    computed_s: float


class SlateScores(Struct, frozen=True, kw_only=True):
    """The scores of all candidates, and how they came about."""

    scores: Float32
    """float32 ``[candidates]``, in the order asked."""
    model: ModelRef
    cache: CacheReport = BYPASS
    degraded: Degraded | None = None
    cache_s: float = 0.0
    batch: ScoredRows | None = None
    """None when no engine ran."""
    fresh: Fresh | None = None


class _LookedUp(Struct, frozen=True):
    key: SlateKey
    lookup: CacheLookup | None
    """None when the deadline came first."""
    took_s: float


class SlateScorer:
    """Finds or computes the scores of a request. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    async def scores(
        self, request: RankRequest, deployment: Deployment, rows: RequestRows, deadline: float
    ) -> SlateScores:
        """Score every candidate of a request before its deadline.

        Raises:
            QueueFull, DeadlineUnreachable: refused at the door.
            DeadlinePassed: admitted, but not scored in time.
            EnginesFailed: no engine of the deployment could score.
        """
        if deployment.batcher is None:
            return by_popularity(deployment, rows)
        known = None
        if deployment.cache is not None:
            known = await self._look_up(request, deployment, deployment.cache, rows, deadline)
            if known.lookup is not None and known.lookup.scores is not None:
                return _cached(deployment, known.lookup, known.lookup.scores, known.took_s)
        try:
            done = await deployment.batcher.score(
                deployment.features.batch(rows),
                deadline=deadline,
                priority=request.priority,
                context=self._telemetry.sampled_request(),
            )
        except DeadlineExpired:
            raise DeadlinePassed(request.timeout_ms) from None
        except EngineFailed as failure:
            raise EnginesFailed(deployment.name) from failure
        return _computed(deployment, done, known)

    async def _look_up(
        self,
        request: RankRequest,
        deployment: Deployment,
        cache: ScoreCache,
        rows: RequestRows,
        deadline: float,
    ) -> _LookedUp:
        key = deployment.key(rows, _overrides(request), cache.epoch)
        started = self._clock.now()
        lookup = None
        try:
            async with asyncio.timeout(max(0.0, deadline - started)):
                lookup = await cache.get(key)
        except TimeoutError:
            pass  # the batcher is told the same deadline, and says so
        return _LookedUp(key, lookup, self._clock.now() - started)


def by_popularity(
    deployment: Deployment, rows: RequestRows, *, degraded: Degraded | None = None
) -> SlateScores:
    """The scores that need no engine."""
    return SlateScores(
        scores=deployment.popularity.scores(rows.items),
        model=deployment.popularity_model,
        degraded=degraded,
    )


def _cached(
    deployment: Deployment, lookup: CacheLookup, scores: Float32, took_s: float
) -> SlateScores:
    age_ms = round(1000 * (lookup.age_s or 0.0))
    return SlateScores(
        scores=scores,
        model=deployment.model,
        cache=CacheReport(result="hit", hits=len(scores), misses=0, age_ms=age_ms),
        cache_s=took_s,
    )


def _computed(deployment: Deployment, done: ScoredRows, known: _LookedUp | None) -> SlateScores:
    fresh = None
    # Only the deployment's own engine writes: a fallback's scores are never stored.
    if known is not None and not done.fallback:
        fresh = Fresh(key=known.key, scores=done.scores, computed_s=done.engine_s)
    return SlateScores(
        scores=done.scores,
        model=deployment.served_by(done.engine),
        cache=BYPASS if known is None else _miss(len(done.scores)),
        degraded="fallback_engine" if done.fallback else None,
        cache_s=known.took_s if known else 0.0,
        batch=done,
        fresh=fresh,
    )


def _miss(candidates: int) -> CacheReport:
    return CacheReport(result="miss", hits=0, misses=candidates)


def _overrides(request: RankRequest) -> dict[str, Mapping[str, FeatureValue]]:
    return {c.id: c.features for c in request.candidates if isinstance(c, Candidate) and c.features}
