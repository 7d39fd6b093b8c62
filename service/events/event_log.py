"""Keeps events: on the event server, else in the spool, else not at all and says so.

While the server is away the spool takes everything, at the speed of the disk;
nobody waits for the server again until a look at it, once a second, succeeds.
Then the spool is replayed through the same scripts, which know what they have.
"""

import asyncio
import contextlib
import logging
from collections import Counter

import msgspec
from msgspec import Struct

from service.breaker import Breaker
from service.clock import Clock
from service.errors import EventsUnavailable
from service.events.batches import (
    Batch,
    FeedbackBatch,
    ObservationBatch,
    decode_batch,
    encode_batch,
    size_of,
)
from service.events.spool import Spool, SpoolFailed
from service.events.stream import EventServerFailed, EventStream, Fate

PROBE_S = 1.0
"""Between looks at a server that is away, give or take a quarter."""
TEND_S = 0.25
"""How often counts are told and the spool is looked at."""

_log = logging.getLogger(__name__)


class LogCounts(Struct):
    """What this process did since the start, in events."""

    appended: int = 0
    """Taken by the server at once."""
    spooled: int = 0
    """Kept on disk instead."""
    replayed: int = 0
    """Taken by the server from the disk, also what an earlier process had left there."""
    refused: int = 0
    """Kept by neither."""


class EventLog:
    """The one way to the stream. For one event loop; `start` before, `stop` after use."""

    def __init__(
        self,
        stream: EventStream,
        spool: Spool,
        clock: Clock,
        *,
        probe_s: float = PROBE_S,
        tend_s: float = TEND_S,
    ) -> None:
        self.counts = LogCounts()
        # One failure opens it: the disk is as good, and a second caller need not wait as well.
        self.breaker = Breaker(failures=1, probe_s=probe_s)
        self.spool = spool
        self._stream = stream
        self._clock = clock
        self._probe_s = probe_s
        self._tend_s = tend_s
        self._look_at = clock.now()
        self._uncounted: Counter[str] = Counter()
        self._confirmed: tuple[str, ...] = ()
        self._stopping = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None

    @property
    def waiting_events(self) -> int:
        """Events of this process that wait on disk for the server."""
        return self.spool.waiting_events

    async def start(self) -> None:
        """Begin to replay what an earlier process left, now and whenever the server is back."""
        problem = await self.spool.problem()
        if problem is not None:
            _log.warning("without the event server, events will be refused: %s", problem)
        self._tending = asyncio.create_task(self._tend_until_stopped(), name="event-log")

    async def stop(self) -> None:
        """Let go of the spool; what is in it is replayed by the next process."""
        # Asked and not cancelled: on Python 3.11 `asyncio.wait_for`, and so
        # redis-py, loses a cancellation that comes together with the answer.
        self._stopping.set()
        if self._tending is not None:
            await self._tending
        if not self.breaker.is_open:
            with contextlib.suppress(EventServerFailed):
                await self._tell_counts()
        await self.spool.close()

    def count(self, name: str, n: int = 1) -> None:
        """Count what leaves nothing in the stream; the server is told a moment later.

        After a call without an answer it is told again: rather counted twice
        than not at all. Events themselves are never counted here.
        """
        self._uncounted[name] += n

    async def keep_feedback(self, batch: FeedbackBatch) -> list[Fate]:
        """Keep events durably; one fate per event.

        All events are new to the spool: which are not is found out at replay.

        Raises:
            EventsUnavailable: they may be lost; the sender should send them again.
        """
        if not self.breaker.is_open:
            started = self._clock.now()
            try:
                fates = await self._stream.keep_feedback(batch, duplicates="duplicate")
            except EventServerFailed as failure:
                self._server_failed(failure, started)
            else:
                self.counts.appended += len(fates)
                return fates
        await self._to_spool(batch)
        return [Fate.NEW] * len(batch.entries)

    async def keep_observations(self, batch: ObservationBatch) -> None:
        """Keep observations durably.

        Raises:
            EventsUnavailable: they may be lost.
        """
        if not self.breaker.is_open:
            started = self._clock.now()
            try:
                await self._stream.keep_observations(batch, confirmed=self._confirmed)
            except EventServerFailed as failure:
                self._server_failed(failure, started)
            else:
                self.counts.appended += size_of(batch)
                # Its answer is here, so it is not sent again: the next batch
                # takes its marker away, and the server remembers only the rest.
                self._confirmed = (batch.batch_id,)
                return
        await self._to_spool(batch)

    async def _to_spool(self, batch: Batch) -> None:
        try:
            await self.spool.append(encode_batch(batch), events=size_of(batch))
        except SpoolFailed as failure:
            self.counts.refused += size_of(batch)
            raise EventsUnavailable(
                "the event server does not answer and the disk cannot keep them; send them again"
            ) from failure
        self.counts.spooled += size_of(batch)

    def _server_failed(self, failure: EventServerFailed, started: float) -> None:
        if self.breaker.failed(started=started, now=self._clock.now()):
            _log.warning("the event server failed, events go to the spool: %s", failure)

    async def _tend_until_stopped(self) -> None:
        while not self._stopping.is_set():
            started = self._clock.now()
            if self.breaker.admits(started):
                try:
                    await self._tend()
                except EventServerFailed as failure:
                    self._server_failed(failure, started)
                except OSError as failure:
                    _log.error("the event spool cannot be replayed: %s", failure)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._tend_s)

    async def _tend(self) -> None:
        if self.breaker.is_open:
            await self._tell_counts()
            # Before the replay, so that new events no longer queue up behind the old.
            self.breaker.succeeded()
            _log.info("the event server is back")
        elif self._uncounted:
            await self._tell_counts()
        elif self._clock.now() >= self._look_at:
            # Nobody may have asked for a while: health should know all the same.
            await self._stream.ping()
        self._look_at = self._clock.now() + self._probe_s
        await self._replay()

    async def _tell_counts(self) -> None:
        told = self._uncounted
        self._uncounted = Counter()
        try:
            await self._stream.count(told)
        except BaseException:
            self._uncounted += told
            raise

    async def _replay(self) -> None:
        while not self._stopping.is_set():
            segment = await self.spool.take()
            if segment is None:
                return
            try:
                records, damaged = await self.spool.read(segment)
                batches = [batch for record in records if (batch := _readable(record)) is not None]
                for batch in batches:
                    await self._append_again(batch)
            except BaseException:
                segment.release()
                raise
            await self.spool.finish(segment, damaged=damaged or len(batches) < len(records))
            self.counts.replayed += sum(map(size_of, batches))

    async def _append_again(self, batch: Batch) -> None:
        if isinstance(batch, FeedbackBatch):
            # Apart from `duplicate`, which says how often senders repeat themselves.
            await self._stream.keep_feedback(batch, duplicates="replayed_duplicate")
        else:
            await self._stream.keep_observations(batch)


def _readable(record: bytes) -> Batch | None:
    try:
        return decode_batch(record)
    except msgspec.MsgspecError:
        return None
