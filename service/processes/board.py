"""What every worker says of itself all the time: a few numbers in shared memory.

Read without locks and without asking: whoever hands a connection or a request
to another worker must know how busy that one is now. Each number has one
writer and is one aligned 8-byte word, so a reader sees the old or the new one.
"""

import mmap
import os
import tempfile
import time
from typing import Final

_WORDS: Final = 8
"""Of a worker; one line of the processor's cache, so that writers do not slow each other down."""
_BYTES: Final = 8 * _WORDS

_STATE, _BEAT, _SEEN, _OPEN, _UNDER_WAY = range(5)
_STORES_DOWN: Final = 0
_STARTING, _SERVING = 0, 1


class Slot:
    """The numbers of one worker. It writes its own and reads the others'."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    @property
    def is_serving(self) -> bool:
        """Whether it takes connections: it is up, and not about to end."""
        return self._words[_STATE] == _SERVING

    def serving(self, yes: bool) -> None:
        self._words[_STATE] = _SERVING if yes else _STARTING

    def beat(self) -> None:
        """Say that the event loop turns."""
        self._words[_BEAT] = time.monotonic_ns()

    @property
    def silent_s(self) -> float:
        """Seconds since the event loop last said that it turns."""
        return (time.monotonic_ns() - self._words[_BEAT]) / 1e9

    @property
    def seen(self) -> int:
        """Connections that it was given and has noticed, ever."""
        return self._words[_SEEN]

    @property
    def open(self) -> int:
        """Connections that it has."""
        return self._words[_OPEN]

    def connections(self, seen: int, now_open: int) -> None:
        self._words[_SEEN] = seen
        self._words[_OPEN] = now_open

    @property
    def under_way(self) -> int:
        """Rankings that it has not answered yet."""
        return self._words[_UNDER_WAY]

    @under_way.setter
    def under_way(self, rankings: int) -> None:
        self._words[_UNDER_WAY] = rankings

    def clear(self) -> None:
        """The worker is gone; the next one starts anew."""
        self._words[:] = memoryview(bytes(_BYTES)).cast("q")


class Board:
    """The shared memory of all workers; the parent makes it and hands them its descriptor."""

    def __init__(self, descriptor: int, workers: int) -> None:
        """Map what `create` made."""
        self.descriptor = descriptor
        self.workers = workers
        self._memory = mmap.mmap(descriptor, (workers + 1) * _BYTES)
        words = memoryview(self._memory).cast("q")
        self._common = words[:_WORDS]
        self.slots = tuple(
            Slot(words[_WORDS * n : _WORDS * (n + 1)]) for n in range(1, workers + 1)
        )

    @classmethod
    def create(cls, workers: int) -> "Board":
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("podium-workers")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, (workers + 1) * _BYTES)
        return cls(descriptor, workers)

    @property
    def serving(self) -> int:
        """Workers that take connections."""
        return sum(slot.is_serving for slot in self.slots)

    @property
    def stores_down(self) -> int:
        """Which embedded servers are being restarted, one bit each."""
        return self._common[_STORES_DOWN]

    @stores_down.setter
    def stores_down(self, bits: int) -> None:
        self._common[_STORES_DOWN] = bits
