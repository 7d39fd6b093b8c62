"""Item pages computed before anybody asks for them, the most popular first.

A page is scored and kept by the very parts that answer its requests, so that
keys, epochs and values are theirs; nothing is recorded of it, as nobody sees it.
Where pages are made of score rows, these are computed in its place.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from experiments.assignment import Units
from service.cache import ScoreCache
from service.clock import Clock
from service.deployments import Deployments
from service.deployments.segment_rows import SegmentRows
from service.errors import (
    CacheOff,
    CacheUnavailable,
    DeadlineUnreachable,
    InvalidRequest,
    QueueFull,
)
from service.feature_names import SURFACE, FeatureNames
from service.messages import Features, RankRequest
from service.routing import AS_CONFIGURED, Caching, Router
from service.scoring import Fresh, SlateScorer
from service.warming.pace import Pace
from service.warming.pages import Pages
from service.warming.rows import fill_rows
from service.warming.server import CacheServer
from service.warming.values import PageOf, WarmReply, WarmRequest

CALL_S = 1.0
"""A call ends after that time, wherever it has got to: callers see progress, drains end soon."""
AT_ONCE = 4
"""Pages under way together: a batch for the engine, and no long wait for a live request."""
_RECOVERY_S = 3.0
"""Enough for a probe: a server that paused for a moment is back with it."""
_LOOK_AGAIN_S = 0.05
_TRIES = 5
_CURSOR_TTL_S = 7 * 86_400


class Warmer:
    """Fills the cache with item pages, call by call. For one event loop."""

    def __init__(
        self,
        *,
        router: Router,
        deployments: Deployments,
        feature_names: FeatureNames,
        scorer: SlateScorer,
        server: CacheServer,
        waiting_rows: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Take the parts that answer requests, and what tells how many rows wait for engines."""
        self._router, self._deployments, self._names = router, deployments, feature_names
        self._scorer, self._server = scorer, server
        self._waiting_rows, self._clock = waiting_rows, clock
        self._one_at_a_time = asyncio.Lock()

    def pages(self, of: PageOf) -> Pages:
        """The pages that are meant.

        Raises:
            InvalidRequest: unknown deployment, experiment, variant or context.
            CacheOff: what serves them keeps nothing.
        """
        of = msgspec.structs.replace(of, context=self._context(of))
        name, caching = self._served(of)
        if name not in self._deployments:
            known = ", ".join(sorted(self._deployments))
            raise InvalidRequest(f"no deployment {name!r}; there are: {known}", "$.deployment")
        deployment = self._deployments[name]
        if deployment.cache is None or (caching.mode or deployment.settings.cache) == "off":
            raise CacheOff(name)
        return Pages(of, deployment, caching)

    def _served(self, of: PageOf) -> tuple[str, Caching]:
        """The deployment of the pages, and where its cache has them."""
        surface = _surface(of)
        if not of.force:
            return of.deployment or self._router.own(surface), AS_CONFIGURED
        if of.deployment is not None:
            raise InvalidRequest(
                "the forced variants say what serves: leave it out", "$.deployment"
            )
        units = Units(of.user_id, None)
        routed = self._router.route(units, surface, context=of.context, force=of.force, external={})
        return routed.deployment, routed.caching

    def _context(self, of: PageOf) -> Features:
        """As an item page has it: there, text that stands for a number is one."""
        self._names.check(RankRequest(candidates=("-",), context=of.context))
        return {
            name: self._names.context_value(name, value) if isinstance(value, str) else value
            for name, value in of.context.items()
        }

    async def warm(self, wanted: WarmRequest, *, noting: bool = True) -> WarmReply:
        """Compute and keep what is not kept yet, for about a second at most.

        Args:
            wanted: Which pages, from where.
            noting: Note the place to go on at; not for who warms somewhere in between.

        Raises:
            InvalidRequest, CacheOff: as `pages`.
            CacheUnavailable: there is nothing to be kept in.
        """
        pages = self.pages(wanted)
        async with self._one_at_a_time:
            epoch = await self._epoch(pages)
            first = await self._first(wanted, pages.cursor_key(epoch))
            reply = await self._walk(wanted, pages, first, epoch)
            if noting and reply.next > first:
                await self.note(wanted, reply)
            return reply

    async def beginning(self, wanted: WarmRequest) -> WarmReply:
        """What a warming begins with: nothing is done yet.

        Raises:
            InvalidRequest, CacheOff, CacheUnavailable: as `warm`.
        """
        pages = self.pages(wanted)
        epoch = await self._epoch(pages)
        first = await self._first(wanted, pages.cursor_key(epoch))
        return _reply(wanted, pages, epoch, range(first, first), Counter())

    async def note(self, of: PageOf, reached: WarmReply) -> None:
        """Note that these pages are warm up to a place: gone with the epoch and the model.

        Raises:
            CacheUnavailable: no answer, or it takes no writes.
        """
        cursor = self.pages(of).cursor_key(reached.epoch)
        await self._server.keep(cursor, str(reached.next).encode(), _CURSOR_TTL_S)

    async def _epoch(self, pages: Pages) -> int:
        await self._connected(pages.cache)
        return pages.cache.epoch

    async def _connected(self, cache: ScoreCache) -> None:
        """Wait a little for a server that is left alone for a moment."""
        give_up_at = self._clock.now() + _RECOVERY_S
        while (status := cache.status()).state != "connected":
            if self._clock.now() >= give_up_at:
                raise CacheUnavailable(status.problem or "the cache server is left alone")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _first(self, wanted: WarmRequest, cursor: str) -> int:
        if wanted.first is not None:
            return wanted.first
        noted = (await self._server.held(cursor)).value or b"0"
        return int(noted) if noted.isdigit() else 0

    async def _walk(self, wanted: WarmRequest, pages: Pages, first: int, epoch: int) -> WarmReply:
        top = min(wanted.top, pages.top)
        last = min(first + wanted.pages, top)
        pace = Pace(wanted.rate_per_s, self._waiting_rows, self._clock, self._clock.now() + CALL_S)
        ends: Counter[str] = Counter()
        place = first
        while place < last:
            places = range(place, min(place + AT_ONCE, last))
            if not await pace.turn(len(places)):
                break
            segments = pages.segments
            ends.update(
                await self._slates(pages, places)
                if segments is None
                else await self._rows(pages, places, segments)
            )
            place = places.stop
        reply = _reply(wanted, pages, epoch, range(first, place), ends)
        return msgspec.structs.replace(reply, waited_s=round(pace.waited_s, 3))

    async def _slates(self, pages: Pages, places: range) -> list[str]:
        """Compute and keep pages that are kept whole; how it went with each."""
        done = await asyncio.gather(*(self._slate(pages, place) for place in places))
        cache, computed = pages.cache, [fresh for _, fresh in done if fresh is not None]

        async def put() -> None:
            puts = [cache.put(f.key, f.scores, computed_s=f.computed_s) for f in computed]
            await asyncio.gather(*puts)

        await self._until_kept(cache, put)
        return [end for end, _ in done]

    async def _rows(self, pages: Pages, places: range, segments: SegmentRows) -> list[str]:
        """Compute and keep the score rows of pages that are made of them; how it went with each."""
        ends: list[str] = []

        async def fill() -> None:
            nonlocal ends
            now = await asyncio.gather(*(self._filled(pages, place, segments) for place in places))
            ends = ends or now  # another time finds what this one has computed

        await self._until_kept(pages.cache, fill)
        return ends

    async def _until_kept(self, cache: ScoreCache, put: Callable[[], Awaitable[None]]) -> None:
        """Have scores kept, all of them.

        Raises:
            CacheUnavailable: the server does not take them.
        """
        for _ in range(_TRIES):
            before = _lost(cache)
            await put()
            # Live traffic's count here too: then these are put once more than they need be.
            if _lost(cache) == before:
                return
            await asyncio.sleep(_LOOK_AGAIN_S)
        why = cache.status().writes_problem
        refusal = "the cache server does not take what was computed"
        raise CacheUnavailable(f"{refusal}: {why}" if why else refusal)

    async def _filled(self, pages: Pages, place: int, segments: SegmentRows) -> str:
        request = pages.request(place)
        if request is None:
            return "empty"
        return await fill_rows(pages.wanted(request, self._clock.now()), segments)

    async def _slate(self, pages: Pages, place: int) -> tuple[str, Fresh | None]:
        """How it went, as the field of a reply that counts it; and what is to be kept."""
        request = pages.request(place)
        if request is None:
            return "empty", None
        try:
            scored = await self._scorer.scores(pages.wanted(request, self._clock.now()))
        except (QueueFull, DeadlineUnreachable):
            return "failed", None
        if scored.fresh is not None:
            return "computed", scored.fresh
        known = scored.shared or scored.cache.result in ("hit", "stale")
        return "cached" if known else "failed", None


def _reply(
    wanted: WarmRequest, pages: Pages, epoch: int, done: range, ends: Counter[str]
) -> WarmReply:
    return WarmReply(
        deployment=pages.deployment.name,
        model=pages.deployment.model,
        epoch=epoch,
        top=min(wanted.top, pages.top),
        first=done.start,
        next=done.stop,
        computed=ends["computed"],
        cached=ends["cached"],
        empty=ends["empty"],
        failed=ends["failed"],
        waited_s=0.0,
    )


def _lost(cache: ScoreCache) -> int:
    counters = cache.status().counters
    return counters.write_errors + counters.writes_skipped


def _surface(of: PageOf) -> str | None:
    surface = of.context.get(SURFACE)
    return surface if isinstance(surface, str) else None
