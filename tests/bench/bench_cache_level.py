"""The cache level in the process: hit rates over Zipf demand, and what a lookup costs.

Replays requests over a million keys and counts the second half. Beside our own level: entries
that were used last (LRU), and theine, a W-TinyLFU in Rust, where it is installed::

    pip install theine
    python -m tests.bench cache_level [--quick]

The expected rates are those of the facts behind the design (event simulation, no drift): LRU, and
LRU with TinyLFU admission; a static list of the most popular keys is the bound of both.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from service.cache.first_level import FirstLevel

CATALOGUE = 1_000_000
EXPECTED = {  # Zipf exponent, entries: LRU, with TinyLFU admission, static list
    (0.8, 10_000): (23.2, 32.2, 35.8),
    (0.8, 100_000): (48.8, 56.9, 57.0),
    (1.0, 10_000): (58.6, 64.6, 67.7),
    (1.0, 100_000): (78.0, 80.8, 81.4),
    (1.2, 10_000): (87.5, 88.7, 90.7),
    (1.2, 100_000): (95.0, 95.0, 94.9),
}
Lookup = Callable[[str], bool]
"""Whether the key is there; if not, it is from now on, if the cache wants it."""


def main() -> None:
    requests = 600_000 if "--quick" in sys.argv else 3_000_000
    names = [f"podium:0:cafe0123:R:{n:022d}" for n in range(CATALOGUE)]
    print(f"{requests:,} requests over {CATALOGUE:,} keys; hit rates in % of the second half\n")
    print(
        "| s | entries | LRU (facts) | LRU | TinyLFU (facts) | own | theine "
        "| µs LRU | own | theine |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (exponent, entries), (lru, admitted, _) in EXPECTED.items():
        asked = [names[at] for at in drawn(exponent, requests)]
        found = {name: replay(lookup, asked) for name, lookup in caches(entries)}
        rates = {name: f"{rate:.1f}" for name, (rate, _) in found.items()}
        costs = {name: f"{cost:.2f}" for name, (_, cost) in found.items()}
        print(
            f"| {exponent} | {entries:,} | {lru} | {rates['LRU']} | {admitted} | {rates['own']} "
            f"| {rates.get('theine', '-')} | {costs['LRU']} | {costs['own']} "
            f"| {costs.get('theine', '-')} |",
            flush=True,
        )


def drawn(exponent: float, requests: int) -> list[int]:
    """Places of keys in the order of their popularity, by a Zipf law."""
    shares = np.arange(1, CATALOGUE + 1, dtype=np.float64) ** -exponent
    bounds = np.cumsum(shares / shares.sum())
    found: list[int] = np.searchsorted(bounds, np.random.default_rng(11).random(requests)).tolist()
    return found


def replay(lookup: Lookup, asked: list[str]) -> tuple[float, float]:
    """Hits in percent of the second half, and microseconds of CPU per lookup of all."""
    half = len(asked) // 2
    began = time.process_time()
    for key in asked[:half]:
        lookup(key)
    hits = sum(map(lookup, asked[half:]))
    took_s = time.process_time() - began
    return 100 * hits / (len(asked) - half), 1e6 * took_s / len(asked)


def caches(entries: int) -> Iterator[tuple[str, Lookup]]:
    yield "LRU", last_used(entries)
    yield "own", first_level(entries)
    try:
        theine: Any = import_module("theine")
    except ImportError:
        return
    yield "theine", rust(theine.Cache(entries, nolock=True))


def first_level(entries: int) -> Lookup:
    level: FirstLevel[str] = FirstLevel(entries, 3600.0, time.monotonic, typical_bytes=1)

    def lookup(key: str) -> bool:
        if level.get(key) is not None:
            return True
        level.put(key, key, 1)
        return False

    return lookup


def last_used(entries: int) -> Lookup:
    kept: OrderedDict[str, str] = OrderedDict()

    def lookup(key: str) -> bool:
        if key in kept:
            kept.move_to_end(key)
            return True
        kept[key] = key
        if len(kept) > entries:
            kept.popitem(last=False)
        return False

    return lookup


def rust(cache: Any) -> Lookup:
    def lookup(key: str) -> bool:
        if cache.get(key)[1]:
            return True
        cache.set(key, key)
        return False

    return lookup


if __name__ == "__main__":
    main()
