"""The express lane of several workers: what one cannot score next, an idle one ranks."""

import asyncio
from collections.abc import Callable
from typing import Final

from service.express.head import Head
from service.express.lane import Address, RankLane, Underway
from service.express.plain import Connection
from service.express.reply import Reply
from service.processes.handover import Handed, Handover, Returned
from service.ranker import Ranked
from service.telemetry import Exchange, Telemetry, on_behalf_of

_OF_ANOTHER_WORKER: Final = Head({}, body_at=0, body_bytes=0, keep_alive=True)
"""What a worker knows of the caller of a request that was handed to it: nothing. So only
requests are handed over for which that does not matter."""


class SharedLane:
    """A `RankLane` that hands requests to other workers, and answers theirs."""

    def __init__(
        self,
        lane: RankLane,
        handover: Handover,
        telemetry: Telemetry,
        waiting_rows: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            lane: This worker's own.
            handover: The way to the others.
            telemetry: Knows which requests are traced: those stay here, with all their steps.
            waiting_rows: How many rows wait for an engine of this worker.
        """
        self._lane, self._handover = lane, handover
        self._telemetry, self._waiting_rows = telemetry, waiting_rows
        handover.serve(self._serve)

    def takes(self, head: Head, peer: Address | None) -> bool:
        return self._lane.takes(head, peer)

    def exchange(self, head: Head, scheme: str, server: tuple[str, int | None] | None) -> Exchange:
        return self._lane.exchange(head, scheme, server)

    def plain(self, body: bytes, head: Head, connection: Connection) -> bool:
        if self._handover.has_taker(self._waiting_rows()):
            return False
        return self._lane.plain(body, head, connection, self._handover)

    def start(
        self,
        body: bytes,
        head: Head,
        peer: Address | None,
        exchange: Exchange,
        then: Callable[[Reply], None],
    ) -> Reply | Underway | None:
        # An empty queue is asked first: it is the usual case, and keeps everything here. Pages
        # stay: known to this process, they cost less than to hand them on.
        if head.page is None and self._handover.has_taker(self._waiting_rows()):
            return None
        here = _Here(self._handover, then)
        started = self._lane.start(body, head, peer, exchange, here.ended)
        if started is None or isinstance(started, Reply):
            return started
        return here.began(started)

    async def answer(
        self,
        body: "bytes | asyncio.Future[bytes]",
        head: Head,
        peer: Address | None,
        arrived: float,
    ) -> Reply:
        if head.page is None and isinstance(body, bytes) and self._may_leave(body):
            traceparent = head.fields.get(b"traceparent", b"")
            try:
                returned = await self._handover.elsewhere(
                    self._waiting_rows(), body, arrived, traceparent
                )
            except asyncio.CancelledError:
                cut_off = self._lane.cut_off(None)
                if cut_off is None:
                    raise
                return cut_off
            if returned is not None:
                return Reply(returned.status, returned.headers, returned.body)
        with self._handover.ranking():
            return await self._lane.answer(body, head, peer, arrived)

    async def record(self, ranked: Ranked, *, delivered: bool = True) -> None:
        await self._lane.record(ranked, delivered=delivered)

    def _may_leave(self, body: bytes) -> bool:
        # Who forces a variant must be allowed to, which is known here alone; behind a
        # backslash the word may be spelt otherwise.
        return (
            b"force" not in body and b"\\" not in body and self._telemetry.sampled_request() is None
        )

    async def _serve(self, handed: Handed, reply_with: Callable[[Returned], None]) -> None:
        """Rank for another worker: here, and never on to a third."""
        with on_behalf_of(handed.traceparent), self._handover.ranking():
            reply = await self._lane.answer(handed.body, _OF_ANOTHER_WORKER, None, handed.arrived)
            reply_with(Returned(handed.number, reply.status, reply.headers, reply.body))
            if reply.ranked is not None:
                await self._lane.record(reply.ranked)


class _Here:
    """A request that is answered by this worker: the others see that it is busy."""

    __slots__ = ("_handover", "_then", "_underway")

    def __init__(self, handover: Handover, then: Callable[[Reply], None]) -> None:
        self._handover, self._then = handover, then
        self._underway: Underway | None = None

    def began(self, underway: Underway) -> "_Here":
        self._underway = underway
        self._handover.began()
        return self

    def ended(self, reply: Reply) -> None:
        self._handover.ended()
        self._then(reply)

    def cancel(self) -> Reply | None:
        self._handover.ended()
        return None if self._underway is None else self._underway.cancel()
