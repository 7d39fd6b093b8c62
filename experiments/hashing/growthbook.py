"""GrowthBook's hashes, ``growthbook-v1`` and ``growthbook-v2``, bit for bit.

One draw is gate and split: variant ``i`` owns ``[start_i, start_i + coverage * weight_i)`` of
[0, 1). ``split_salt`` is GrowthBook's ``seed``, the traffic its ``coverage``. A layer is its
``namespace``. The bounds are computed in floating point in GrowthBook's order, as a bound can
fall on a slot.
"""

from collections.abc import Sequence
from itertools import accumulate

from experiments.hashing.terms import OUTSIDE, Inside, Pick, Terms

_SLOTS = {1: 1_000, 2: 10_000}

Range = tuple[float, float]


def slot(seed: str, value: str, version: int) -> float:
    """Where a value falls in [0, 1): GrowthBook's ``hash(seed, value, version)``."""
    hashed = _fnv1a32(str(_fnv1a32(seed + value))) if version == 2 else _fnv1a32(value + seed)
    return hashed % _SLOTS[version] / _SLOTS[version]


def bucket_ranges(weights: Sequence[float], coverage: float) -> list[Range]:
    """The part of [0, 1) of each variant."""
    starts = accumulate(weights[:-1], initial=0.0)
    return [(at, at + coverage * weight) for at, weight in zip(starts, weights, strict=True)]


def choose(n: float, ranges: Sequence[Range]) -> int:
    """The first range that holds `n`, else OUTSIDE."""
    for at, (start, end) in enumerate(ranges):
        if start <= n < end:
            return at
    return OUTSIDE


def in_namespace(unit: str, namespace: str, start: float, end: float) -> bool:
    """Whether a unit is in a part of a namespace; always by the first version of the hash."""
    return start <= slot(f"__{namespace}", unit, 1) < end


def picker(terms: Terms, version: int) -> Pick:
    """Gate and split in one draw, as GrowthBook has it."""
    seed, total = terms.split_salt, sum(terms.weights)
    weights = [weight / total for weight in terms.weights]
    ranges = bucket_ranges(weights, terms.traffic_bp / 10_000)

    def pick(unit: str, raw: bytes) -> int:
        return choose(slot(seed, unit, version), ranges)

    return pick


def layer_part(layer: str, start_bp: int, end_bp: int) -> Inside:
    """GrowthBook's namespace of the layer's name."""
    start, end = start_bp / 10_000, end_bp / 10_000

    def inside(unit: str, raw: bytes) -> bool:
        return in_namespace(unit, layer, start, end)

    return inside


def _fnv1a32(text: str) -> int:
    """FNV-1a over UTF-16 units, as GrowthBook's reference in JavaScript counts characters."""
    hashed = 0x811C9DC5
    units = text.encode("utf-16-le")
    for low, high in zip(units[::2], units[1::2], strict=True):
        hashed = (hashed ^ (low | high << 8)) * 0x01000193 & 0xFFFFFFFF
    return hashed
