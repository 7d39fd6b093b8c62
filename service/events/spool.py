"""A durable queue on disk for what the event server cannot take now.

`append` returns after an fsync that covers the record; all appends that wait
while one fsync runs share the next (group commit). The disk belongs to one
thread, so that a slow one holds up nobody but those who wait for it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from msgspec import Struct

from service.clock import Clock
from service.events.segments import (
    SEGMENT_BYTES,
    LockedSegment,
    SegmentWriter,
    frame,
    lock_first,
    make_writable,
    segment_sizes,
    set_aside_in,
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
    damaged_segments: int = 0
    waiting_bytes: int = 0
    """On the disk, of all processes that share the directory, when last looked."""


class _Append(NamedTuple):
    frame: bytes
    events: int
    done: asyncio.Future[None]


class Spool:
    """The spool of one process. Its methods belong to one event loop."""

    def __init__(
        self, directory: Path, max_bytes: int, clock: Clock, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.counts = SpoolCounts()
        self.damaged: tuple[str, ...] = ()
        """Files set aside because a part could not be read, when last looked."""
        self._directory, self._max_bytes = directory, max_bytes
        self._writer = SegmentWriter(directory, max_bytes, clock, segment_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._appends: list[_Append] = []
        self._waiting_in: Counter[Path] = Counter()
        self._committer: asyncio.Task[None] | None = None
        self._is_failing = False

    @property
    def max_bytes(self) -> int:
        """Of the spool, for all processes that share the directory."""
        return self._max_bytes

    async def problem(self) -> str | None:
        """Why nothing could be spooled now; None if something could."""
        try:
            await self._on_thread(lambda: make_writable(self._directory))
        except OSError as error:
            return f"{self._directory} cannot be written: {error.strerror}"
        return None

    @property
    def is_failing(self) -> bool:
        """Whether the last append was lost."""
        return self._is_failing

    @property
    def waiting_events(self) -> int:
        """Events that this process appended and nobody has replayed yet, when last looked."""
        return self._waiting_in.total()

    async def append(self, record: bytes, *, events: int = 1) -> None:
        """Keep a record: it is on the disk when this returns.

        Args:
            record: Any bytes but none.
            events: How many events it stands for.

        Raises:
            SpoolFailed: it is not, or perhaps not.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._appends.append(_Append(frame(record), events, done))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit())
        await done

    async def take(self) -> LockedSegment | None:
        """The oldest segment to replay: ours, or one of a process that died."""
        segment, sizes, self.damaged = await self._on_thread(self._seal_and_lock)
        self.counts.waiting_bytes = sum(sizes.values())
        # Another process may have replayed what we had sealed.
        self._waiting_in = Counter({p: n for p, n in self._waiting_in.items() if p in sizes})
        return segment

    async def read(self, segment: LockedSegment) -> tuple[list[bytes], bool]:
        """Records in order, and whether the segment is damaged."""
        return await self._on_thread(segment.read)

    async def finish(self, segment: LockedSegment, *, damaged: bool) -> None:
        """All its records are safe elsewhere: remove it, or set it aside if it is damaged."""
        await self._on_thread(segment.set_aside if damaged else segment.remove)
        del self._waiting_in[segment.path]
        if damaged:
            self.counts.damaged_segments += 1
            _log.error("a segment of the event spool is damaged: *.damaged in %s", self._directory)

    async def close(self) -> None:
        """Wait for the appends under way, then let go of the directory."""
        if self._committer is not None:
            await self._committer
        await self._on_thread(self._writer.seal)
        self._thread.shutdown()

    async def _commit(self) -> None:
        while self._appends:
            group, self._appends = self._appends, []
            failure = await self._write(group)
            self._settle(group, failure)
        self._committer = None

    async def _write(self, group: list[_Append]) -> SpoolFailed | None:
        frames = b"".join(append.frame for append in group)
        try:
            path = await self._on_thread(lambda: self._writer.append(frames))
        except OSError as error:
            return SpoolFailed(f"events cannot be spooled to {self._directory}: {error}")
        self._waiting_in[path] += sum(append.events for append in group)
        self.counts.waiting_bytes += len(frames)
        return None

    def _settle(self, group: list[_Append], failure: SpoolFailed | None) -> None:
        if failure is not None:
            self.counts.failed += len(group)
            if not self._is_failing:  # once, not for every event of an outage
                _log.error("%s", failure)
        else:
            self.counts.appended += len(group)
        self._is_failing = failure is not None
        for done in (append.done for append in group):
            if done.cancelled():  # the caller went away; its record is kept all the same
                continue
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(None)

    def _seal_and_lock(self) -> tuple[LockedSegment | None, dict[Path, int], tuple[str, ...]]:
        self._writer.seal()
        sizes = segment_sizes(self._directory)
        return lock_first(sizes), sizes, set_aside_in(self._directory)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
