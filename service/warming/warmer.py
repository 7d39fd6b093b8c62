"""Item pages computed before anybody asks for them, the most popular first.

A page is scored and kept by the very parts that answer its requests, so that
keys, epochs and values are theirs; nothing is recorded of it, as nobody sees it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from service.cache import ScoreCache
from service.clock import Clock
from service.deployments import Deployment, Deployments
from service.errors import (
    CacheOff,
    CacheUnavailable,
    DeadlineUnreachable,
    InvalidRequest,
    QueueFull,
)
from service.feature_names import SURFACE, FeatureNames
from service.messages import Features, RankRequest, UserRef
from service.routing import Router
from service.scoring import Fresh, SlateScorer, Wanted
from service.warming.pace import Pace
from service.warming.server import CacheServer
from service.warming.values import PageOf, WarmReply, WarmRequest

CALL_S = 1.0
"""A call ends after that time, wherever it has got to: callers see progress, drains end soon."""
AT_ONCE = 4
"""Pages under way together: a batch for the engine, and no long wait for a live request."""
_PATIENCE_MS = 10_000
_RECOVERY_S = 3.0
"""Enough for a probe: a server that paused for a moment is back with it."""
_LOOK_AGAIN_S = 0.05
_TRIES = 5
_CURSOR_TTL_S = 7 * 86_400


class Pages(Struct, frozen=True):
    """The pages that one call is about."""

    of: PageOf
    deployment: Deployment

    @property
    def top(self) -> int:
        return len(self.deployment.bundle.popularity)

    def request(self, place: int) -> RankRequest | None:
        """The request of the page at a place of the popularity order; None: nothing is beside."""
        bundle = self.deployment.bundle
        anchor = str(bundle.item_ids[bundle.popularity[place]])
        return self.request_of(anchor)

    def request_of(self, anchor: str) -> RankRequest | None:
        """The request of an item's page; None: nothing is beside it, or nobody knows it."""
        candidates = self.deployment.candidates_of(anchor)
        if not candidates:
            return None
        return RankRequest(
            candidates=candidates,
            anchor_item=anchor,
            user=UserRef(id=self.of.user_id),
            context=self.of.context,
            priority="low",
            timeout_ms=_PATIENCE_MS,
        )

    def wanted(self, request: RankRequest, now: float) -> Wanted:
        """What a request of these asks of whoever scores it."""
        rows = self.deployment.features.encode(request)
        return Wanted(request, self.deployment, rows, now + _PATIENCE_MS / 1000)

    def cursor_key(self, epoch: int) -> str:
        """Where it is noted how far these pages are warm: gone with the epoch and the model."""
        whose = msgspec.json.encode((self.of.context, self.of.user_id), order="sorted")
        digest = blake2b(whose, digest_size=12).hexdigest()
        return f"podium:{epoch}:{self.deployment.score_hash}:W:{digest}"


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
            InvalidRequest: unknown deployment or context.
            CacheOff: what serves them keeps nothing.
        """
        of = msgspec.structs.replace(of, context=self._context(of))
        name = of.deployment or self._router.own(_surface(of))
        if name not in self._deployments:
            known = ", ".join(sorted(self._deployments))
            raise InvalidRequest(f"no deployment {name!r}; there are: {known}", "$.deployment")
        deployment = self._deployments[name]
        if deployment.cache is None or deployment.settings.cache == "off":
            raise CacheOff(name)
        return Pages(of, deployment)

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
        cache = pages.deployment.cache
        assert cache is not None, "it was looked at"
        await self._connected(cache)
        return cache.epoch

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
            done = await asyncio.gather(*(self._page(pages, one) for one in places))
            await self._keep(pages, [fresh for _, fresh in done if fresh is not None])
            ends.update(end for end, _ in done)
            place = places.stop
        reply = _reply(wanted, pages, epoch, range(first, place), ends)
        return msgspec.structs.replace(reply, waited_s=round(pace.waited_s, 3))

    async def _keep(self, pages: Pages, computed: list[Fresh]) -> None:
        """Have scores kept, all of them.

        Raises:
            CacheUnavailable: the server does not take them.
        """
        cache = pages.deployment.cache
        assert cache is not None, "it was looked at"
        for _ in range(_TRIES):
            before = _lost(cache)
            puts = [cache.put(f.key, f.scores, computed_s=f.computed_s) for f in computed]
            await asyncio.gather(*puts)
            # Live traffic's count here too: then these are put once more than they need be.
            if _lost(cache) == before:
                return
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise CacheUnavailable("the cache server does not take what was computed")

    async def _page(self, pages: Pages, place: int) -> tuple[str, Fresh | None]:
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
