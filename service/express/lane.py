"""From the body of a plain ranking request to its reply, as the route does it.

The pieces are the route's own: the same decoder, ranker, access check and
problems. `tests/e2e/test_express.py` holds the two to the same bytes.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from service.api.access import FORWARDING, Caller
from service.api.bodies import decode
from service.api.draining import shutting_down
from service.api.given import RankingParts
from service.api.problems import MEDIA_TYPE, problem_of, retry_after, told_of_defect
from service.errors import RankingError
from service.express.head import Head
from service.health import Health
from service.messages import RankRequest
from service.ranker import Ranked, Submitted
from service.telemetry import Exchange, names, note_failure

Address = tuple[str, int]

ROUTE = "/v1/rank"
_FORWARDING = frozenset(name.encode() for name in FORWARDING)
_decoder = msgspec.json.Decoder(RankRequest)
_encode = msgspec.json.Encoder().encode
_SLATE = b"content-type: application/json\r\ncontent-length: %d\r\n"
_PROBLEM = b"content-type: %b\r\ncontent-length: %%d\r\n" % MEDIA_TYPE.encode()


class Reply(Struct, frozen=True):
    """What goes back."""

    status: int
    headers: bytes
    """Each field ends with CRLF."""
    body: bytes
    ranked: Ranked | None = None
    """What is left to do after the reply."""


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
    without a cache: a task for each, and the coroutines in it, cost as much as
    to decode it. Everything else is for `answer`.
    """

    def __init__(self, parts: RankingParts, health: Health) -> None:
        self._ranker, self._access, self._telemetry = parts.ranker, parts.access, parts.telemetry
        self._body_limit = parts.body_limit
        self._health = health

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

    def exchange(self, head: Head, scheme: str, server: tuple[str, int | None] | None) -> Exchange:
        """The exchange that a request begins."""
        return self._telemetry.exchange(
            {
                "path": ROUTE,
                "path_template": ROUTE,
                "method": "POST",
                "scheme": scheme,
                "headers": head.fields.items(),
                "http_version": "1.1",
                "server": server,
            },
            traced=head.traced,
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
        if not self._ranker.can_submit:
            return None
        asked: RankRequest | None = None
        exchange.resume()
        try:
            asked = self._decoded(body)
            self._allow(asked, head, peer)
            started = _Started(asked, exchange, then, self._health)
            started.submitted = self._ranker.submit(
                asked, arrived=exchange.started_at, then=started.ended
            )
            return started
        except Exception as error:
            return _refusal(error, asked)
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
            given = body if isinstance(body, bytes) else await body
            asked = self._decoded(given)
            self._allow(asked, head, peer)
            return _slate(await self._ranker.rank(asked, arrived=arrived))
        except asyncio.CancelledError:
            if not self._health.is_draining:
                raise
            return _refusal(shutting_down(), asked)
        except Exception as error:
            return _refusal(error, asked)

    def _decoded(self, body: bytes) -> RankRequest:
        with self._telemetry.step(names.SPAN_DECODE):
            return decode(_decoder, body)

    def _allow(self, asked: RankRequest, head: Head, peer: Address | None) -> None:
        if asked.force:
            self._access.check(_caller(head, peer), "admin")

    async def record(self, ranked: Ranked) -> None:
        """After the reply."""
        await self._ranker.record(ranked)


class _Started:
    """A request whose rows wait for an engine."""

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
            reply = _refusal(end, self._asked) if isinstance(end, Exception) else _slate(end)
        except Exception as error:
            reply = _refusal(error, self._asked)
        finally:
            self._exchange.pause()
        self._then(reply)

    def cancel(self) -> Reply | None:
        submitted, self.submitted = self.submitted, None
        if submitted is not None:
            submitted.cancel()
        return _refusal(shutting_down(), self._asked) if self._health.is_draining else None


def _caller(head: Head, peer: Address | None) -> Caller:
    return Caller(
        authorization=head.fields.get(b"authorization", b"").decode("latin-1"),
        host=None if peer is None else peer[0],
        forwarded=not _FORWARDING.isdisjoint(head.fields),
    )


def _slate(ranked: Ranked) -> Reply:
    slate = _encode(ranked.reply)
    return Reply(200, _SLATE % len(slate), slate, None if ranked.is_done else ranked)


def _refusal(error: Exception, asked: RankRequest | None) -> Reply:
    if not isinstance(error, RankingError):
        error = told_of_defect(error)
    note_failure(error)
    problem = problem_of(error, None if asked is None else asked.request_id)
    body = _encode(problem)
    headers = _PROBLEM % len(body)
    if problem.retry_after_s is not None:
        headers = b"retry-after: %b\r\n%b" % (retry_after(problem.retry_after_s).encode(), headers)
    return Reply(problem.status, headers, body)
