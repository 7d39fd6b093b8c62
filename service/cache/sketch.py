"""How often keys were asked for lately, in constant memory: never too few, sometimes too many.

Source:
    Cormode, Muthukrishnan (2005), "An improved data stream summary: the count-min
    sketch and its applications", J. Algorithms 55(1); with the conservative update
    of Estan, Varghese (2002). Halving as in Einziger, Friedman, Manes (2017),
    "TinyLFU: A highly efficient cache admission policy", ACM TOS 13(4).
"""

from typing import Final

MOST: Final = 15
"""Counters stop here: who is asked for more often is hot in any case."""
_ROWS: Final = 4
_COUNTERS_PER_ENTRY: Final = 4  # in each row, so that ten samples per entry seldom collide
_SAMPLES_PER_ENTRY: Final = 10
_HALVED: Final = bytes(count >> 1 for count in range(256))


class FrequencySketch:
    """Counts what is asked for, and halves all counts from time to time.

    A byte per counter where four bits would do: Python adds to a byte for half as much.

    Args:
        entries: How many keys its user keeps; 16 bytes are taken for each.
    """

    __slots__ = ("_counters", "_mask", "_samples", "_samples_left", "_width")

    def __init__(self, entries: int) -> None:
        self._width = 1 << max(4, (entries * _COUNTERS_PER_ENTRY - 1).bit_length())
        self._mask = self._width - 1
        self._counters = bytearray(_ROWS * self._width)
        self._samples = max(1, entries * _SAMPLES_PER_ENTRY)
        self._samples_left = self._samples

    def add(self, key: str) -> None:
        """The key was asked for once more."""
        # Spelled out: this runs for every request.
        counters, width, mask = self._counters, self._width, self._mask
        first = hash(key)
        step = (first >> 32) | 1
        a = first & mask
        b = ((first + step) & mask) + width
        c = ((first + 2 * step) & mask) + 2 * width
        d = ((first + 3 * step) & mask) + 3 * width
        at_a, at_b, at_c, at_d = counters[a], counters[b], counters[c], counters[d]
        least = min(at_a, at_b, at_c, at_d)
        if least < MOST:
            more = least + 1
            if at_a == least:
                counters[a] = more
            if at_b == least:
                counters[b] = more
            if at_c == least:
                counters[c] = more
            if at_d == least:
                counters[d] = more
        self._samples_left -= 1
        if not self._samples_left:
            self._samples_left = self._samples
            self._counters = counters.translate(_HALVED)

    def estimate(self, key: str) -> int:
        """How often the key was asked for lately: at least that, at most `MOST`."""
        counters, width, mask = self._counters, self._width, self._mask
        first = hash(key)
        step = (first >> 32) | 1
        return min(
            counters[first & mask],
            counters[((first + step) & mask) + width],
            counters[((first + 2 * step) & mask) + 2 * width],
            counters[((first + 3 * step) & mask) + 3 * width],
        )
