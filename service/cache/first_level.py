"""The level of the cache that is in this process: bounded in bytes, and choosy.

What is asked for once must not push out what is asked for all the time. So a
new entry starts in a small window, and goes on to the main part only if it was
asked for more often than the entry that would have to go.

Source:
    Einziger, Friedman, Manes (2017), "TinyLFU: A highly efficient cache admission
    policy", ACM Transactions on Storage 13(4): W-TinyLFU, with its shares of 1 % for
    the window and 80 % of the rest for what was asked for again.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from service.cache.sketch import FrequencySketch

Value = TypeVar("Value")

TYPICAL_BYTES: Final = 1024
"""Of an entry; only the size of the sketch follows from it."""
_WINDOW: Final = 0.01
_PROTECTED: Final = 0.8

_Segment = OrderedDict[str, tuple[Value, int, float]]


class FirstLevel(Generic[Value]):
    """Values under keys, for a moment. Not for several threads.

    Args:
        max_bytes: Of all entries together, as their sizes are told; 0 keeps nothing.
        ttl_s: How long `get` gives a value out; 0 never does.
        now: A clock that never jumps.
        typical_bytes: About what an entry takes.
    """

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        now: Callable[[], float],
        *,
        typical_bytes: int = TYPICAL_BYTES,
    ) -> None:
        self._max = max_bytes if ttl_s > 0 else 0
        self._ttl_s, self._now = ttl_s, now
        self._window_max = max(int(self._max * _WINDOW), min(typical_bytes, self._max))
        self._main_max = self._max - self._window_max
        self._protected_max = int(self._main_max * _PROTECTED)
        self._asked = FrequencySketch(max(1, self._max // typical_bytes))
        # Value, size, and when it was put; the one that was used last is last.
        self._window: _Segment[Value] = OrderedDict()
        self._probation: _Segment[Value] = OrderedDict()
        self._protected: _Segment[Value] = OrderedDict()
        self._window_bytes = self._probation_bytes = self._protected_bytes = 0

    def __len__(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    @property
    def bytes(self) -> int:
        """What all entries take, as their sizes were told."""
        return self._window_bytes + self._probation_bytes + self._protected_bytes

    def get(self, key: str) -> Value | None:
        """The value, if it was put less than `ttl_s` ago."""
        self._asked.add(key)
        kept = self._protected.get(key)
        if kept is not None:
            self._protected.move_to_end(key)
        else:
            kept = self._window.get(key)
            if kept is not None:
                self._window.move_to_end(key)
            else:
                kept = self._probation.get(key)
                if kept is None:
                    return None
                self._protect(key, kept)
        value, _, put_at = kept
        return value if self._now() - put_at < self._ttl_s else None

    def left(self, key: str, *, within_s: float = math.inf) -> Value | None:
        """The value if it is still there, however old, or put within a time; a look that does not
        count."""
        for segment in (self._protected, self._window, self._probation):
            kept = segment.get(key)
            if kept is not None:
                return kept[0] if self._now() - kept[2] < within_s else None
        return None

    def times_asked(self, key: str) -> int:
        """How often `get` was asked for the key lately, about; never too few up to 15."""
        return self._asked.estimate(key)

    def put(self, key: str, value: Value, size: int) -> None:
        """Keep a value, unless others are worth more.

        Args:
            key: Its own.
            value: In place of the one before it.
            size: What it takes, in bytes.
        """
        self.drop(key)
        if size > self._max:
            return
        self._window[key] = (value, size, self._now())
        self._window_bytes += size
        while self._window_bytes > self._window_max:
            oldest, kept = self._window.popitem(last=False)
            self._window_bytes -= kept[1]
            self._admit(oldest, kept)

    def drop(self, key: str) -> None:
        """Forget a value, if it is there."""
        if (kept := self._window.pop(key, None)) is not None:
            self._window_bytes -= kept[1]
        elif (kept := self._probation.pop(key, None)) is not None:
            self._probation_bytes -= kept[1]
        elif (kept := self._protected.pop(key, None)) is not None:
            self._protected_bytes -= kept[1]

    def clear(self) -> None:
        """Forget all values; how often they were asked for stays known."""
        for segment in (self._window, self._probation, self._protected):
            segment.clear()
        self._window_bytes = self._probation_bytes = self._protected_bytes = 0

    def _admit(self, key: str, kept: tuple[Value, int, float]) -> None:
        """From the window to the main part, in place of those that are asked for less."""
        size = kept[1]
        if size > self._main_max:
            return
        asked = self._asked.estimate(key)
        while self._probation_bytes + self._protected_bytes + size > self._main_max:
            segment = self._probation or self._protected
            victim = next(iter(segment))
            if asked <= self._asked.estimate(victim):
                return
            self.drop(victim)
        self._probation[key] = kept
        self._probation_bytes += size

    def _protect(self, key: str, kept: tuple[Value, int, float]) -> None:
        """It was asked for again: the last to go."""
        del self._probation[key]
        self._probation_bytes -= kept[1]
        self._protected[key] = kept
        self._protected_bytes += kept[1]
        while self._protected_bytes > self._protected_max:
            oldest, other = self._protected.popitem(last=False)
            self._protected_bytes -= other[1]
            self._probation[oldest] = other
            self._probation_bytes += other[1]
