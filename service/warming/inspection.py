"""What people want to know of the cache: how it is, and what it holds of one page."""

import msgspec

from service.cache import CacheStatus, ScoreCache
from service.cache.codec import decode
from service.cache.freshness import Lifetimes
from service.clock import Clock
from service.deployments import Deployments
from service.errors import CacheUnavailable, InvalidRequest, UnknownItem
from service.fleet import Fleet
from service.scoring.scorer import key_of
from service.warming.server import CacheServer
from service.warming.values import CacheFlushed, CacheView, EntryView, LookupCounts, PageOf
from service.warming.warmer import Warmer

STATUS = "cache.status"
"""The command that asks for the status of a worker's cache."""
STATUS_LIMIT_S = 1.0


class Inspector:
    """Looks into the cache of all workers. For one event loop."""

    def __init__(
        self,
        *,
        cache: ScoreCache,
        server: CacheServer,
        warmer: Warmer,
        deployments: Deployments,
        lifetimes: Lifetimes,
        fleet: Fleet,
        clock: Clock,
    ) -> None:
        """Take this worker's parts; it answers the fleet from now on as well."""
        self._cache, self._server, self._warmer = cache, server, warmer
        self._deployments, self._lifetimes = deployments, lifetimes
        self._fleet, self._clock = fleet, clock
        fleet.on(STATUS, self._answer)

    async def view(self, *, count: bool) -> CacheView:
        """How the cache is.

        Args:
            count: Walk through the server's keys and count them by kind; takes seconds.
        """
        status, epoch = self._cache.status(), self._cache.epoch
        try:
            server = await self._server.figures()
            keys = await self._server.count(epoch) if count else None
        except CacheUnavailable as problem:
            return await self._viewed(status, str(problem))
        view = await self._viewed(status, status.problem or _unwritten(status))
        return msgspec.structs.replace(view, server=server, keys=keys)

    async def page(self, item: str, of: PageOf) -> EntryView:
        """What the cache server holds of an item's page.

        Raises:
            UnknownItem: the catalogue has no such item, or nothing beside it.
            InvalidRequest, CacheOff: as `Warmer.pages`; or its pages are not kept whole.
            CacheUnavailable: nobody knows.
        """
        pages = self._warmer.pages(of)
        if pages.segments is not None:
            made_of = f"the pages of {pages.deployment.name!r} are made of score rows"
            raise InvalidRequest(f"{made_of}: none is kept whole", "$.item")
        request, deployment = pages.request_of(item), pages.deployment
        if request is None:
            raise UnknownItem(item)
        key = key_of(pages.wanted(request, self._clock.now()), self._cache)
        held = await self._server.held(key.text)
        view = EntryView(key=key.text, is_present=held.value is not None)
        if held.value is None:
            return msgspec.structs.replace(view, deployment=deployment.name)
        entry = decode(key, held.value)
        age_s = None if entry is None else max(0.0, self._clock.wall() - entry.created_s)
        return msgspec.structs.replace(
            view,
            size_bytes=len(held.value),
            expires_in_s=held.expires_in_s,
            is_readable=entry is not None,
            age_s=age_s,
            computed_ms=None if entry is None else 1000 * entry.computed_s,
            fresh_for_s=None if age_s is None else self._lifetimes.soft_s(key.tag) - age_s,
            candidates=key.count,
            deployment=deployment.name,
        )

    async def entry(self, key: str) -> EntryView:
        """What the cache server holds under a key.

        Raises:
            CacheUnavailable: nobody knows.
        """
        held = await self._server.held(key)
        return EntryView(
            key=key,
            is_present=held.value is not None,
            size_bytes=len(held.value or b""),
            expires_in_s=held.expires_in_s,
        )

    async def flush(self) -> CacheFlushed:
        """Purge everything, on all replicas.

        Raises:
            CacheUnavailable: nobody knows whether it was.
        """
        return CacheFlushed(epoch=await self._server.purge(beyond=self._cache.epoch))

    async def _viewed(self, status: CacheStatus, problem: str | None) -> CacheView:
        return CacheView(
            state=status.state,
            problem=problem,
            epoch=self._cache.epoch,
            modes={
                name: "off" if deployment.cache is None else deployment.settings.cache
                for name, deployment in self._deployments.items()
            },
            lookups=await self._lookups(),
            server=None,
        )

    async def _lookups(self) -> LookupCounts:
        answers = await self._fleet.ask(STATUS, limit_s=STATUS_LIMIT_S)
        return _summed([msgspec.json.decode(one, type=CacheStatus) for one in answers])

    async def _answer(self, _: bytes) -> bytes:
        return msgspec.json.encode(self._cache.status())


def _summed(workers: list[CacheStatus]) -> LookupCounts:
    counters = [worker.counters for worker in workers]
    return LookupCounts(
        workers=len(workers),
        hits=sum(one.hits for one in counters),
        process_hits=sum(one.process_hits for one in counters),
        stale=sum(one.stale for one in counters),
        misses=sum(one.misses for one in counters),
        errors=sum(one.errors for one in counters),
        left_alone=sum(one.left_alone for one in counters),
        writes=sum(one.writes for one in counters),
        write_errors=sum(one.write_errors for one in counters),
        writes_skipped=sum(one.writes_skipped for one in counters),
        process_entries=sum(worker.first_level.entries for worker in workers),
        process_bytes=sum(worker.first_level.bytes for worker in workers),
    )


def _unwritten(status: CacheStatus) -> str | None:
    problem = status.writes_problem
    return None if problem is None else f"nothing is stored: {problem}"
