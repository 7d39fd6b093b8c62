"""The straight line: one ranking request, from question to ordered slate."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import msgspec
from msgspec import Struct

from experiments.assignment import Units
from experiments.events import Arm, Exposure, Lapse, arms
from service.batching.pending import Pending
from service.batching.records import ScoredRows
from service.cache import ScoreCache
from service.clock import Clock
from service.deployments import Deployment, Deployments
from service.engines.rows import as_features
from service.errors import ClientGone, RankingError
from service.events.exposures import ExposureSink
from service.events.slates import SlateIds
from service.events.tokens import Claims, ExposureTokens, items_digest
from service.feature_names import SURFACE, FeatureNames
from service.features import RequestRows, named_inputs
from service.interleaved import Drafted, Interleaver
from service.known_pages import KnownPages
from service.messages import Explanation, RankedItem, RankReply, RankRequest, Timing
from service.plain_ranking import PlainRanker
from service.routing import Interleave, Routed, Router
from service.scoring import Fresh, Learns, Scoring, SlateScorer, SlateScores, Wanted, share_s
from service.shadow.sampling import Copy
from service.shadow.scorer import ShadowScorer
from service.slate import best
from service.telemetry import Ranking, Telemetry, names


class Ranked(Struct, frozen=True, kw_only=True):
    """A reply, and what is left to do once it is on its way."""

    reply: RankReply
    exposure: Exposure | None
    """None when no experiment counts this slate."""
    deployment: Deployment
    fresh: Fresh | None
    copy: Copy | None = None
    """To be scored by variants that did not serve it."""
    also: tuple[tuple[ScoreCache, Fresh], ...] = ()
    """Of the second ranker of an interleaved slate: scores that its cache does not know yet."""

    @property
    def is_done(self) -> bool:
        """Nothing is left to do."""
        return not (self.exposure or self.fresh or self.copy or self.also)


class _Asked(Struct, frozen=True):
    """A request that is routed and encoded."""

    request: RankRequest
    routed: Routed
    deployment: Deployment
    rows: RequestRows
    arrived: float
    deadline: float

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.request, self.deployment, self.rows, self.deadline, self.routed.caching)


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
        shadow: ShadowScorer | None = None,
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
        self.plain = PlainRanker(
            router=router,
            deployments=deployments,
            feature_names=feature_names,
            slates=slates,
            clock=clock,
        )
        """For the requests that need no more than that; `ended` if they do after all."""
        self._shadow = shadow
        self._interleaver = Interleaver(scorer, deployments)
        self._pages = KnownPages(deployments)

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

    def submit(self, request: RankRequest, *, arrived: float, then: "Told") -> "Ranked | Submitted":
        """Like `rank`, with no more of a task than what is to be waited for needs.

        None at all for what an engine or this process's own cache answers.

        Args:
            request: Decoded and valid in itself.
            arrived: When it arrived, on our clock.
            then: Told how it ended, on a later turn of the event loop.

        Returns:
            What was made at once, in which case `then` is not called; or the request under way.

        Raises:
            RankingError: refused or impossible; `then` is not called.
        """
        return self._begun(request, arrived, then, is_page=False)

    def submit_page(
        self, page: RankRequest, *, arrived: float, then: "Told"
    ) -> "Ranked | Submitted":
        """Like `item_page`, as `submit` is like `rank`.

        Raises:
            UnknownItem: the catalogue of the model that serves it has no such item.
            NoCandidates: the item has nothing beside it.
            RankingError: refused or impossible; `then` is not called.
        """
        return self._begun(page, arrived, then, is_page=True)

    def _begun(
        self, request: RankRequest, arrived: float, then: "Told", *, is_page: bool
    ) -> "Ranked | Submitted":
        ranking = self._telemetry.ranking(arrived, request.request_id)
        routed: Routed | None = None
        rows: RequestRows | None = None
        try:
            routed = self._route(request, ranking)
            if is_page:
                known = self._pages.of(request, self._deployments[routed.deployment])
                request, rows = known.asked_as(request), known.rows
            if routed.interleave is not None:
                work = partial(self._mixed, request, routed, routed.interleave, ranking, arrived)
                return self._in_task(work, request, routed, ranking, arrived, then)
            asked = self._asked(request, routed, arrived, rows)
            begun = self._scorer.begin(asked.wanted)
            if isinstance(begun, SlateScores):
                ranked = self._ranked(asked, begun, ranking)
                ranking.end()
                return ranked
            if begun is not None and not isinstance(begun, Learns):
                work = partial(self._scored, asked, begun, ranking)
                return self._in_task(work, request, routed, ranking, arrived, then)
            learns = begun

            def scored(end: ScoredRows | Exception) -> None:
                then(self._submitted(asked, ranking, end, learns))

            pending = self._scorer.submit(asked.wanted, scored, learns)
        except Exception as error:
            if routed is not None:
                self._lapsed(request, routed, arrived, error)
            ranking.end(error)
            raise
        return Submitted(pending, ranking, partial(self._lapsed, request, routed, arrived))

    def _in_task(
        self,
        work: "Callable[[], Coroutine[None, None, Ranked]]",
        request: RankRequest,
        routed: Routed,
        ranking: Ranking,
        arrived: float,
        then: "Told",
    ) -> "Submitted":
        lapsed = partial(self._lapsed, request, routed, arrived)

        async def told() -> None:
            try:
                ranked = await work()
            except Exception as error:  # a cancellation is `Submitted.cancel`, which counts it
                lapsed(error)
                ranking.end(error)
                then(error)
                return
            ranking.end()
            then(ranked)

        task = asyncio.get_running_loop().create_task(told())
        return Submitted(task, ranking, lapsed)

    async def _scored(self, asked: _Asked, begun: Scoring, ranking: Ranking) -> Ranked:
        return self._ranked(asked, await begun(), ranking)

    def ended(
        self,
        request: RankRequest,
        routed: Routed,
        deployment: Deployment,
        ranking: Ranking,
        arrived: float,
        end: ScoredRows | Exception,
    ) -> "Ranked | Exception":
        """What `submit` tells of, for a request that began as a plain one.

        Args:
            request: Decoded and valid in itself.
            routed: Where `plain` found that it goes.
            deployment: That has served it.
            ranking: Of this request, still under way.
            arrived: When it arrived, on our clock.
            end: What the batcher told.
        """
        deadline = arrived + request.timeout_ms / 1000
        rows = deployment.features.encode(request)
        asked = _Asked(request, routed, deployment, rows, arrived, deadline)
        return self._submitted(asked, ranking, end)

    def _submitted(
        self,
        asked: _Asked,
        ranking: Ranking,
        end: ScoredRows | Exception,
        learns: Learns | None = None,
    ) -> "Ranked | Exception":
        try:
            scored = self._scorer.submitted(asked.wanted, end, learns)
            ranked = self._ranked(asked, scored, ranking)
        except Exception as error:
            self._lapsed(asked.request, asked.routed, asked.arrived, error)
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
            try:
                known = self._pages.of(page, self._deployments[routed.deployment])
            except RankingError as error:
                self._lapsed(page, routed, arrived, error)
                raise
            return await self._answer(
                known.asked_as(page), routed, ranking, arrived, rows=known.rows
            )

    async def record(self, ranked: Ranked, *, delivered: bool = True) -> None:
        """After the reply: the exposure to the event log, fresh scores to the cache.

        Args:
            ranked: What was made.
            delivered: Whether somebody was there to be sent the slate; else it is no exposure.
        """
        if ranked.copy is not None and self._shadow is not None:
            self._shadow.offer(ranked.copy)
        if ranked.exposure is not None and not delivered:
            self._exposures.record(_undelivered(ranked.exposure))
        elif ranked.exposure is not None:
            self._exposures.record(ranked.exposure)
            counted = {arm.experiment for arm in ranked.exposure.arms}
            self._telemetry.metrics.exposed(
                [e for e in ranked.reply.experiments if e.key in counted]
            )
        cache, fresh = ranked.deployment.cache, ranked.fresh
        if cache is not None and fresh is not None:
            await cache.put(fresh.key, fresh.scores, computed_s=fresh.computed_s)
        for cache, fresh in ranked.also:
            await cache.put(fresh.key, fresh.scores, computed_s=fresh.computed_s)

    def _route(self, request: RankRequest, ranking: Ranking) -> Routed:
        surface = _surface(request)
        with self._telemetry.step(names.SPAN_ROUTE):
            self._names.check(request)
            units = Units(request.user.id, request.session_id)
            routed = self._router.route(
                units,
                surface,
                context=request.context,
                force=request.force,
                external=request.external,
            )
        if routed.external_ignored:
            self._telemetry.metrics.external_ignored(len(routed.external_ignored))
        ranking.routed(
            surface,
            routed.references(),
            routed.serving(),
            config_digest=routed.config_digest,
            unit=units.user or units.session,
        )
        return routed

    async def _answer(
        self,
        request: RankRequest,
        routed: Routed,
        ranking: Ranking,
        arrived: float,
        *,
        rows: RequestRows | None = None,
    ) -> Ranked:
        try:
            if routed.interleave is not None:
                return await self._mixed(request, routed, routed.interleave, ranking, arrived)
            asked = self._asked(request, routed, arrived, rows)
            scored = await self._scorer.scores(asked.wanted)
            return self._ranked(asked, scored, ranking)
        except BaseException as error:
            self._lapsed(request, routed, arrived, error)
            raise

    async def _mixed(
        self,
        request: RankRequest,
        routed: Routed,
        interleave: Interleave,
        ranking: Ranking,
        arrived: float,
    ) -> Ranked:
        """A slate of two rankers; of one, and counted by nobody, if the other fails."""
        slate_id = self._slates.new(self._clock.wall())
        deadline = arrived + request.timeout_ms / 1000
        mixed = await self._interleaver.mixed(request, interleave, deadline, slate_id)
        if mixed.drafted is None:
            routed = routed.alone(mixed.variant)
        asked = _Asked(request, routed, mixed.deployment, mixed.rows, arrived, deadline)
        ranked = self._ranked(asked, mixed.scored, ranking, mixed.drafted)
        exposure = ranked.exposure
        if exposure is not None:  # two rankers computed it
            exposure = msgspec.structs.replace(
                exposure,
                compute_ms=sum(_ms(share_s(done)) for done in mixed.batches),
                predictions=sum(done.job.rows for done in mixed.batches),
            )
        return msgspec.structs.replace(ranked, exposure=exposure, also=mixed.also)

    def _lapsed(
        self, request: RankRequest, routed: Routed, arrived: float, error: BaseException
    ) -> None:
        """The units that were assigned get no slate."""
        counted = arms(routed.assignments) if routed.assignments else ()
        if counted:
            lapse = Lapse(
                arms=counted,
                at=self._clock.wall(),
                code=_code_of(error),
                latency_ms=_ms(self._clock.now() - arrived),
                surface=_surface(request) or "",
            )
            self._exposures.record(lapse)

    def _asked(
        self,
        request: RankRequest,
        routed: Routed,
        arrived: float,
        rows: RequestRows | None = None,
    ) -> _Asked:
        deployment = self._deployments[routed.deployment]
        rows = rows or deployment.features.encode(request)
        deadline = arrived + request.timeout_ms / 1000
        return _Asked(request, routed, deployment, rows, arrived, deadline)

    def _ranked(
        self,
        asked: _Asked,
        scored: SlateScores,
        ranking: Ranking,
        drafted: Drafted | None = None,
    ) -> Ranked:
        if scored.failure is not None:
            if not self._allow_degraded and scored.degraded == "popularity":
                raise scored.failure
            ranking.fell_back(scored.failure)
        assignments = asked.routed.assignments
        counted = arms(assignments) if assignments else ()
        reply = self._reply(asked, counted, scored, drafted)
        if asked.request.explain:
            reply = _explained(reply, asked.deployment, asked.rows, scored, drafted)
        ranking.answered(reply, len(asked.rows.item_ids))
        return Ranked(
            reply=reply,
            # Who shares the scores of another request pays for nothing.
            exposure=self._exposure(asked, counted, reply, None if scored.shared else scored.batch),
            deployment=asked.deployment,
            fresh=scored.fresh,
            copy=self._copy(asked, scored, reply.slate_id),
        )

    def _copy(self, asked: _Asked, scored: SlateScores, slate_id: str) -> Copy | None:
        if self._shadow is None or not asked.routed.experiments:
            return None
        return self._shadow.copy_of(asked.request, asked.routed, scored, slate_id)

    def _reply(
        self,
        asked: _Asked,
        counted: tuple[Arm, ...],
        scored: SlateScores,
        drafted: Drafted | None,
    ) -> RankReply:
        request, batch = asked.request, scored.batch
        if drafted is None:
            slate_id = self._slates.new(self._clock.wall())
            items = best(asked.rows.item_ids, scored.scores, request.k)
        else:
            slate_id, items = drafted.slate_id, drafted.items
        return RankReply(
            request_id=request.request_id,
            slate_id=slate_id,
            items=items,
            model=scored.model,
            experiments=asked.routed.references(),
            exposure=self._token(counted, slate_id, items, drafted),
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
        self,
        counted: tuple[Arm, ...],
        slate_id: str,
        items: Sequence[RankedItem],
        drafted: Drafted | None,
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
                teams=drafted.teams if drafted else (),
                picks=drafted.picks if drafted else "",
            )
        )

    def _exposure(
        self, asked: _Asked, counted: tuple[Arm, ...], reply: RankReply, done: ScoredRows | None
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
            compute_ms=0.0 if done is None else _ms(share_s(done)),
            queue_ms=reply.timing_ms.queue,
            predictions=0 if done is None else done.job.rows,
            surface=_surface(asked.request) or "",
        )


Told = Callable[[Ranked | Exception], None]


class Submitted(Struct, frozen=True):
    """A request that waits for an engine, or for the cache."""

    _pending: "Pending | asyncio.Task[None]"
    _ranking: Ranking
    _lapsed: Callable[[BaseException], None]

    def cancel(self) -> None:
        """Nobody waits any more, and nobody is told."""
        self._pending.cancel()
        gone = asyncio.CancelledError()
        self._lapsed(gone)
        self._ranking.end(gone)


def _surface(request: RankRequest) -> str | None:
    surface = request.context.get(SURFACE)
    return surface if isinstance(surface, str) else None


def _code_of(error: BaseException) -> str:
    """Why there is no slate, in the words of the error replies."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.code if isinstance(error, RankingError) else RankingError.code


def _undelivered(exposure: Exposure) -> Lapse:
    return Lapse(
        arms=exposure.arms,
        at=exposure.at,
        code=ClientGone.code,
        latency_ms=exposure.latency_ms,
        surface=exposure.surface,
    )


def _explained(
    reply: RankReply,
    deployment: Deployment,
    rows: RequestRows,
    scored: SlateScores,
    drafted: Drafted | None,
) -> RankReply:
    gathered = as_features(deployment.features.rows(rows))
    row_of = {item: row for row, item in enumerate(rows.item_ids)}
    schema = deployment.bundle.schema
    inputs = {item.id: named_inputs(schema, gathered, row_of[item.id]) for item in reply.items}
    report = scored.batch.batch if scored.batch else None
    teams = drafted.team_of() if drafted else msgspec.UNSET
    of_rows = scored.rows or msgspec.UNSET
    explanation = Explanation(batch=report, inputs=inputs, teams=teams, rows=of_rows)
    return msgspec.structs.replace(reply, explain=explanation)


def _ms(seconds: float) -> float:
    # To the microsecond, as `round(..., 3)` has it for a few times as much.
    return int(seconds * 1e6 + 0.5) / 1000
