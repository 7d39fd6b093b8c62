"""From a plain ranking request or item page to its reply, as the routes do it.

The pieces are the routes' own: the same decoder, ranker, access check and
problems. `tests/e2e/test_express.py` holds the two to the same bytes.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import msgspec

from service.api.access import FORWARDING, Caller
from service.api.bodies import decode
from service.api.draining import shutting_down
from service.api.given import RankingParts
from service.api.items import PAGE_ROUTE, page_request
from service.api.pinning import redeemed
from service.errors import RankingError
from service.express.head import Head, Page
from service.express.plain import ROUTE, Busy, Connection, PlainLane
from service.express.reply import Reply, refusal, slate
from service.health import Health
from service.known_pages import MOST_PAGES
from service.messages import RankRequest
from service.ranker import Ranked, Submitted
from service.telemetry import Exchange, names

Address = tuple[str, int]

_FORWARDING = frozenset(name.encode() for name in FORWARDING)
_decoder = msgspec.json.Decoder(RankRequest)


class Underway(Protocol):
    """A request that is to be answered."""

    def cancel(self) -> Reply | None:
        """Give it up: the caller is gone, or the drain limit has come.

        Returns:
            What the caller is still told, if it is there.
        """
        ...


class RankLane:
    """Ranks for connections. For one event loop.

    `start` answers what has nothing to wait for but an engine, as all requests
    without a cache, or nothing at all, as the slates that this process has in
    its own cache: a task for each, and the coroutines in it, cost as much as to
    decode it. What has to ask the cache server gets a task for that alone.
    """

    def __init__(self, parts: RankingParts, health: Health) -> None:
        self._ranker, self._access, self._telemetry = parts.ranker, parts.access, parts.telemetry
        self._names = parts.feature_names
        # The very same request for the same page: what is known of one need not be compared.
        self._page_request = lru_cache(MOST_PAGES)(self._asked_for)
        self._body_limit = parts.body_limit
        self._force_tokens, self._wall = parts.force_tokens, parts.clock.wall
        self._health = health
        self._plain = PlainLane(parts, health, self.exchange)

    def plain(
        self, body: bytes, head: Head, connection: Connection, busy: Busy | None = None
    ) -> bool:
        """Answer a request that is plain to the last; see `PlainLane.start`."""
        return self._plain.start(body, head, connection, busy)

    def takes(self, head: Head, peer: Address | None) -> bool:
        """Whether a request may go on here; the route refuses the others, in its own words."""
        if head.body_bytes > self._body_limit:
            return False
        if self._access.needs_key:
            try:
                self._access.check(_caller(head, peer), "rank")
            except RankingError:
                return False
        return True

    def exchange(
        self,
        head: Head,
        scheme: str,
        server: tuple[str, int | None] | None = None,
        *,
        left_out: bool = False,
    ) -> Exchange:
        """The exchange that a request begins; `left_out` of tracing, if that is decided."""
        page = head.page
        return self._telemetry.exchange(
            {
                "path": ROUTE if page is None else f"/v1/items/{page.item_id}/recommendations",
                "path_template": ROUTE if page is None else PAGE_ROUTE,
                "query_string": b"" if page is None else page.query_string,
                "method": "POST" if page is None else "GET",
                "scheme": scheme,
                "headers": head.fields.items(),
                "http_version": "1.1",
                "server": server,
            },
            traced=head.traced,
            left_out=left_out,
        )

    def start(
        self,
        body: bytes,
        head: Head,
        peer: Address | None,
        exchange: Exchange,
        then: Callable[[Reply], None],
    ) -> Reply | Underway | None:
        """Answer without a task.

        Args:
            body: All of it.
            head: What came before it.
            peer: Who is at the other end.
            exchange: That the request began.
            then: Given the reply on a later turn of the event loop, unless it comes back at once
                or is cancelled.

        Returns:
            The reply, or the request under way; None if it is for `answer`.
        """
        asked: RankRequest | None = None
        arrived = exchange.started_at
        exchange.resume()
        try:
            if head.page is None:
                asked = self._decoded(body)
                asked = self._allowed(asked, head, peer)
                started = _Started(asked, exchange, then, self._health)
                submitted = self._ranker.submit(asked, arrived=arrived, then=started.ended)
            else:
                asked = self._page(head.page)
                started = _Started(asked, exchange, then, self._health)
                submitted = self._ranker.submit_page(asked, arrived=arrived, then=started.ended)
            if isinstance(submitted, Ranked):
                return slate(submitted)
            started.submitted = submitted
            return started
        except Exception as error:
            return refusal(error, asked)
        finally:
            exchange.pause()

    async def answer(
        self,
        body: "bytes | asyncio.Future[bytes]",
        head: Head,
        peer: Address | None,
        arrived: float,
    ) -> Reply:
        """The slate, or the problem that the caller is told of.

        Args:
            body: All of it, now or when it has come; ClientGone if it never does.
            head: What came before it.
            peer: Who is at the other end.
            arrived: When the request did, on the service's clock.

        Raises:
            CancelledError: nobody waits for the reply any more.
        """
        asked: RankRequest | None = None
        try:
            if head.page is not None:
                page = self._page(head.page)
                return slate(await self._ranker.item_page(page, arrived=arrived))
            given = body if isinstance(body, bytes) else await body
            asked = self._decoded(given)
            asked = self._allowed(asked, head, peer)
            return slate(await self._ranker.rank(asked, arrived=arrived))
        except asyncio.CancelledError:
            reply = self.cut_off(asked)
            if reply is None:
                raise
            return reply
        except Exception as error:
            return refusal(error, asked)

    def cut_off(self, asked: RankRequest | None) -> Reply | None:
        """What the caller of a cancelled request is told, if a drain is why."""
        return refusal(shutting_down(), asked) if self._health.is_draining else None

    def _page(self, page: Page) -> RankRequest:
        asked = self._page_request(page, self._names.numeric_context)
        return redeemed(asked, self._force_tokens, self._wall())

    def _asked_for(self, page: Page, numeric: frozenset[str]) -> RankRequest:
        """The request of a page, as long as these names take numbers: a model that is loaded may
        add to them."""
        assert numeric is self._names.numeric_context
        return page_request(page.item_id, dict(page.query), self._names)

    def _decoded(self, body: bytes) -> RankRequest:
        with self._telemetry.step(names.SPAN_DECODE):
            return decode(_decoder, body)

    def _allowed(self, asked: RankRequest, head: Head, peer: Address | None) -> RankRequest:
        if asked.force:
            self._access.check(_caller(head, peer), "admin")
        return redeemed(asked, self._force_tokens, self._wall())

    async def record(self, ranked: Ranked, *, delivered: bool = True) -> None:
        """After the reply, or after nobody was there to be sent it."""
        await self._ranker.record(ranked, delivered=delivered)


class _Started:
    """A request that is answered later."""

    __slots__ = ("_asked", "_exchange", "_health", "_then", "submitted")

    def __init__(
        self,
        asked: RankRequest,
        exchange: Exchange,
        then: Callable[[Reply], None],
        health: Health,
    ) -> None:
        self._asked, self._exchange, self._then, self._health = asked, exchange, then, health
        self.submitted: Submitted | None = None

    def ended(self, end: Ranked | Exception) -> None:
        self.submitted = None  # which knows us: a ring would be left to the garbage collector
        self._exchange.resume()
        try:
            reply = refusal(end, self._asked) if isinstance(end, Exception) else slate(end)
        except Exception as error:
            reply = refusal(error, self._asked)
        finally:
            self._exchange.pause()
        self._then(reply)

    def cancel(self) -> Reply | None:
        submitted, self.submitted = self.submitted, None
        if submitted is not None:
            submitted.cancel()
        return refusal(shutting_down(), self._asked) if self._health.is_draining else None


def _caller(head: Head, peer: Address | None) -> Caller:
    def field(name: bytes) -> str | None:
        found = head.fields.get(name)
        return None if found is None else found.decode("latin-1")

    return Caller(
        authorization=field(b"authorization") or "",
        host=None if peer is None else peer[0],
        forwarded=not _FORWARDING.isdisjoint(head.fields),
        asked_host=field(b"host"),
        origin=field(b"origin"),
        fetch_site=field(b"sec-fetch-site"),
    )
