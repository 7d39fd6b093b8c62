"""Unleash's gradual rollout and variants, ``unleash``, bit for bit.

``gate_salt`` is the ``groupId`` of the rollout strategy, ``split_salt`` that of the variants (the
feature's name, or the strategy's ``groupId`` for its own variants). Both hash ``groupId:id``,
under two seeds. The rollout counts whole percents; the variants divide the sum of their weights,
which Unleash keeps in thousandths.
"""

from bisect import bisect_right
from itertools import accumulate

from mmh3 import hash as murmur3

from experiments.hashing.terms import OUTSIDE, Pick, Terms

_ROLLOUT_SEED = 0
_VARIANT_SEED = 86_028_157


def picker(terms: Terms) -> Pick:
    """Rollout, then variant."""
    gate, split = f"{terms.gate_salt}:".encode(), f"{terms.split_salt}:".encode()
    percent = terms.traffic_bp // 100
    total, ends = sum(terms.weights), list(accumulate(terms.weights))[:-1]

    def pick(unit: str, raw: bytes) -> int:
        # Unleash draws 1 to 100 and 1 to the total; from 0 the bounds are excluded instead.
        if murmur3(gate + raw, _ROLLOUT_SEED, False) % 100 >= percent:
            return OUTSIDE
        return bisect_right(ends, murmur3(split + raw, _VARIANT_SEED, False) % total)

    return pick
