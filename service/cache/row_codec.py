"""Score rows as bytes, and back; whatever cannot be read is no row, never an error.

Little endian: a header of 20 bytes (see `_HEADER`), one u16 per segment, and a
CRC-32 over all before it. Scores are kept as log odds, cut to -16..16 and
rounded to one of 65,536 even steps of 4.9e-4: at most 2.4e-4 of the log odds are
lost, and so at most 6.1e-5 of a score. The rows of one reply are read together:
one by one they would cost more than the reply.
"""

from collections.abc import Sequence
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32
from service.cache.row_keys import UInt64

UInt16 = npt.NDArray[np.uint16]

MOST_SEGMENTS = 255
_MAGIC, _VERSION = b"PR", 1
_HEADER = [
    ("magic", "S2"),
    ("version", "u1"),
    ("segments", "u1"),
    ("created", "<u4"),  # Unix seconds
    ("computed", "<f4"),  # seconds
    ("tag", "<u8"),
]
_CHECKSUM_BYTES = 4
_REACH, _STEPS = 16.0, 65_535
STEP = 2 * _REACH / _STEPS
"""Log odds from one value to the next."""


class RowEntries(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that belong together, one per item asked."""

    found: npt.NDArray[np.bool_]
    """Whether there was a row, ``[items]``; where not, the rest says nothing."""
    steps: UInt16
    """The quantised log odds, ``[items, segments]``."""
    created_s: npt.NDArray[np.float64]
    """Unix seconds, ``[items]``, whole."""
    unreadable: int = 0
    """Values that were not what belongs under their key."""


def quantised(log_odds: npt.NDArray[np.floating]) -> UInt16:
    """Log odds as steps; they are finite."""
    cut = np.clip(log_odds, -_REACH, _REACH)
    steps: UInt16 = np.rint((cut + _REACH) / STEP).astype(np.uint16)
    return steps


def scores_of(steps: UInt16) -> Float32:
    """The probabilities that quantised log odds stand for."""
    return _SCORES.take(steps)


def encode_rows(tags: UInt64, steps: UInt16, *, created_s: float, computed_s: float) -> list[bytes]:
    """The values to store, one per item.

    Args:
        tags: Of their keys, ``[items]``.
        steps: ``[items, segments]``.
        created_s: Unix seconds.
        computed_s: How long one row took to compute.
    """
    items, segments = steps.shape
    rows = np.zeros(items, _layout(segments))
    rows["magic"], rows["version"], rows["segments"] = _MAGIC, _VERSION, segments
    rows["created"], rows["computed"] = int(created_s), computed_s
    rows["tag"], rows["steps"] = tags, steps
    values = [row.tobytes() for row in rows]
    return [value + crc32(value).to_bytes(_CHECKSUM_BYTES, "little") for value in values]


def decode_rows(tags: UInt64, values: Sequence[bytes | None], segments: int) -> RowEntries:
    """The rows among the values that came for the keys with these tags."""
    layout = _layout(segments)
    size = layout.itemsize
    whole = [
        value is not None
        and len(value) == size + _CHECKSUM_BYTES
        and crc32(value[:size]) == int.from_bytes(value[size:], "little")
        for value in values
    ]
    nothing = bytes(size)
    body = b"".join(
        value[:size] if good and value is not None else nothing
        for good, value in zip(whole, values, strict=True)
    )
    rows = np.frombuffer(body, layout)
    found = (
        np.array(whole, np.bool_)
        & (rows["magic"] == _MAGIC)
        & (rows["version"] == _VERSION)
        & (rows["segments"] == segments)
        & (rows["tag"] == tags)
        & np.isfinite(rows["computed"])
    )
    there = sum(value is not None for value in values)
    return RowEntries(
        found=found,
        steps=rows["steps"].reshape(len(values), segments),
        created_s=rows["created"].astype(np.float64),
        unreadable=there - int(np.count_nonzero(found)),
    )


def _layout(segments: int) -> np.dtype[np.void]:
    if segments not in _LAYOUTS:
        _LAYOUTS[segments] = np.dtype([*_HEADER, ("steps", "<u2", (segments,))])
    return _LAYOUTS[segments]


def _scores() -> Float32:
    log_odds = np.arange(_STEPS + 1) * STEP - _REACH
    scores: Float32 = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
    return scores


_LAYOUTS: dict[int, np.dtype[np.void]] = {}
_SCORES = _scores()
