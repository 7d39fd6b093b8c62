"""Score rows in this process: a bounded table that a hundred rows are looked up in at once.

A request asks for a hundred rows. A dictionary of entries with a frequency
sketch costs a microsecond or two for each, as much as an engine takes to score
it; a table that numpy looks a hundred keys up in costs a few calls for all.

Each key belongs to one set of `WAYS` places. A new row takes a free place of its
set, else that of the row that was asked for least, and only if it was itself
asked for more often (admission as of TinyLFU: see `first_level`). Counts are
kept for every key that is asked, present or not, in a count-min sketch.
"""

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from service.cache.row_codec import UInt16
from service.cache.row_keys import UInt64

Positions = npt.NDArray[np.integer]
Places = npt.NDArray[np.intp]
Float64 = npt.NDArray[np.float64]

WAYS = 8
SPACES = 4096
"""Spaces whose rows can be found; the one that was asked for longest ago makes room."""
MOST_COUNTED = 15
"""Counts end here, as in TinyLFU: whoever is asked for that often is among the most popular."""
FORGETTING = 10
"""Counts are halved whenever so many times as many keys were counted as there are places."""
COUNTERS = 4
"""Per place in each line of the sketch. With fewer, all that is asked for once between two halvings
adds up to counts as large as those of what is popular."""
_BITS = 64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_DEPTHS = np.arange(4, dtype=np.uint64)[:, None]
_POSITION_BITS = np.uint64(32)
_NUMBER_BYTES = 8


class Kept(Struct, frozen=True):
    """What the table holds of some rows, one line per position asked."""

    found: npt.NDArray[np.bool_]
    steps: UInt16
    """``[positions, segments]``; where nothing was found, it says nothing."""
    created_s: Float64
    """Unix seconds."""
    soft_s: Float64
    """How long from then each row is as good as computed."""


class RowTable:
    """Rows of many spaces with one number of segments. Not for several threads.

    Args:
        segments: Scores of a row.
        max_bytes: Of all rows together. There is always room for a few.
    """

    def __init__(self, segments: int, max_bytes: int) -> None:
        row_bytes = 2 * segments + 3 * _NUMBER_BYTES + len(_DEPTHS) * COUNTERS
        sets = 1 << max(1, (max_bytes // (row_bytes * WAYS)).bit_length() - 1)
        self._places = sets * WAYS
        self._shift = np.uint64(_BITS - (sets.bit_length() - 1))
        # Zeroed pages take no memory until they are written.
        self._keys = np.zeros((sets, WAYS), np.uint64)
        self._steps = np.zeros((self._places, segments), np.uint16)
        self._created = np.zeros(self._places)
        self._soft = np.zeros(self._places)
        self._line = self._places * COUNTERS
        self._counts = np.zeros(len(_DEPTHS) * self._line, np.uint8)
        self._counted = 0
        self._spaces: dict[str, int] = {}
        self._next_space = 1
        self._rows = 0

    def __len__(self) -> int:
        """Places taken, by rows of spaces that are gone as well."""
        return self._rows

    @property
    def bytes(self) -> int:
        """What the table may come to take."""
        arrays = (self._keys, self._steps, self._created, self._soft, self._counts)
        return sum(array.nbytes for array in arrays)

    def find(self, space: str, positions: Positions) -> Kept:
        """Look rows up, and count that they were asked for.

        Args:
            space: Prefix of the keys.
            positions: Of the items, distinct and not negative.
        """
        keys = self._keys_of(space, positions)
        self._count(keys)
        places, found = self._places_of(keys)
        return Kept(
            found,
            self._steps.take(places, 0),
            self._created.take(places),
            self._soft.take(places),
        )

    def times_asked(self, space: str, positions: Positions) -> npt.NDArray[np.uint8]:
        """How often `find` was asked for each lately, about; never too few up to 15."""
        return self._estimates(_mixed(self._keys_of(space, positions)))

    def put(
        self,
        space: str,
        positions: Positions,
        steps: UInt16,
        created_s: Float64,
        soft_s: Float64,
    ) -> None:
        """Keep rows, unless others are worth more; in place of older ones of the same items."""
        keys = self._keys_of(space, positions)
        places, found = self._places_of(keys)
        if not found.all():
            victims, admitted = self._victims(keys)
            places = np.where(found, places, victims)
            admitted |= found
        else:
            admitted = found
        # Where a set has no place for all of its new rows, two of them were given the same.
        _, first = np.unique(places, return_index=True)
        chosen = first[admitted[first]]
        places, keys = places[chosen], keys[chosen]
        self._rows += int(np.count_nonzero(self._keys.reshape(-1)[places] == 0))
        self._keys.reshape(-1)[places] = keys
        self._steps[places] = steps[chosen]
        self._created[places], self._soft[places] = created_s[chosen], soft_s[chosen]

    def _keys_of(self, space: str, positions: Positions) -> UInt64:
        """Exact keys, never 0: a space has its number for good, so that none is mistaken."""
        number = self._spaces.pop(space, None)
        if number is None:
            if len(self._spaces) >= SPACES:
                del self._spaces[next(iter(self._spaces))]
            number, self._next_space = self._next_space, self._next_space + 1
        self._spaces[space] = number  # the one used last is last
        base = np.uint64(number << int(_POSITION_BITS))
        keys: UInt64 = positions.astype(np.uint64) + base
        return keys

    def _places_of(self, keys: UInt64) -> tuple[Places, npt.NDArray[np.bool_]]:
        sets = self._set_of(keys)
        same = self._keys.take(sets, 0) == keys[:, None]
        return sets * WAYS + same.argmax(1), same.any(1)

    def _set_of(self, keys: UInt64) -> Places:
        return (_mixed(keys) >> self._shift).astype(np.intp)

    def _victims(self, keys: UInt64) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Of each key's set a place that is free or asked for least; whether the key gets it.

        Several keys of one set are given different places, as long as it has so many.
        """
        sets = self._set_of(keys)
        there = self._keys.take(sets, 0)
        asked = self._estimates(_mixed(there.reshape(-1))).reshape(there.shape).astype(np.int16)
        asked[there == 0] = -1
        lines = np.arange(len(keys))
        way = asked.argsort(1)[lines, np.minimum(_earlier(sets), WAYS - 1)]
        least = asked[lines, way]
        return sets * WAYS + way, self._estimates(_mixed(keys)) > least

    def _count(self, keys: UInt64) -> None:
        at = self._counters(_mixed(keys))
        counts = self._counts.take(at)
        least = counts.min(0)
        # Only the smallest counters grow: the others count somebody else's questions as well.
        grown = np.where(counts == least, np.minimum(least + 1, MOST_COUNTED), counts)
        self._counts[at] = grown.astype(np.uint8)
        self._counted += len(keys)
        if self._counted >= FORGETTING * self._places:
            self._counts >>= 1
            self._counted //= 2

    def _estimates(self, mixed: UInt64) -> npt.NDArray[np.uint8]:
        least: npt.NDArray[np.uint8] = self._counts.take(self._counters(mixed)).min(0)
        return least

    def _counters(self, mixed: UInt64) -> Places:
        """Four counters of each key, one in each line of the sketch: ``[4, keys]``."""
        halves = (mixed >> _POSITION_BITS) + _DEPTHS * ((mixed & np.uint64(0xFFFFFFFF)) | _ONE)
        columns = halves % np.uint64(self._line)
        return (columns + _DEPTHS * np.uint64(self._line)).astype(np.intp)


_ONE = np.uint64(1)


def _earlier(values: Places) -> Places:
    """How many equal values each one comes after."""
    order = values.argsort(kind="stable")
    ordered, at = values[order], np.arange(len(values))
    begins = np.append(True, ordered[1:] != ordered[:-1])
    earlier = np.empty_like(at)
    earlier[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return earlier


def _mixed(keys: UInt64) -> UInt64:
    """Well spread bits of keys that differ in few."""
    mixed: UInt64 = (keys ^ (keys >> _POSITION_BITS)) * _GOLDEN
    return (mixed ^ (mixed >> np.uint64(29))) * _GOLDEN
