"""A slate's scores as bytes, and back; whatever cannot be read is None, never an error.

Little endian: a header of 32 bytes (see `_HEADER`), then one float32 per
candidate. Scores are kept as computed, so that a cached answer is the computed
answer. The checksum covers everything but itself.
"""

import struct
from math import isfinite
from zlib import crc32

import numpy as np
from msgspec import Struct

from ranking_models.schema import Float32
from service.cache.keys import SlateKey

_MAGIC = b"PS"
_VERSION = 1
_HEADER = struct.Struct("<2sBxIdf8s")  # magic, version, count, created, computed, tag
_CHECKSUM = struct.Struct("<I")
_SCORES_AT = _HEADER.size + _CHECKSUM.size
_SCORE = np.dtype("<f4")


class Entry(Struct, frozen=True):
    """What the cache knows of one slate."""

    scores: Float32
    created_s: float
    """Unix seconds."""
    computed_s: float
    """How long the scores took to compute."""


def encode(key: SlateKey, entry: Entry) -> bytes:
    """The value to store under `key`."""
    header = _HEADER.pack(
        _MAGIC, _VERSION, len(entry.scores), entry.created_s, entry.computed_s, key.tag
    )
    scores = entry.scores.astype(_SCORE).tobytes()
    return header + _CHECKSUM.pack(crc32(scores, crc32(header))) + scores


def decode(key: SlateKey, value: bytes) -> Entry | None:
    """The entry of `key`, or None if these bytes are anything else."""
    if len(value) != _SCORES_AT + key.count * _SCORE.itemsize:
        return None
    magic, version, kept, created_s, computed_s, tag = _HEADER.unpack_from(value)
    if (magic, version, kept, tag) != (_MAGIC, _VERSION, key.count, key.tag):
        return None
    (checksum,) = _CHECKSUM.unpack_from(value, _HEADER.size)
    body = memoryview(value)
    if checksum != crc32(body[_SCORES_AT:], crc32(body[: _HEADER.size])):
        return None
    scores = np.frombuffer(value, _SCORE, offset=_SCORES_AT).astype(np.float32, copy=False)
    if not (np.isfinite(scores).all() and isfinite(created_s) and isfinite(computed_s)):
        return None
    return Entry(scores, created_s, computed_s)
