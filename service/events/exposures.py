"""What the service observes, on its way out: never in the way of a ranking, hardly ever lost.

An exposure is recorded when its reply has left, a lapse when it is certain that
there is none. They wait in memory for at most a moment, then go to the event log
with their neighbours. What a crash of this process can take is that moment; a
shutdown takes nothing.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec
from msgspec import Struct

from experiments.comparison import Comparison
from experiments.events import Exposure, Lapse
from service.errors import EventsUnavailable
from service.events.batches import ObservationBatch, new_batch_id
from service.events.event_log import EventLog

FLUSH_S = 0.05
"""The moment: short against the time a user needs to click, long against an append."""
MAX_BATCH = 500
MAX_QUEUED = 20_000
"""About 10 MB, or several seconds at the highest rate that one process can rank."""


Observation = Exposure | Lapse | Comparison


class ExposureSink(Protocol):
    """Where exposures, lapses and comparisons go."""

    def record(self, observation: Observation) -> None:
        """Take an observation; never blocks and never raises."""
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
    """Writes observations to the event log in batches, one after the other. For one event loop."""

    def __init__(
        self, log: EventLog, *, flush_s: float = FLUSH_S, max_queued: int = MAX_QUEUED
    ) -> None:
        self.counts = ExposureCounts()
        self._log = log
        self._flush_s = flush_s
        self._max_queued = max_queued
        self._queue: deque[Observation] = deque()
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def record(self, observation: Observation) -> None:
        self.counts.recorded += 1
        if self._stopping.is_set() or len(self._queue) >= self._max_queued:
            self._drop(_batch([observation]))
            return
        self._queue.append(observation)
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
        batch = _batch(self._queue.popleft() for _ in range(n))
        try:
            await self._log.keep_observations(batch)
        except EventsUnavailable:
            self._drop(batch)
        else:
            self.counts.kept += n

    def _drop(self, batch: ObservationBatch) -> None:
        for counter, entries in batch.by_counter():
            if entries:
                self.counts.dropped += len(entries)
                self._log.count(f"{counter}_dropped", len(entries))


def _batch(observations: Iterable[Observation]) -> ObservationBatch:
    kinds: dict[type[Observation], list[bytes]] = {Exposure: [], Lapse: [], Comparison: []}
    for one in observations:
        kinds[type(one)].append(msgspec.msgpack.encode(one))
    return ObservationBatch(
        new_batch_id(), tuple(kinds[Exposure]), tuple(kinds[Lapse]), tuple(kinds[Comparison])
    )
