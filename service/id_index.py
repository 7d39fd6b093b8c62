"""Positions of ids in a table: what a request's hundred candidates are looked up in.

A dictionary of 100,000 ids takes four dependent misses of the core's cache for
each of them: a bucket, an entry, the text, the number. Here all ids of a
request are looked up at once in flat arrays, so that their misses overlap. An
id takes 48 to 96 bytes, in a dictionary about 140.

Ids are told apart by Python's 64-bit hash of a text, whose key changes with
every process, and not by the text again. Ids of the table whose hashes are equal
are told apart by their text. That an id which is not in the table is taken for
one that is has a chance of less than one in 10^14 for 100,000 ids.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Int32

NOWHERE: Final = -1
_WIDTH: Final = 8
"""Hashes per bucket: 64 bytes, what a core reads from memory at once."""
_MANY: Final = 7
"""From so many ids on it is faster to look them up together."""
_EMPTY: Final = -1
"""No hash: Python gives it to no text."""


class IdIndex:
    """Where a table holds an id. Never changes, so any thread may ask.

    Args:
        ids: Distinct ids; the position of each is its place.
    """

    def __init__(self, ids: npt.NDArray[np.str_]) -> None:
        hashes = np.fromiter(map(hash, ids.tolist()), np.int64, len(ids))
        # 1 to 2 ids per bucket of 8 on average: one in a million finds its bucket full.
        self._mask = (1 << max(0, len(ids).bit_length() - 1)) - 1
        buckets = hashes & self._mask
        order = np.argsort(buckets, kind="stable")
        slot = np.arange(len(ids)) - np.searchsorted(buckets[order], buckets[order])
        fits = (slot < _WIDTH) & ~_shared(hashes)[order]
        self._hashes = np.full((self._mask + 1, _WIDTH), _EMPTY, np.int64)
        self._positions = np.full((self._mask + 1, _WIDTH), NOWHERE, np.int32)
        placed, slots = order[fits], slot[fits]
        self._hashes[buckets[placed], slots] = hashes[placed]
        self._positions[buckets[placed], slots] = placed
        self._others = {str(ids[at]): int(at) for at in order[~fits]}

    def positions(self, ids: Sequence[str]) -> Int32:
        """Positions of several ids, -1 for those that are not in the table."""
        if len(ids) < _MANY:
            return np.array([self.position(wanted) for wanted in ids], np.int32)
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        buckets = hashes & self._mask
        same = self._hashes.take(buckets, 0, None, "clip") == hashes[:, None]
        positions = self._positions.take(buckets, 0, None, "clip").ravel()
        at = same.ravel().nonzero()[0]  # at most one of each bucket
        # Where all are found, as mostly, nothing is left to work out: arithmetic on small arrays
        # costs more than to read a bucket's positions whole.
        if len(at) == len(ids):
            all_found: Int32 = positions.take(at)
            return all_found
        found = np.full(len(ids), NOWHERE, np.int32)
        found[at // _WIDTH] = positions[at]
        for row in np.flatnonzero(found == NOWHERE).tolist():
            found[row] = self._others.get(ids[row], NOWHERE)
        return found

    def position(self, wanted: str) -> int:
        """The position of one id, or -1."""
        hashed = hash(wanted)
        bucket = hashed & self._mask
        hashes = self._hashes[bucket].tolist()
        if hashed not in hashes:
            return self._others.get(wanted, NOWHERE)
        return self._positions.item(bucket, hashes.index(hashed))


def _shared(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of the hashes another id has too."""
    _, kind, count = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.asarray(count[kind.reshape(-1)] > 1)
