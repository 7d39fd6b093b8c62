"""Plain requests on the express lane: from bytes to bytes in as few steps as there are.

Half of what a request of ten candidates costs is the calls and objects between
its steps. So a plain one (see `PlainRanker`) is one object from its body to its
reply, and what several of a batch have in common is done once for all of them.
What turns out not to be plain goes on as any other request does, with the
`Exchange` and the `Ranking` that would have counted it from the beginning.
One that is traced has them from the beginning, and keeps the rows of the
others' kind: a single one of another kind would cost all that it shares a
batch with the lookup and the search for repeats that they are spared.
"""

import asyncio
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from service.api.draining import shutting_down
from service.api.given import RankingParts
from service.batching.pending import Pending
from service.batching.records import ScoredRows
from service.express.head import Head
from service.express.reply import SLATE_FIELDS, Reply, refusal, slate
from service.health import Health
from service.messages import MAX_CANDIDATES, RankRequest, Text
from service.plain_ranking import Plain
from service.telemetry import Exchange, Ranking, RequestTrace, names
from service.telemetry.plain import PlainCounts

ROUTE: Final = "/v1/rank"
_OK: Final = 200


class PlainRequest(RankRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request whose candidates are ids alone: a decoder that expects nothing else needs about
    half the time for a hundred of them."""

    candidates: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_CANDIDATES)]


_decode: Final = msgspec.json.Decoder(PlainRequest).decode
_encode: Final = msgspec.json.Encoder().encode


class Connection(Protocol):
    """Where a plain request came from."""

    loop: asyncio.AbstractEventLoop
    server: tuple[str, int | None] | None
    """Where it came in."""

    @property
    def scheme(self) -> str | None: ...

    def begin(self, call: "PlainCall") -> None:
        """The request is admitted: the connection's next one waits."""
        ...

    def finish(self, call: "PlainCall", status: int, headers: bytes, body: bytes) -> None:
        """Send the reply, unless the caller is gone, and go on with the next request."""
        ...

    def forget(self, call: "PlainCall") -> None:
        """Nobody is to be told anything."""
        ...


class Busy(Protocol):
    """Who wants to know how many requests are under way."""

    def began(self) -> None: ...

    def ended(self) -> None: ...


class ExchangeOf(Protocol):
    """The exchange of a request with a head, a scheme and where it came in; `left_out` of tracing
    if that is decided."""

    def __call__(
        self,
        head: Head,
        scheme: str,
        server: tuple[str, int | None] | None = None,
        *,
        left_out: bool = False,
    ) -> Exchange: ...


class Traced(Struct, frozen=True):
    """What counts and traces a request that belongs to a trace."""

    exchange: Exchange
    ranking: Ranking


class PlainLane:
    """Takes plain requests. For one event loop.

    Args:
        parts: What ranking routes are made of.
        health: Knows of a drain.
        exchange: For requests that are traced, or plain no more.
    """

    def __init__(self, parts: RankingParts, health: Health, exchange: ExchangeOf) -> None:
        self.ranker, self.telemetry, self.health = parts.ranker, parts.telemetry, health
        self.exchange, self.now = exchange, parts.clock.now
        self._counts: dict[tuple[str, str], PlainCounts] = {}

    def start(self, body: bytes, head: Head, connection: Connection, busy: Busy | None) -> bool:
        """Begin to answer a request, if it is plain.

        Returns:
            False: nothing was done, and the request is for the rest of the express lane. So is
            one that is wrong, which is told there what is wrong with it.
        """
        ranker = self.ranker.plain
        if not ranker.is_open:
            return False
        arrived = self.now()
        try:
            asked = _decode(body)
            decoded = self.now()
            plain = ranker.look(asked)
        except Exception:
            return False
        if plain is None:
            return False
        call = PlainCall(self, connection, busy, head, asked, plain, arrived)
        if head.traced or not self.telemetry.leaves_out_next("POST"):
            call.trace(decoded)
        batcher = plain.deployment.batcher
        assert batcher is not None, "who can submit has one"
        try:
            call.pending = batcher.submit(
                plain.rows,
                deadline=arrived + asked.timeout_ms / 1000,
                then=call.ended,
                priority=asked.priority,
                deployment=plain.deployment.name,
                context=call.sampled,
            )
        except Exception as error:
            call.refuse(error)
            return True
        if call.traced is None:
            call.counts.began()
        if busy is not None:
            busy.began()
        connection.begin(call)
        return True

    def counts(self, scheme: str, surface: str | None) -> PlainCounts:
        """What counts the requests of a surface."""
        metrics = self.telemetry.metrics
        label = names.NONE if surface is None else metrics.surface(surface)
        known = self._counts.get((scheme, label))
        if known is None:
            known = self._counts[scheme, label] = metrics.plain(scheme, ROUTE, label)
        return known


class PlainCall:
    """A plain request, from its body to its reply; the connection's call and the batcher's job."""

    __slots__ = (
        "_arrived",
        "_asked",
        "_busy",
        "_connection",
        "_head",
        "_lane",
        "_plain",
        "_scheme",
        "counts",
        "keep_alive",
        "pending",
        "sampled",
        "traced",
    )

    def __init__(
        self,
        lane: PlainLane,
        connection: Connection,
        busy: Busy | None,
        head: Head,
        asked: RankRequest,
        plain: Plain,
        arrived: float,
    ) -> None:
        self._lane, self._connection, self._busy, self._head = lane, connection, busy, head
        self._asked, self._plain, self._arrived = asked, plain, arrived
        self._scheme = connection.scheme or "http"
        self.counts = lane.counts(self._scheme, plain.surface)
        self.keep_alive = head.keep_alive
        self.pending: Pending | None = None
        self.traced: Traced | None = None
        self.sampled: RequestTrace | None = None

    def trace(self, decoded: float) -> None:
        """It belongs to a trace: begin what counts it, and tell of what was done until now."""
        lane, connection = self._lane, self._connection
        exchange = lane.exchange(self._head, self._scheme, connection.server)
        exchange.began(self._arrived)
        exchange.resume()
        self.sampled = lane.telemetry.sampled_request()
        self.traced = Traced(exchange, self._new_ranking())
        exchange.pause()
        exchange.stepped(names.SPAN_DECODE, self._arrived, decoded)
        exchange.stepped(names.SPAN_ROUTE, decoded, lane.now())

    # --- the connection's side ---------------------------------------------------------

    def take(self, data: bytes) -> bytes:
        """All of the body is there: what comes is the next request."""
        return data

    def hang_up(self) -> None:
        """Nobody waits for the reply any more."""
        self._give_up()

    def cancel(self, msg: str | None = None) -> None:
        """The drain limit has come. Acted on a turn later, as by the tasks beside it."""
        self._connection.loop.call_soon(self._give_up)

    # --- how it ends -------------------------------------------------------------------

    def ended(self, end: ScoredRows | Exception) -> None:
        """The batcher tells how it went."""
        self.pending = None  # which knows us: a ring would be left to the garbage collector
        if type(end) is not ScoredRows or end.fallback:
            self._go_on(end)
            return
        lane = self._lane
        taken_s = lane.now() - self._arrived
        try:
            reply = lane.ranker.plain.reply(self._asked, self._plain, end, taken_s)
            body = _encode(reply)
        except Exception as error:
            self._go_on(error)
            return
        if self._busy is not None:
            self._busy.ended()
        fields, traced = SLATE_FIELDS % len(body), self.traced
        if traced is None:
            self._connection.finish(self, _OK, fields, body)
            self.counts.ended(reply.model.engine, taken_s, lane.now() - self._arrived)
            return
        traced.ranking.answered(reply, len(self._asked.candidates))
        traced.ranking.end()
        self._tell(traced.exchange, Reply(_OK, fields, body))

    def refuse(self, error: Exception) -> None:
        """It was not admitted."""
        self._connection.begin(self)
        exchange = self._exchange()
        exchange.resume()
        self._ranking().end(error)
        reply = refusal(error, self._asked)
        exchange.pause()
        self._tell(exchange, reply)

    def _go_on(self, end: ScoredRows | Exception) -> None:
        """It ended as no plain request does."""
        exchange = self._leave()
        exchange.resume()
        try:
            ranked = self._lane.ranker.ended(
                self._asked,
                self._plain.routed,
                self._plain.deployment,
                self._ranking(),
                self._arrived,
                end,
            )
            reply = refusal(ranked, self._asked) if isinstance(ranked, Exception) else slate(ranked)
        except Exception as error:
            reply = refusal(error, self._asked)
        finally:
            exchange.pause()
        self._tell(exchange, reply)

    def _give_up(self) -> None:
        """The caller is gone, or the drain limit has come."""
        pending, self.pending = self.pending, None
        if pending is None:
            return  # answered meanwhile
        pending.cancel()
        exchange = self._leave()
        exchange.resume()
        self._ranking().end(asyncio.CancelledError())
        reply = refusal(shutting_down(), self._asked) if self._lane.health.is_draining else None
        exchange.pause()
        if reply is not None:
            self._tell(exchange, reply)
            return
        self._connection.forget(self)
        exchange.end()

    def _leave(self) -> Exchange:
        """From here on it is a request like any other."""
        exchange = self._exchange()
        if self.traced is None:
            self.counts.left()
        if self._busy is not None:
            self._busy.ended()
        return exchange

    def _exchange(self) -> Exchange:
        if self.traced is not None:
            return self.traced.exchange
        exchange = self._lane.exchange(self._head, self._scheme, left_out=True)
        exchange.began(self._arrived)
        return exchange

    def _ranking(self) -> Ranking:
        return self._new_ranking() if self.traced is None else self.traced.ranking

    def _new_ranking(self) -> Ranking:
        ranking = self._lane.telemetry.ranking(self._arrived, self._asked.request_id)
        ranking.routed(self._plain.surface, (), ())
        return ranking

    def _tell(self, exchange: Exchange, reply: Reply) -> None:
        self._connection.finish(self, reply.status, reply.headers, reply.body)
        exchange.status = reply.status
        exchange.end()
