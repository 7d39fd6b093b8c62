"""Scores for one slate: from the cache, else from the engines; or by popularity."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from ranking_models.schema import FeatureValue, Float32
from service.batching.pending import Pending, Then
from service.batching.records import ScoredRows, ScoredTooLate
from service.cache import CacheLookup, ScoreCache, SlateKey
from service.clock import Clock
from service.deployments import Deployment
from service.errors import DeadlineExpired, DeadlinePassed, EngineFailed, EnginesFailed
from service.features import RequestRows
from service.messages import CacheReport, Degraded, ModelRef, RankRequest
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
    failure: DeadlinePassed | EnginesFailed | None = None
    """Why it is popularity that ranks, where an engine should have."""
    cache_s: float = 0.0
    batch: ScoredRows | None = None
    """None when no engine's scores are among these."""
    fresh: Fresh | None = None


class _Asked(Struct, frozen=True, kw_only=True):
    """What the cache said."""

    report: CacheReport = BYPASS
    scores: Float32 | None = None
    took_s: float = 0.0
    key: SlateKey | None = None
    """Where it wants computed scores; None if it has them, or wants none."""


_NOT_ASKED = _Asked()


class SlateScorer:
    """Finds or computes the scores of a request. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock

    async def scores(
        self, request: RankRequest, deployment: Deployment, rows: RequestRows, deadline: float
    ) -> SlateScores:
        """Score every candidate of a request before its deadline.

        What is admitted and yet not scored in time is ordered by popularity,
        and `SlateScores.failure` says why.

        Raises:
            QueueFull, DeadlineUnreachable: refused at the door.
        """
        if deployment.batcher is None:
            return _by_popularity(deployment, rows)
        asked = _NOT_ASKED
        if deployment.cache is not None:
            asked = await self._ask(deployment.cache, request, deployment, rows, deadline)
        if asked.scores is not None:
            return _cached(deployment, asked, asked.scores)
        try:
            done = await deployment.batcher.score(
                deployment.features.rows(rows),
                deadline=deadline,
                priority=request.priority,
                deployment=deployment.name,
                context=self._telemetry.sampled_request(),
            )
        except (DeadlineExpired, EngineFailed) as why:
            return _degraded(request, deployment, rows, asked, why)
        return _computed(deployment, asked, done)

    def submit(
        self,
        request: RankRequest,
        deployment: Deployment,
        rows: RequestRows,
        deadline: float,
        then: Then,
    ) -> Pending:
        """Begin what `scores` does, for a deployment that has engines and no cache.

        Args:
            request: Decoded.
            deployment: What serves it.
            rows: The request, encoded.
            deadline: Until when scores are wanted.
            then: Told how it ended, on a later turn of the event loop; see `submitted`.

        Returns:
            What to `cancel` if nobody waits any more.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
        """
        assert deployment.batcher is not None
        return deployment.batcher.submit(
            deployment.features.rows(rows),
            deadline=deadline,
            then=then,
            priority=request.priority,
            deployment=deployment.name,
            context=self._telemetry.sampled_request(),
        )

    @staticmethod
    def submitted(
        request: RankRequest,
        deployment: Deployment,
        rows: RequestRows,
        end: ScoredRows | Exception,
    ) -> SlateScores:
        """What `scores` gives, or raises, once `submit` has told how it ended."""
        if isinstance(end, ScoredRows):
            return _computed(deployment, _NOT_ASKED, end)
        if isinstance(end, DeadlineExpired | EngineFailed):
            return _degraded(request, deployment, rows, _NOT_ASKED, end)
        raise end

    async def _ask(
        self,
        cache: ScoreCache,
        request: RankRequest,
        deployment: Deployment,
        rows: RequestRows,
        deadline: float,
    ) -> _Asked:
        key = deployment.key(rows, _overrides(request), cache.epoch)
        started = self._clock.now()
        # The other half is for the engines, should the cache hang.
        lookup = await cache.get(key, timeout_s=max(0.0, deadline - started) / 2)
        return _answer(lookup, key, self._clock.now() - started)


def _answer(lookup: CacheLookup, key: SlateKey, took_s: float) -> _Asked:
    if lookup.scores is not None:
        age_ms = round(1000 * (lookup.age_s or 0.0))
        report = CacheReport(result="hit", hits=key.count, misses=0, age_ms=age_ms)
        return _Asked(report=report, scores=lookup.scores, took_s=took_s)
    if lookup.outcome == "miss":
        report = CacheReport(result="miss", hits=0, misses=key.count)
        return _Asked(report=report, took_s=took_s, key=key)
    # A cache that did not answer has not missed: in every experiment's hit rate an outage
    # would otherwise pass for a cold cache.
    return _Asked(took_s=took_s, key=None if lookup.outcome == "open" else key)


def _cached(deployment: Deployment, asked: _Asked, scores: Float32) -> SlateScores:
    return SlateScores(
        scores=scores, model=deployment.model, cache=asked.report, cache_s=asked.took_s
    )


def _computed(deployment: Deployment, asked: _Asked, done: ScoredRows) -> SlateScores:
    return SlateScores(
        scores=done.scores,
        model=deployment.served_by(done.engine),
        cache=asked.report,
        degraded="fallback_engine" if done.fallback else None,
        cache_s=asked.took_s,
        batch=done,
        fresh=_fresh(asked, done),
    )


def _degraded(
    request: RankRequest,
    deployment: Deployment,
    rows: RequestRows,
    asked: _Asked,
    why: DeadlineExpired | EngineFailed,
) -> SlateScores:
    late = isinstance(why, DeadlineExpired)
    return msgspec.structs.replace(
        _by_popularity(deployment, rows),
        # The cache was asked all the same: a slow variant's hit rate must not profit from the
        # slates that it could not compute in time.
        cache=asked.report,
        cache_s=asked.took_s,
        degraded="popularity",
        failure=DeadlinePassed(request.timeout_ms) if late else EnginesFailed(deployment.name),
        # Too late for this caller, but in time for the next one who asks the same.
        fresh=_fresh(asked, why.scored) if isinstance(why, ScoredTooLate) else None,
    )


def _by_popularity(deployment: Deployment, rows: RequestRows) -> SlateScores:
    """The scores that need no engine."""
    return SlateScores(
        scores=deployment.popularity.scores(rows.items), model=deployment.popularity_model
    )


def _fresh(asked: _Asked, done: ScoredRows) -> Fresh | None:
    # Only the deployment's own engine writes: a fallback's scores are never stored.
    if asked.key is None or done.fallback:
        return None
    return Fresh(key=asked.key, scores=done.scores, computed_s=done.engine_s)


def _overrides(request: RankRequest) -> dict[str, Mapping[str, FeatureValue]]:
    return {candidate.id: candidate.features for _, candidate in request.described()}
