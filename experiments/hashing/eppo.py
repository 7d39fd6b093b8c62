"""Eppo's shards, ``eppo-md5``, bit for bit.

A shard is the first 32 bits of ``md5(salt-id)``, modulo their number: 10,000 for the traffic, the
sum of the weights for the split. ``gate_salt`` and ``split_salt`` are the salts of the flag's
shards. A salt that holds ``{unit}`` is the whole text to hash instead, with the id put there:
older configurations hash ``exposure-{unit}-<flag>`` and ``assignment-{unit}-<flag>``.
"""

from bisect import bisect_right
from collections.abc import Callable
from hashlib import md5
from itertools import accumulate

from experiments.hashing.terms import OUTSIDE, PLACE, Pick, Terms, around

_TRAFFIC_SHARDS = 10_000


def picker(terms: Terms) -> Pick:
    """The traffic's shard, then the split's."""
    gate, split = _hashed(terms.gate_salt), _hashed(terms.split_salt)
    traffic, total = terms.traffic_bp, sum(terms.weights)
    ends = list(accumulate(terms.weights))[:-1]

    def pick(unit: str, raw: bytes) -> int:
        if gate(raw) % _TRAFFIC_SHARDS >= traffic:
            return OUTSIDE
        return bisect_right(ends, split(raw) % total)

    return pick


def _hashed(salt: str) -> Callable[[bytes], int]:
    before, after = around(salt if PLACE in salt else f"{salt}-{PLACE}")

    def hashed(raw: bytes) -> int:
        digest = md5(before + raw + after, usedforsecurity=False).digest()
        return int.from_bytes(digest[:4], "big")

    return hashed
