"""Modes ``segment`` and ``segment_rescore``: score rows that all users share order the candidates.

``segment``: the answer is what the user's segment scores. ``segment_rescore``: that
order decides which candidates are scored exactly, the first M of it; they come
first, by their exact scores, and the rest behind them. A slate is never longer
than M, so every score that it shows is exact.

A candidate without a row is scored exactly at once, together with the others, so
nobody waits for a row to be computed: that happens in the background. What no
row can stand for is always scored: items that the catalogue lacks, items and users
whom the request itself describes.
"""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32
from service.batching.records import ScoredRows
from service.cache.rows import KnownRows
from service.clock import Clock
from service.deployments.segment_rows import SegmentRows
from service.errors import DeadlineExpired, EngineFailed
from service.messages import CacheReport, CacheResult, RowsReport
from service.scoring.slates import NOT_ASKED, Asked, SlateScores, Wanted, cached, computed, in_need
from service.telemetry import Telemetry

_BELOW: Final = 1 - 1e-6
"""Just less than all of it, in float32."""

Places = npt.NDArray[np.intp]


class SegmentScores:
    """Scores by segment, exactly where it matters. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry, self._clock = telemetry, clock

    async def scores(self, wanted: Wanted, segments: SegmentRows, *, rescore: bool) -> SlateScores:
        """Score every candidate: by its row, or exactly.

        Args:
            wanted: The request.
            segments: Of its deployment.
            rescore: Whether the first of the order are scored exactly.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
        """
        if wanted.request.user.features:
            segments.rows.bypassed(len(wanted.rows.items))
            return await self._exactly(wanted)
        known, asked = await self._ask(wanted, segments)
        exactly = np.flatnonzero(~known.found)
        if rescore:
            most = max(wanted.deployment.settings.rescore_top, wanted.request.k)
            exactly = np.concatenate([_first(known, most), exactly])
        told = _told(wanted, segments, known, len(exactly))
        if not len(exactly):
            slate = cached(wanted.deployment, asked, known.scores)
            return msgspec.structs.replace(slate, rows=told)
        exactly.sort()  # equal scores keep the order of the candidates
        done = await self._scored(wanted, exactly, asked)
        if not isinstance(done, ScoredRows):
            return done
        _learn_cost(segments, done, rescore=rescore)
        slate = computed(wanted.deployment, asked, done)
        joined = behind if rescore else beside
        scores = joined(known.scores, exactly, done.scores)
        return msgspec.structs.replace(slate, scores=scores, rows=told)

    async def _exactly(self, wanted: Wanted) -> SlateScores:
        every = np.arange(len(wanted.rows.items))
        done = await self._scored(wanted, every, NOT_ASKED)
        if isinstance(done, ScoredRows):
            return computed(wanted.deployment, NOT_ASKED, done)
        return done

    async def _ask(self, wanted: Wanted, segments: SegmentRows) -> tuple[KnownRows, Asked]:
        rows, started = wanted.rows, self._clock.now()
        space = segments.rows.space(rows.context, wanted.caching.arm)
        known, worth_computing = await segments.rows.known(
            space,
            rows.items,
            tuple(rows.overrides),
            segments.segment_of(wanted.request.user.id),
            # The other half is for the engines, should the cache hang.
            timeout_s=max(0.0, wanted.deadline - started) / 2,
        )
        segments.filler.earn(known.hits, known.asked - known.hits)
        segments.filler.want(space, rows.context, worth_computing)
        took_s = self._clock.now() - started
        return known, Asked(report=_report(known), took_s=took_s)

    async def _scored(
        self, wanted: Wanted, exactly: Places, asked: Asked
    ) -> ScoredRows | SlateScores:
        """The engine's scores of some candidates; the slate without them, where it has none."""
        deployment = wanted.deployment
        assert deployment.batcher is not None, "who has a cache has engines"
        rows = deployment.features.rows(wanted.rows)
        try:
            return await deployment.batcher.score(
                rows if len(exactly) == rows.rows else rows.take(exactly),
                deadline=wanted.deadline,
                priority=wanted.request.priority,
                deployment=deployment.name,
                context=self._telemetry.sampled_request(),
            )
        except (DeadlineExpired, EngineFailed) as why:
            return in_need(wanted, asked, why)


def _first(known: KnownRows, most: int) -> Places:
    """The first candidates in the order of their rows."""
    at = np.flatnonzero(known.found)
    if len(at) <= most:
        return at
    return at[np.argsort(-known.scores[at], kind="stable")[:most]]


def beside(scores: Float32, exactly: Places, exact: Float32) -> Float32:
    """Exact scores in place of those that there are no rows for."""
    scores = scores.copy()
    scores[exactly] = exact
    return scores


def behind(scores: Float32, exactly: Places, exact: Float32) -> Float32:
    """Exact scores, and the other candidates behind them in their own order.

    No slate reaches down to the others. Where one of them would come before an exact
    score, all of them are lowered by one factor, which keeps their order.
    """
    rest = np.ones(len(scores), np.bool_)
    rest[exactly] = False
    others = scores[rest]
    joined = np.empty_like(scores)
    joined[exactly] = exact
    if len(others):
        lowest, highest = float(exact.min()), float(others.max())
        lowered = 1.0 if highest < lowest else _BELOW * lowest / highest
        joined[rest] = others * np.float32(lowered)
    return joined


def _told(
    wanted: Wanted, segments: SegmentRows, known: KnownRows, scored: int
) -> RowsReport | None:
    if not wanted.request.explain:
        return None
    worth = segments.rows.worth.report()
    return RowsReport(
        segment=segments.segment_of(wanted.request.user.id),
        found=known.hits,
        scored=scored,
        fetching=known.fetching,
        lookup_us=_us(worth.lookup_row_s),
        scoring_us=_us(worth.scoring_row_s),
    )


def _us(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e6


def _report(known: KnownRows) -> CacheReport:
    hits, silent = known.hits, known.fetching in ("error", "open")
    # A cache that did not answer has not missed: in every experiment's hit rate an outage would
    # otherwise pass for a cold cache.
    misses = 0 if silent else known.asked - hits
    return CacheReport(
        result=_result(known, hits, misses),
        hits=hits,
        misses=misses,
        age_ms=None if known.age_s is None else round(1000 * known.age_s),
    )


def _result(known: KnownRows, hits: int, misses: int) -> CacheResult:
    if hits == len(known.found):
        return "stale" if known.stale else "hit"
    if hits:
        return "partial"
    if misses:
        return "miss"
    return "error" if known.fetching == "error" else "bypass"


def _learn_cost(segments: SegmentRows, done: ScoredRows, *, rescore: bool) -> None:
    """What the engine takes for a row at the present load.

    Who rescores needs a batch anyway: a row that is found saves no more than itself. Else a
    request whose rows are all found needs none, and saves its share of what every batch costs.
    """
    took = done.last_batch.batch_time
    if took is not None:
        rows = done.last_batch.rows
        segments.rows.worth.scoring_costs(took.row_s if rescore else took.seconds(rows) / rows)
