"""The files of the spool: append-only segments of framed records.

A segment is `MAGIC` and then frames: length (uint32), CRC-32 (uint32), record;
little-endian. Whoever writes or replays a segment holds its lock (flock), which
dies with the process. What a crash can leave is a torn last frame, of which
nobody was told that it is kept.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from service.clock import Clock
from service.events.signing import sync_directory

MAGIC = b"podium spool 1\n"
FRAME = struct.Struct("<II")
SUFFIX = ".spool"
SET_ASIDE = ".damaged"
SEGMENT_BYTES = 8 << 20
"""Then the next segment begins: a replay reads one at a time, and frees the disk one by one."""


class SpoolFull(OSError):
    """As many bytes as allowed are waiting already."""


def frame(record: bytes) -> bytes:
    return FRAME.pack(len(record), zlib.crc32(record)) + record


def parse_segment(data: bytes) -> tuple[list[bytes], bool]:
    """The records in order, and whether more than a torn last frame is unreadable."""
    if not data.startswith(MAGIC):
        return [], not MAGIC.startswith(data)
    records: list[bytes] = []
    at = len(MAGIC)
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        end = at + FRAME.size + length
        if end > len(data):
            break
        record = data[at + FRAME.size : end]
        if length == 0 or zlib.crc32(record) != checksum:
            # After a power cut a file system may show zeros for a lost last write.
            return records, any(data[at:])
        records.append(record)
        at = end
    return records, False


def make_writable(directory: Path) -> None:
    """Make the directory, if need be.

    Raises:
        OSError: it cannot be made, or not be written to.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def segment_sizes(directory: Path) -> dict[Path, int]:
    """Bytes of each segment, oldest first, of all processes that share the directory."""
    sizes = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):  # replayed meanwhile
            sizes[path] = path.stat().st_size
    return sizes


def set_aside_in(directory: Path) -> tuple[str, ...]:
    """Names of the damaged segments that wait for a person, oldest first."""
    return tuple(sorted(path.name for path in directory.glob(f"*{SET_ASIDE}")))


def lock_first(paths: Iterable[Path]) -> "LockedSegment | None":
    """The first segment that nobody writes or replays, locked for the caller."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        # No link left: another process replayed it between our look and our lock.
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return LockedSegment(path, descriptor)
        os.close(descriptor)
    return None


class LockedSegment:
    """A segment for replay. Ends with one of `remove`, `set_aside`, `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> tuple[list[bytes], bool]:
        """As `parse_segment`."""
        return parse_segment(self.path.read_bytes())

    def remove(self) -> None:
        self.path.unlink()
        self.release()

    def set_aside(self) -> None:
        """Keep what cannot be read for a person, where no replay finds it."""
        self.path.rename(self.path.with_suffix(SET_ASIDE))
        self.release()

    def release(self) -> None:
        os.close(self._descriptor)


class SegmentWriter:
    """Appends to segments of its own, in one thread."""

    def __init__(
        self, directory: Path, max_bytes: int, clock: Clock, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._segment: tuple[Path, int] | None = None
        self._size = 0
        self._begun = 0

    def append(self, frames: bytes) -> Path:
        """Frames are on the disk, for good, when this returns; in which segment.

        Raises:
            OSError: they are not, or perhaps not; `SpoolFull` among others.
        """
        make_writable(self._directory)
        used = sum(segment_sizes(self._directory).values())
        if used + len(frames) > self._max_bytes:
            raise SpoolFull(f"{used} of {self._max_bytes} bytes are waiting in the spool")
        path, descriptor = self._segment or self._begin()
        try:
            _write(descriptor, frames)
        except OSError:
            self._abandon(descriptor)
            raise
        self._size += len(frames)
        if self._size >= self._segment_bytes:
            self.seal()
        return path

    def seal(self) -> None:
        """Write no more to the current segment: it may be replayed."""
        if self._segment is not None:
            os.close(self._segment[1])
            self._segment = None

    def _begin(self) -> tuple[Path, int]:
        path, descriptor = self._create()
        try:
            _write(descriptor, MAGIC)
            sync_directory(self._directory)
        except OSError:
            path.unlink()
            os.close(descriptor)
            raise
        self._segment, self._size = (path, descriptor), len(MAGIC)
        return self._segment

    def _create(self) -> tuple[Path, int]:
        """A new file that is ours alone: a replay may have locked it, or even removed it,
        between our making it and our lock."""
        while True:
            self._begun += 1  # in order even if the clock stands still
            name = f"{int(self._clock.wall() * 1e3):015d}-{self._begun:06d}-{secrets.token_hex(4)}"
            path = self._directory / f"{name}{SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _lock(descriptor) and os.fstat(descriptor).st_nlink:
                return path, descriptor
            os.close(descriptor)

    def _abandon(self, descriptor: int) -> None:
        # Nobody knows what of a failed write reached the disk, and after a failed
        # fsync the kernel may call lost pages clean. Cut it off, begin another file.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, self._size)
        self.seal()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)
