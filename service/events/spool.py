"""A durable queue on disk for what the event server cannot take now.

`append` returns after an fsync that covers the record; all appends that wait
while one fsync runs share the next (group commit). The disk belongs to one
thread, so that a slow one holds up nobody but those who wait for it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from service.clock import Clock
from service.events.segments import (
    SEGMENT_BYTES,
    LockedSegment,
    SegmentWriter,
    frame,
    lock_oldest,
    make_writable,
    used_bytes,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class SpoolFailed(Exception):
    """The record is not on the disk: the spool is full, or the disk refused it."""


class SpoolCounts(Struct):
    """What the spool of this process did since the start."""

    appended: int = 0
    """Records."""
    failed: int = 0
    """Records that could not be kept."""
    replayed: int = 0
    """Records given back, also those of a process that died."""
    damaged_segments: int = 0
    waiting_bytes: int = 0
    """On the disk, of all processes that share the directory, when last looked."""


class Spool:
    """The spool of one process. Its methods belong to one event loop."""

    def __init__(
        self, directory: Path, max_bytes: int, clock: Clock, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.counts = SpoolCounts()
        self._directory = directory
        self._writer = SegmentWriter(directory, max_bytes, clock, segment_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._is_failing = False

    async def problem(self) -> str | None:
        """Why nothing could be spooled now; None if something could."""
        try:
            await self._on_thread(lambda: make_writable(self._directory))
        except OSError as error:
            return f"{self._directory} cannot be written: {error.strerror}"
        return None

    async def append(self, record: bytes) -> None:
        """Keep a record: it is on the disk when this returns.

        Raises:
            SpoolFailed: it is not, or perhaps not.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((frame(record), done))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit())
        await done

    async def take(self) -> LockedSegment | None:
        """The oldest segment to replay: ours, or one of a process that died."""
        return await self._on_thread(self._seal_and_lock)

    async def read(self, segment: LockedSegment) -> tuple[list[bytes], bool]:
        """Records in order, and whether the segment is damaged."""
        return await self._on_thread(segment.read)

    async def finish(self, segment: LockedSegment, *, records: int, damaged: bool) -> None:
        """All its records are safe elsewhere: remove it, or set it aside if it is damaged."""
        await self._on_thread(segment.set_aside if damaged else segment.remove)
        self.counts.replayed += records
        if damaged:
            self.counts.damaged_segments += 1
            _log.error("a segment of the event spool is damaged: *.damaged in %s", self._directory)
        self.counts.waiting_bytes = await self._on_thread(lambda: used_bytes(self._directory))

    async def close(self) -> None:
        """Wait for the appends under way, then let go of the directory."""
        if self._committer is not None:
            await self._committer
        await self._on_thread(self._writer.seal)
        self._thread.shutdown()

    async def _commit(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            failure = await self._write(b"".join(data for data, _ in group))
            self._settle([done for _, done in group], failure)
        self._committer = None

    async def _write(self, frames: bytes) -> SpoolFailed | None:
        try:
            self.counts.waiting_bytes = await self._on_thread(lambda: self._writer.append(frames))
        except OSError as error:
            return SpoolFailed(f"events cannot be spooled to {self._directory}: {error}")
        return None

    def _settle(self, waiters: list[asyncio.Future[None]], failure: SpoolFailed | None) -> None:
        if failure is not None:
            self.counts.failed += len(waiters)
            if not self._is_failing:  # once, not for every event of an outage
                _log.error("%s", failure)
        else:
            self.counts.appended += len(waiters)
        self._is_failing = failure is not None
        for done in waiters:
            if done.cancelled():  # the caller went away; its record is kept all the same
                continue
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(None)

    def _seal_and_lock(self) -> LockedSegment | None:
        self._writer.seal()
        return lock_oldest(self._directory)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
