"""flagd's ``fractional``, second and third version: ``flagd-v2`` and ``flagd-v3``, bit for bit.

``split_salt`` is the flag key, for rules that name no value to bucket by: version 2 hashes key and
id written together, version 3 the canonical CBOR of the list of both. A rule that makes a text of
its own, such as ``{"cat": ["seed", {"var": "targetingKey"}]}``, is the salt ``seed{unit}``: then
version 2 hashes that text and version 3 its CBOR. flagd splits and has no gate: a traffic share
below the whole is drawn by our own hash under ``gate_salt``, which keeps it apart from the split.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from mmh3 import hash as murmur3

from experiments.hashing.murmur import limit_of, seed_of
from experiments.hashing.terms import OUTSIDE, PLACE, Pick, Terms, around

Hashed = Callable[[bytes], bytes]


def picker(terms: Terms, version: int) -> Pick:
    """Our gate, then flagd's split: murmur3 under seed 0, multiplied onto the sum of weights."""
    gate, traffic = seed_of(terms.gate_salt), limit_of(terms.traffic_bp)
    total, ends = sum(terms.weights), list(accumulate(terms.weights))[:-1]
    hashed = (_written_together if version == 2 else _as_cbor)(terms.split_salt)

    def pick(unit: str, raw: bytes) -> int:
        if murmur3(raw, gate, False) >= traffic:
            return OUTSIDE
        return bisect_right(ends, murmur3(hashed(raw), 0, False) * total >> 32)

    return pick


def _written_together(salt: str) -> Hashed:
    before, after = around(salt if PLACE in salt else salt + PLACE)
    return lambda raw: before + raw + after


def _as_cbor(salt: str) -> Hashed:
    if PLACE in salt:
        before, after = around(salt)
        return lambda raw: _cbor_text(before + raw + after)
    head = b"\x82" + _cbor_text(salt.encode())  # a list of two
    return lambda raw: head + _cbor_text(raw)


def _cbor_text(text: bytes) -> bytes:
    """Text as RFC 8949 encodes it: major type 3, the length in the fewest bytes, the UTF-8."""
    size = len(text)
    if size < 24:
        return bytes([0x60 | size]) + text
    code, width = (0x78, 1) if size < 1 << 8 else (0x79, 2) if size < 1 << 16 else (0x7A, 4)
    return bytes([code]) + size.to_bytes(width, "big") + text
