"""Notices that the file of definitions was written, and reads it once it rests."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_Mark = tuple[int, int, int]


class FileWatch:
    """Looks at time, size and inode of one file.

    A file is read when two looks in a row see the same, so that one that is
    being written in place is not taken for a shorter one that is valid too.

    Args:
        file: What to look at; a link is followed, as mounted configuration needs.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = self._seen_at = self._mark()

    def changed(self, read: Callable[[], T]) -> T | None:
        """What `read` gives if the file is another than the one last read, and rests; else None.

        What `read` raises is raised once for each version of the file.
        """
        mark, before = self._mark(), self._seen_at
        self._seen_at = mark
        if mark == self._read_at or mark != before:
            return None
        self._read_at = mark
        found = read()
        if self._mark() != mark:
            self._read_at = None  # written meanwhile: what was read may be half of it
            return None
        return found

    def _mark(self) -> _Mark | None:
        """None where there is no such file."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
