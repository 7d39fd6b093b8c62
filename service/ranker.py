"""The straight line: one ranking request, from question to ordered slate."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from experiments.assignment import Units
from experiments.events import Arm, Exposure, arms
from service.batching.pending import Pending
from service.batching.records import ScoredRows
from service.clock import Clock
from service.deployments import Deployment, Deployments
from service.engines.rows import as_features
from service.errors import NoCandidates, UnknownItem
from service.events.exposures import ExposureSink
from service.events.slates import SlateIds
from service.events.tokens import Claims, ExposureTokens, items_digest
from service.feature_names import SURFACE, FeatureNames
from service.features import RequestRows, named_inputs
from service.messages import Explanation, RankedItem, RankReply, RankRequest, Timing
from service.routing import Routed, Router
from service.scoring import Fresh, SlateScorer, SlateScores
from service.slate import best
from service.telemetry import Ranking, Telemetry, names


class Ranked(Struct, frozen=True, kw_only=True):
    """A reply, and what is left to do once it is on its way."""

    reply: RankReply
    exposure: Exposure | None
    """None when no experiment counts this slate."""
    deployment: Deployment
    fresh: Fresh | None

    @property
    def is_done(self) -> bool:
        """Nothing is left to do."""
        return self.exposure is None and self.fresh is None


class _Asked(Struct, frozen=True):
    """A request that is routed and encoded."""

    request: RankRequest
    routed: Routed
    deployment: Deployment
    rows: RequestRows
    arrived: float
    deadline: float


class Ranker:
    """Ranks. Holds no state of its own; for one event loop."""

    def __init__(
        self,
        *,
        router: Router,
        deployments: Deployments,
        feature_names: FeatureNames,
        scorer: SlateScorer,
        slates: SlateIds,
        tokens: ExposureTokens,
        token_ttl_s: float,
        exposures: ExposureSink,
        telemetry: Telemetry,
        clock: Clock,
        allow_degraded: bool,
    ) -> None:
        self._router = router
        self._deployments = deployments
        self._names = feature_names
        self._scorer = scorer
        self._slates = slates
        self._tokens = tokens
        self._token_ttl_s = token_ttl_s
        self._exposures = exposures
        self._telemetry = telemetry
        self._clock = clock
        self._allow_degraded = allow_degraded

    async def rank(self, request: RankRequest, *, arrived: float) -> Ranked:
        """Order the candidates of a request.

        Args:
            request: Decoded and valid in itself.
            arrived: When it arrived, on our clock; its deadline counts from there.

        Raises:
            RankingError: refused, late or impossible; tells the caller why.
        """
        with self._telemetry.ranking(arrived, request.request_id) as ranking:
            return await self._answer(request, self._route(request, ranking), ranking, arrived)

    @property
    def can_submit(self) -> bool:
        """Nothing but an engine is to be waited for, whatever deployment a request gets."""
        return self._deployments.wait_for_engines_only

    def submit(
        self, request: RankRequest, *, arrived: float, then: "Callable[[Ranked | Exception], None]"
    ) -> "Submitted":
        """Like `rank`, for a caller that needs no task to wait in; only if `can_submit`.

        Args:
            request: Decoded and valid in itself.
            arrived: When it arrived, on our clock.
            then: Told how it ended, on a later turn of the event loop.

        Raises:
            RankingError: refused or impossible; `then` is not called.
        """
        ranking = self._telemetry.ranking(arrived, request.request_id)
        try:
            asked = self._asked(request, self._route(request, ranking), arrived)

            def scored(end: ScoredRows | Exception) -> None:
                then(self._submitted(asked, ranking, end))

            pending = self._scorer.submit(
                request, asked.deployment, asked.rows, asked.deadline, scored
            )
        except Exception as error:
            ranking.end(error)
            raise
        return Submitted(pending, ranking)

    def _submitted(
        self, asked: _Asked, ranking: Ranking, end: ScoredRows | Exception
    ) -> "Ranked | Exception":
        try:
            scored = self._scorer.submitted(asked.request, asked.deployment, asked.rows, end)
            ranked = self._ranked(asked, scored, ranking)
        except Exception as error:
            ranking.end(error)
            return error
        ranking.end()
        return ranked

    async def item_page(self, page: RankRequest, *, arrived: float) -> Ranked:
        """Order the precomputed candidates of the page's anchor item.

        Raises:
            UnknownItem: the catalogue of the model that serves it has no such item.
            NoCandidates: the item has nothing beside it.
        """
        with self._telemetry.ranking(arrived) as ranking:
            routed = self._route(page, ranking)
            candidates = _beside(self._deployments[routed.deployment], page.anchor_item or "")
            request = msgspec.structs.replace(page, candidates=candidates)
            return await self._answer(request, routed, ranking, arrived)

    async def record(self, ranked: Ranked) -> None:
        """After the reply: the exposure to the event log, fresh scores to the cache."""
        if ranked.exposure is not None:
            self._exposures.record(ranked.exposure)
            counted = {arm.experiment for arm in ranked.exposure.arms}
            self._telemetry.metrics.exposed(
                [e for e in ranked.reply.experiments if e.key in counted]
            )
        cache, fresh = ranked.deployment.cache, ranked.fresh
        if cache is not None and fresh is not None:
            await cache.put(fresh.key, fresh.scores, computed_s=fresh.computed_s)

    def _route(self, request: RankRequest, ranking: Ranking) -> Routed:
        surface = request.context.get(SURFACE)
        surface = surface if isinstance(surface, str) else None
        with self._telemetry.step(names.SPAN_ROUTE):
            self._names.check(request)
            units = Units(request.user.id, request.session_id)
            routed = self._router.route(
                units, surface, force=request.force, external=request.external
            )
        if routed.external_ignored:
            self._telemetry.metrics.external_ignored(len(routed.external_ignored))
        ranking.routed(surface, routed.references(), routed.serving())
        return routed

    async def _answer(
        self, request: RankRequest, routed: Routed, ranking: Ranking, arrived: float
    ) -> Ranked:
        asked = self._asked(request, routed, arrived)
        scored = await self._scorer.scores(request, asked.deployment, asked.rows, asked.deadline)
        return self._ranked(asked, scored, ranking)

    def _asked(self, request: RankRequest, routed: Routed, arrived: float) -> _Asked:
        deployment = self._deployments[routed.deployment]
        rows = deployment.features.encode(request)
        deadline = arrived + request.timeout_ms / 1000
        return _Asked(request, routed, deployment, rows, arrived, deadline)

    def _ranked(self, asked: _Asked, scored: SlateScores, ranking: Ranking) -> Ranked:
        if scored.failure is not None:
            if not self._allow_degraded:
                raise scored.failure
            ranking.fell_back(scored.failure)
        assignments = asked.routed.assignments
        counted = arms(assignments) if assignments else ()
        reply = self._reply(asked, counted, scored)
        if asked.request.explain:
            reply = _explained(reply, asked.deployment, asked.rows, scored)
        ranking.answered(reply, len(asked.rows.item_ids))
        return Ranked(
            reply=reply,
            exposure=self._exposure(asked, counted, reply),
            deployment=asked.deployment,
            fresh=scored.fresh,
        )

    def _reply(self, asked: _Asked, counted: tuple[Arm, ...], scored: SlateScores) -> RankReply:
        request, batch = asked.request, scored.batch
        slate_id = self._slates.new(self._clock.wall())
        items = best(asked.rows.item_ids, scored.scores, request.k)
        return RankReply(
            request_id=request.request_id,
            slate_id=slate_id,
            items=items,
            model=scored.model,
            experiments=asked.routed.references(),
            exposure=self._token(counted, slate_id, items),
            cache=scored.cache,
            degraded=scored.degraded,
            timing_ms=Timing(
                total=_ms(self._clock.now() - asked.arrived),
                cache=_ms(scored.cache_s),
                queue=_ms(batch.queue_s if batch else 0.0),
                engine=_ms(batch.engine_s if batch else 0.0),
            ),
        )

    def _token(
        self, counted: tuple[Arm, ...], slate_id: str, items: Sequence[RankedItem]
    ) -> str | None:
        if not counted:
            return None
        issued = int(self._clock.wall())
        expires = issued + int(self._token_ttl_s)
        return self._tokens.sign(
            Claims(
                slate_id=slate_id,
                issued=issued,
                expires=expires,
                arms=counted,
                items=items_digest(item.id for item in items),
            )
        )

    def _exposure(
        self, asked: _Asked, counted: tuple[Arm, ...], reply: RankReply
    ) -> Exposure | None:
        if not counted:
            return None
        return Exposure(
            slate_id=reply.slate_id,
            arms=counted,
            at=self._clock.wall(),
            latency_ms=reply.timing_ms.total,
            candidates=len(asked.rows.item_ids),
            cache_hits=reply.cache.hits,
            cache_misses=reply.cache.misses,
            cache_result=reply.cache.result,
            engine=reply.model.engine,
            degraded=reply.degraded,
            config_digest=asked.routed.config_digest,
        )


class Submitted(Struct, frozen=True):
    """A request whose rows wait for an engine."""

    _pending: Pending
    _ranking: Ranking

    def cancel(self) -> None:
        """Nobody waits any more, and nobody is told."""
        self._pending.cancel()
        self._ranking.end(asyncio.CancelledError())


def _beside(deployment: Deployment, anchor: str) -> tuple[str, ...]:
    candidates = deployment.candidates_of(anchor)
    if candidates is None:
        raise UnknownItem(anchor)
    if not candidates:
        raise NoCandidates(anchor)
    return candidates


def _explained(
    reply: RankReply, deployment: Deployment, rows: RequestRows, scored: SlateScores
) -> RankReply:
    gathered = as_features(deployment.features.rows(rows))
    row_of = {item: row for row, item in enumerate(rows.item_ids)}
    schema = deployment.bundle.schema
    inputs = {item.id: named_inputs(schema, gathered, row_of[item.id]) for item in reply.items}
    report = scored.batch.batch if scored.batch else None
    return msgspec.structs.replace(reply, explain=Explanation(batch=report, inputs=inputs))


def _ms(seconds: float) -> float:
    # To the microsecond, as `round(..., 3)` has it for a few times as much.
    return int(seconds * 1e6 + 0.5) / 1000
