"""How a request gets its scores: by the cache mode of its deployment, or of its variant."""

from collections.abc import Awaitable, Callable
from functools import partial

from service.batching.pending import Pending, Then
from service.batching.records import ScoredRows
from service.cache import ScoreCache, SlateKey
from service.clock import Clock
from service.errors import DeadlineExpired, EngineFailed
from service.scoring.exact import ExactScores, Renewals
from service.scoring.segment import SegmentScores
from service.scoring.slates import (
    NOT_ASKED,
    Learns,
    SlateScores,
    Wanted,
    by_popularity,
    computed,
    in_need,
    last_resort,
)
from service.settings import CacheMode
from service.telemetry import Telemetry

Scoring = Callable[[], Awaitable[SlateScores]]
"""Has a slate scored."""


class SlateScorer:
    """Finds or computes the scores of a request. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._exact = ExactScores(telemetry=telemetry, clock=clock)
        self._segment = SegmentScores(telemetry=telemetry, clock=clock)

    @property
    def renewals(self) -> Renewals:
        """What became of slates that were to be computed anew behind a reply."""
        return self._exact.renewals

    async def stop(self) -> None:
        """Give up what is done behind replies."""
        await self._exact.stop()

    def begin(self, wanted: Wanted) -> SlateScores | Scoring | Learns | None:
        """Go as far as nothing has to be waited for.

        Returns:
            The scores; or what to call and await for them. Else an engine is all that is to be
            waited for, see `submit`: None, or who is to learn the scores.
        """
        deployment = wanted.deployment
        mode, segments = mode_of(wanted), deployment.segments
        if segments is not None and mode in ("segment", "segment_rescore"):
            rescore = mode == "segment_rescore"
            return partial(self._segment.scores, wanted, segments, rescore=rescore)
        cache = cache_of(wanted)
        if cache is not None and _asks(wanted):
            key = key_of(wanted, cache)
            known = self._exact.at_once(wanted, cache, key)
            if known is None and cache.turns_away():
                return Learns(cache, key)
            return known or partial(self._exact.scores, wanted, cache, key)
        return by_popularity(deployment, wanted.rows) if deployment.batcher is None else None

    async def scores(self, wanted: Wanted) -> SlateScores:
        """Score every candidate of a request before its deadline.

        What is admitted and yet not scored in time is ordered as it was some time ago, else by
        popularity; `SlateScores.failure` says why.

        Raises:
            QueueFull, DeadlineUnreachable: refused at the door.
        """
        begun = self.begin(wanted)
        if isinstance(begun, SlateScores):
            return begun
        if begun is not None and not isinstance(begun, Learns):
            return await begun()
        batcher = wanted.deployment.batcher
        assert batcher is not None
        end: ScoredRows | Exception
        try:
            end = await batcher.score(
                wanted.deployment.features.rows(wanted.rows),
                deadline=wanted.deadline,
                priority=wanted.request.priority,
                deployment=wanted.deployment.name,
                context=self._telemetry.sampled_request(),
            )
        except (DeadlineExpired, EngineFailed) as why:
            end = why
        if begun is not None:
            begun.told(end)
        return self.submitted(wanted, end, begun)

    def submit(self, wanted: Wanted, then: Then, learns: Learns | None = None) -> Pending:
        """Do what `scores` does, where an engine is all that is to be waited for.

        Args:
            wanted: The request.
            then: Told how it ended, on a later turn of the event loop; see `submitted`.
            learns: What `begin` gave.

        Returns:
            What to `cancel` if nobody waits any more.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
        """
        batcher = wanted.deployment.batcher
        assert batcher is not None
        return batcher.submit(
            wanted.deployment.features.rows(wanted.rows),
            deadline=wanted.deadline,
            then=then if learns is None else learns.telling(then),
            priority=wanted.request.priority,
            deployment=wanted.deployment.name,
            context=self._telemetry.sampled_request(),
        )

    @staticmethod
    def submitted(
        wanted: Wanted, end: ScoredRows | Exception, learns: Learns | None = None
    ) -> SlateScores:
        """What `scores` gives, or raises, once `submit` has told how it ended."""
        if isinstance(end, ScoredRows):
            return computed(wanted.deployment, NOT_ASKED, end)
        if not isinstance(end, DeadlineExpired | EngineFailed):
            raise end
        kept = None if learns is None else learns.cache.left(learns.key)
        if kept is not None:
            return last_resort(wanted, NOT_ASKED, kept, end, None)
        return in_need(wanted, NOT_ASKED, end)


def mode_of(wanted: Wanted) -> CacheMode:
    """How the cache serves a request: as its variant says, else its deployment."""
    return wanted.caching.mode or wanted.deployment.settings.cache


def cache_of(wanted: Wanted) -> ScoreCache | None:
    """The cache that is to be asked; None if none is."""
    return None if mode_of(wanted) == "off" else wanted.deployment.cache


def _asks(wanted: Wanted) -> bool:
    worth = wanted.deployment.slate_worth
    return worth is None or worth.asks(wanted.request)


def key_of(wanted: Wanted, cache: ScoreCache) -> SlateKey:
    """Where the cache has the scores of a request."""
    return wanted.deployment.key(wanted.rows, cache.epoch, wanted.caching.arm)
