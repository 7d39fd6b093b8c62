"""A plain ranking, step by step, for a caller that keeps what it needs in between.

Most requests name a user and candidates that are to be looked up, on a surface
where no experiment runs, and get their scores from the first engine in time.
For those, `Ranker` and all that it asks come down to the few steps here; the
slate is the same. Whatever is not plain, or is no more, is for `Ranker`.
"""

from typing import Final

from msgspec import Struct

from ranking_models.schema import Float32
from service.batching.batch import Batch
from service.batching.records import ScoredRows
from service.clock import Clock
from service.deployments import Deployment, Deployments
from service.engines.rows import NamedRows
from service.events.slates import SlateIds
from service.feature_names import SURFACE, FeatureNames
from service.messages import RankedItem, RankReply, RankRequest, Timing
from service.routing import Routed, Router
from service.scoring import BYPASS
from service.slate import BestOfEach, best, best_of_each, ranked_items

_MS: Final = 1000.0


class Plain(Struct, frozen=True):
    """A plain request: what serves it, and its rows."""

    routed: Routed
    deployment: Deployment
    rows: NamedRows
    surface: str | None


class PlainRanker:
    """What `Ranker` does for plain requests. For one event loop."""

    def __init__(
        self,
        *,
        router: Router,
        deployments: Deployments,
        feature_names: FeatureNames,
        slates: SlateIds,
        clock: Clock,
    ) -> None:
        self._router, self._deployments = router, deployments
        self._names, self._slates, self._clock = feature_names, slates, clock
        self._batch: Batch | None = None  # whose best candidates are known
        self._best: BestOfEach | None = None

    @property
    def is_open(self) -> bool:
        """Whether there are requests with nothing but an engine to wait for."""
        return self._deployments.some_wait_for_engines_only

    def look(self, request: RankRequest) -> Plain | None:
        """What a request needs to be ranked; None if it is not plain, or is to be refused.

        Raises:
            InvalidRequest: a context value of the wrong kind.
        """
        context = request.context
        surface = context.get(SURFACE)
        if (
            request.force
            or request.force_token
            or request.external
            or request.explain
            or not (surface is None or isinstance(surface, str))
            or (surface is None and SURFACE in context)
            or not self._names.context.issuperset(context)
        ):
            return None
        routed = self._router.alone(surface)
        if routed is None:
            return None
        deployment = self._deployments[routed.deployment]
        if not _waits_for_engines_only(deployment, request):
            return None
        rows = deployment.features.named(request)
        return None if rows is None else Plain(routed, deployment, rows, surface)

    def reply(
        self, request: RankRequest, plain: Plain, scored: ScoredRows, taken_s: float
    ) -> RankReply:
        """The slate, as `Ranker` makes it.

        Args:
            request: That was looked at.
            plain: What was found.
            scored: In time, and by the first engine of the chain.
            taken_s: Since the request arrived.
        """
        return RankReply(
            request_id=request.request_id,
            slate_id=self._slates.new(self._clock.wall()),
            items=self._items(plain.rows.item_ids, scored, request.k),
            model=plain.deployment.served_by(scored.engine),
            experiments=(),
            exposure=None,
            cache=BYPASS,
            degraded=None,
            timing_ms=Timing(
                total=int(taken_s * 1e6 + 0.5) / _MS,
                queue=int(scored.queue_s * 1e6 + 0.5) / _MS,
                engine=int(scored.engine_s * 1e6 + 0.5) / _MS,
            ),
        )

    def _items(self, ids: tuple[str, ...], scored: ScoredRows, k: int) -> tuple[RankedItem, ...]:
        if scored.of_batch is None:
            return best(ids, scored.scores, k)
        if scored.last_batch is not self._batch:
            self._batch, self._best = scored.last_batch, _best_of(scored, scored.of_batch, k)
        if self._best is None:
            return best(ids, scored.scores, k)
        at = scored.first_row // len(ids)
        places = self._best.places[at]
        if len(places) != min(k, len(ids)):
            return best(ids, scored.scores, k)  # the first of its batch wants more, or fewer
        return ranked_items(ids, places, self._best.scores[at])


def _waits_for_engines_only(deployment: Deployment, request: RankRequest) -> bool:
    if deployment.batcher is None:
        return False
    mode, worth = deployment.settings.cache, deployment.slate_worth
    if mode == "off" or deployment.cache is None:
        return True
    return mode == "exact" and worth is not None and not worth.asks(request)


def _best_of(scored: ScoredRows, scores: Float32, k: int) -> BestOfEach | None:
    """The best of all jobs of a batch; None where they are not all as large as one of them."""
    rows = scored.job.rows
    if {part.stop - part.start for part in scored.last_batch.parts} != {rows}:
        return None
    return best_of_each(scores.reshape(-1, rows), k)
