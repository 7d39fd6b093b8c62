"""What is asked for, the scores of a slate, and what they are made into."""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from ranking_models.schema import Float32
from service.batching.pending import Then
from service.batching.records import ScoredRows, ScoredTooLate
from service.cache import CacheLookup, ScoreCache, SlateKey
from service.deployments import Deployment
from service.deployments.recovery import can_score
from service.errors import DeadlineExpired, DeadlinePassed, EngineFailed, EnginesFailed
from service.features import RequestRows
from service.messages import CacheReport, Degraded, ModelRef, RankRequest, RowsReport
from service.routing import AS_CONFIGURED, Caching

BYPASS = CacheReport(result="bypass", hits=0, misses=0)
_FAILED = CacheReport(result="error", hits=0, misses=0)


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
    """Why these are no engine's scores of now, where they should have been."""
    cache_s: float = 0.0
    batch: ScoredRows | None = None
    """None when no engine's scores are among these."""
    shared: bool = False
    """Another request had the batch score them, and pays for it."""
    fresh: Fresh | None = None
    rows: RowsReport | None = None
    """Of the segment modes only."""


class Wanted(Struct, frozen=True):
    """A request whose scores are wanted."""

    request: RankRequest
    deployment: Deployment
    rows: RequestRows
    """The request, encoded."""
    deadline: float
    """Until when, on the service's clock."""
    caching: Caching = AS_CONFIGURED


class Asked(Struct, frozen=True, kw_only=True):
    """What the cache said."""

    report: CacheReport = BYPASS
    scores: Float32 | None = None
    took_s: float = 0.0
    key: SlateKey | None = None
    """Where it wants computed scores; None if it has them, or wants none."""


NOT_ASKED = Asked()


class Learns(Struct, frozen=True):
    """Nobody is asked for a slate, and this process keeps what is computed."""

    cache: ScoreCache
    key: SlateKey

    def telling(self, tell: Callable[[ScoredRows | Exception], object]) -> Then:
        """Tells how it ended, once this process knows the scores: before anybody else asks."""

        def told(end: ScoredRows | Exception) -> None:
            self.told(end)
            tell(end)

        return told

    def told(self, end: ScoredRows | Exception) -> None:
        """How computing it ended."""
        scored = end.scored if isinstance(end, ScoredTooLate) else end
        if isinstance(scored, ScoredRows) and not scored.fallback:
            self.cache.learn(self.key, scored.scores, computed_s=scored.engine_s)


def answer(lookup: CacheLookup, key: SlateKey, took_s: float) -> Asked:
    """What a lookup says to a request."""
    if lookup.scores is not None:
        return Asked(report=found_report(lookup), scores=lookup.scores, took_s=took_s)
    if lookup.outcome == "miss":
        report = CacheReport(result="miss", hits=0, misses=key.count)
        return Asked(report=report, took_s=took_s, key=key)
    # A cache that did not answer has not missed: in every experiment's hit rate an outage
    # would otherwise pass for a cold cache.
    if lookup.outcome == "open":
        return Asked(took_s=took_s)
    return Asked(report=_FAILED, took_s=took_s, key=key)


def found_report(lookup: CacheLookup) -> CacheReport:
    """What the caller is told of scores that the cache had."""
    assert lookup.scores is not None
    return CacheReport(
        result="stale" if lookup.outcome == "stale" else "hit",
        hits=len(lookup.scores),
        misses=0,
        age_ms=round(1000 * (lookup.age_s or 0.0)),
        level=lookup.level,
    )


def cached(deployment: Deployment, asked: Asked, scores: Float32) -> SlateScores:
    """The slate that the cache had."""
    # While no engine can score, nobody makes it fresh again: that is more than being stale.
    stuck = asked.report.result == "stale" and not can_score(deployment)
    return SlateScores(
        scores=scores,
        model=deployment.model,
        cache=asked.report,
        cache_s=asked.took_s,
        degraded="stale" if stuck else None,
    )


def computed(
    deployment: Deployment, asked: Asked, done: ScoredRows, *, shared: bool = False
) -> SlateScores:
    """The slate that engines scored."""
    return SlateScores(
        scores=done.scores,
        model=deployment.served_by(done.engine),
        cache=asked.report,
        degraded="fallback_engine" if done.fallback else None,
        cache_s=asked.took_s,
        batch=done,
        shared=shared,
        fresh=None if shared else fresh(asked, done),
    )


def by_popularity(deployment: Deployment, rows: RequestRows) -> SlateScores:
    """The scores that need no engine."""
    return SlateScores(
        scores=deployment.popularity.scores(rows.items), model=deployment.popularity_model
    )


def in_need(
    wanted: Wanted,
    asked: Asked,
    why: DeadlineExpired | EngineFailed,
    late: Fresh | None = None,
) -> SlateScores:
    """The slate by popularity: nobody could score it in time.

    Args:
        wanted: What was asked for.
        asked: What the cache said.
        why: It could not be scored.
        late: Scores that came too late for this caller, but in time for the next who asks.
    """
    return msgspec.structs.replace(
        by_popularity(wanted.deployment, wanted.rows),
        # The cache was asked all the same: a slow variant's hit rate must not profit from the
        # slates that it could not compute in time.
        cache=asked.report,
        cache_s=asked.took_s,
        degraded="popularity",
        failure=failure_of(wanted, why),
        fresh=late,
    )


def last_resort(
    wanted: Wanted,
    asked: Asked,
    found: CacheLookup,
    why: DeadlineExpired | EngineFailed,
    late: Fresh | None,
) -> SlateScores:
    """The slate as it was computed some time ago: nobody could score it in time now.

    Arguments as of `in_need`; `found` is what the cache still had.
    """
    assert found.scores is not None
    return SlateScores(
        scores=found.scores,
        model=wanted.deployment.model,
        cache=found_report(found),
        cache_s=asked.took_s,
        degraded="stale",
        failure=failure_of(wanted, why),
        fresh=late,
    )


def failure_of(
    wanted: Wanted, why: DeadlineExpired | EngineFailed
) -> DeadlinePassed | EnginesFailed:
    """Why there are no scores, as callers are told."""
    if isinstance(why, DeadlineExpired):
        return DeadlinePassed(wanted.request.timeout_ms)
    return EnginesFailed(wanted.deployment.name)


def share_s(done: ScoredRows) -> float:
    """Engine time of a request: what its rows are of the rows that were scored with them."""
    return done.engine_s * min(1.0, done.job.rows / done.last_batch.rows)


def fresh(asked: Asked, done: ScoredRows) -> Fresh | None:
    """What is to be stored of scores."""
    # Only the deployment's own engine writes: a fallback's scores are never stored.
    if asked.key is None or done.fallback:
        return None
    return Fresh(key=asked.key, scores=done.scores, computed_s=done.engine_s)
