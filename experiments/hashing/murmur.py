"""Our own hash, ``m3x32-v1``: murmur3 x86_32 under a seed for each salt, 10^7 buckets.

The bucket is ``(h * 10_000_000) >> 32`` with ``h`` unsigned: multiplying keeps the high bits and
has no modulo bias. It rises with ``h``, so a range of buckets is a range of hashes, and deciding
compares hashes with limits that are worked out once.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from mmh3 import hash as murmur3

from experiments.hashing.terms import OUTSIDE, Inside, Pick, Terms

BUCKETS = 10_000_000
BUCKETS_PER_BP = 1_000


def bucket(unit: str, salt: str) -> int:
    """The slot, 0 to 9 999 999, that a unit hashes to under a salt (hash id ``m3x32-v1``).

    ``h`` is murmur3 x86_32 of the unit id's UTF-8 bytes as given (no case
    folding, no trimming, no numbers: "12345" is text), seeded with the murmur3
    x86_32 of the salt under seed 0.

    Raises:
        UnicodeEncodeError: the id holds a lone surrogate and has no UTF-8 form.
    """
    # Bytes, because mmh3 5.3 crashes the process on text with a lone surrogate.
    return (murmur3(unit.encode(), seed_of(salt), False) * BUCKETS) >> 32


def seed_of(salt: str) -> int:
    """The 32-bit seed that stands for a salt: murmur3 x86_32 of its UTF-8 bytes, seed 0."""
    return murmur3(salt.encode(), 0, False)


def limit_of(share_bp: int) -> int:
    """The hashes below it are those whose bucket is in the first `share_bp` basis points."""
    return _limit(share_bp * BUCKETS_PER_BP)


def _limit(slot: int) -> int:
    return -(-(slot << 32) // BUCKETS)


def picker(terms: Terms) -> Pick:
    """Gate and split, each under the seed of its own salt."""
    gate, traffic = seed_of(terms.gate_salt), limit_of(terms.traffic_bp)
    split, ends = seed_of(terms.split_salt), _ends(terms.weights)
    everybody = traffic >= 1 << 32

    def pick(unit: str, raw: bytes) -> int:
        # A gate that lets everybody through needs no hash.
        if everybody or murmur3(raw, gate, False) < traffic:
            return bisect_right(ends, murmur3(raw, split, False))
        return OUTSIDE

    return pick


def _ends(weights: Sequence[int]) -> list[int]:
    # The last end is the whole range, so bisecting the others finds every hash.
    return [limit_of(end) for end in list(accumulate(weights))[:-1]]


def layer_part(layer: str, start_bp: int, end_bp: int) -> Inside:
    """Whether the bucket of a unit under the layer's name is in a range."""
    seed, low, high = seed_of(layer), limit_of(start_bp), limit_of(end_bp)

    def inside(unit: str, raw: bytes) -> bool:
        return low <= murmur3(raw, seed, False) < high

    return inside
