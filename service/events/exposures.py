"""Exposures on their way out: never in the way of a ranking, hardly ever lost.

An exposure is recorded after its reply. It waits in memory for at most a
moment, then goes to the event log with its neighbours. What a crash of this
process can take is that moment; a shutdown takes nothing.
"""

import asyncio
import contextlib
from collections import deque
from typing import Protocol

import msgspec
from msgspec import Struct

from experiments.events import Exposure
from service.errors import EventsUnavailable
from service.events.batches import ExposureBatch, new_batch_id
from service.events.event_log import EventLog

FLUSH_S = 0.05
"""The moment: short against the time a user needs to click, long against an append."""
MAX_BATCH = 500
MAX_QUEUED = 20_000
"""About 10 MB, or several seconds at the highest rate that one process can rank."""


class ExposureSink(Protocol):
    """Where exposures go."""

    def record(self, exposure: Exposure) -> None:
        """Take an exposure; never blocks and never raises."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Keep what was recorded, then end; nothing is recorded after this."""
        ...


class ExposureCounts(Struct):
    """What this process did since the start."""

    recorded: int = 0
    kept: int = 0
    """On the event server or in the spool."""
    dropped: int = 0
    """Neither could keep them, or too many waited."""


class StreamExposureSink:
    """Writes exposures to the event log in batches, one after the other. For one event loop."""

    def __init__(
        self, log: EventLog, *, flush_s: float = FLUSH_S, max_queued: int = MAX_QUEUED
    ) -> None:
        self.counts = ExposureCounts()
        self._log = log
        self._flush_s = flush_s
        self._max_queued = max_queued
        self._queue: deque[Exposure] = deque()
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def record(self, exposure: Exposure) -> None:
        self.counts.recorded += 1
        if self._stopping.is_set() or len(self._queue) >= self._max_queued:
            self._drop(1)
            return
        self._queue.append(exposure)
        self._arrived.set()

    async def start(self) -> None:
        self._writer = asyncio.create_task(self._write_until_stopped(), name="exposures")

    async def stop(self) -> None:
        # Asked and not cancelled: a batch in flight is in nobody's queue any more.
        self._stopping.set()
        self._arrived.set()
        if self._writer is not None:
            await self._writer

    async def _write_until_stopped(self) -> None:
        while not self._stopping.is_set():
            await self._arrived.wait()
            with contextlib.suppress(TimeoutError):  # for company
                await asyncio.wait_for(self._stopping.wait(), self._flush_s)
            self._arrived.clear()
            await self._write_all()
        await self._write_all()

    async def _write_all(self) -> None:
        while self._queue:
            await self._write()

    async def _write(self) -> None:
        n = min(len(self._queue), MAX_BATCH)
        exposures = tuple(msgspec.msgpack.encode(self._queue.popleft()) for _ in range(n))
        try:
            await self._log.keep_exposures(ExposureBatch(new_batch_id(), exposures))
        except EventsUnavailable:
            self._drop(n)
        else:
            self.counts.kept += n

    def _drop(self, n: int) -> None:
        self.counts.dropped += n
        self._log.count("exposures_dropped", n)
