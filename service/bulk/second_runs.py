"""Who takes which chunk, and which chunk is run a second time. Pure: the time is given.

Every process asks for work when it is free. While there are chunks that nobody has begun, it
gets one of those. Afterwards it would wait for the slowest process to end, so from then on it
is given a chunk that takes much longer than the others did: whichever of the two ends first
counts. Both put the same scores under the same keys, so nobody has to tell the slower one.
"""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from service.bulk.chunks import Chunk

SLOW_TIMES = 2.0
"""A chunk is slow that takes so many times as long as half of the finished ones."""
LEAST_SLOW_S = 5.0
"""And no less than that: what costs seconds at most is not worth a second run."""


class Wait(Struct, frozen=True):
    """All is under way, and none of it is slow: ask again."""


class Over(Struct, frozen=True):
    """All has ended."""


class SecondRuns:
    """Hands out chunks to tasks, each chunk to two of them at the most.

    A task that asks again is one whose process died: it gets what it had.
    """

    def __init__(self, cut: Sequence[Chunk]) -> None:
        self._waiting = list(reversed(cut))
        self._taken: dict[int, Chunk] = {}
        self._began_s: dict[Chunk, float] = {}
        """When the chunks that are under way began."""
        self._twice: set[Chunk] = set()
        self._took_s: list[float] = []

    def take(self, task: int, now: float) -> Chunk | Wait | Over:
        """What a task is to do at this time, in seconds."""
        if task in self._taken:
            return self._again(self._taken[task], now)
        if self._waiting:
            chunk = self._waiting.pop()
            self._began_s[chunk] = now
        elif not self._began_s:
            return Over()
        elif (slow := self._slow(now)) is not None:
            chunk = slow
            self._twice.add(chunk)
        else:
            return Wait()
        self._taken[task] = chunk
        return chunk

    def ended(self, chunk: Chunk, now: float) -> None:
        """A run of it has ended well; of the second to end nobody takes notice."""
        if (began_s := self._began_s.pop(chunk, None)) is not None:
            self._took_s.append(now - began_s)

    def is_over(self, chunk: Chunk) -> bool:
        """Whether one of its runs has ended well."""
        return chunk not in self._began_s and chunk not in self._waiting

    def _again(self, chunk: Chunk, now: float) -> Chunk:
        if chunk in self._began_s:
            self._began_s[chunk] = now
        return chunk

    def _slow(self, now: float) -> Chunk | None:
        """The slowest chunk that has only one run."""
        if not self._took_s:
            return None
        limit_s = max(LEAST_SLOW_S, SLOW_TIMES * median(self._took_s))
        slow = [
            (began_s, chunk.first, chunk)
            for chunk, began_s in self._began_s.items()
            if chunk not in self._twice and now - began_s > limit_s
        ]
        return min(slow)[2] if slow else None
