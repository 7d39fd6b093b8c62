"""The key of a score row: equal if and only if everything that its scores depend on is equal.

A row holds what every segment scores one item, so no user is in its key: model
and arm, the context as the model reads it, and the item. An item is named by
its position, which the model's hash gives a meaning: that hash covers the
catalogue and the segments. What no position stands for, such as an item that
the catalogue lacks or one that a request describes, has no row.

Keys are short, since a hundred of them make one request: the namespace shows
the beginning of the model's hash, for people, and a digest covers all of it.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch

UInt64 = npt.NDArray[np.uint64]

_SHOWN = 8
"""Characters of the model's hash that a key shows. Up to 44 bytes, a key takes 48 in Redis 7.0."""
_DIGEST_BYTES = 12
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class RowSpace(Struct, frozen=True):
    """All rows of one model, arm and context: the items tell them apart."""

    prefix: str
    """``podium:<epoch>:<model>:S:<context bucket>:``, to which the item's position comes."""
    seed: int
    """64 bits of a digest of the prefix and all that it stands for."""

    def key(self, position: int) -> str:
        """Where the row of the item at that catalogue position lives."""
        return f"{self.prefix}{position}"

    def tags(self, positions: Sequence[int] | npt.NDArray[np.integer]) -> UInt64:
        """What the values of these items repeat of their keys, ``[positions]``.

        A reply to another key is recognised by it. Different items of one space
        always have different tags.

        Source:
            Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators",
            OOPSLA: the mixing function of SplitMix64, which is one-to-one.
        """
        at = np.asarray(positions, np.uint64)
        mixed: UInt64 = np.uint64(self.seed) + at * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
        return mixed ^ (mixed >> np.uint64(31))


def row_space(*, score_hash: str, epoch: int, context: FeatureBatch, arm: str = "") -> RowSpace:
    """Where the rows are that requests with this context share.

    Args:
        score_hash: Stands for all that is the same for every request: graph, precision,
            schema, catalogue, segments.
        epoch: The purge epoch; entries of another one are never found.
        context: One row, encoded: contexts that the model cannot tell apart share rows.
        arm: Whose rows no other arm may share; empty where all do.
    """
    arrays = sorted(context.inputs().items())
    shapes = [(name, array.dtype.str, array.shape) for name, array in arrays]
    told = msgspec.msgpack.encode((score_hash, arm, shapes))
    body = told + b"".join(array.tobytes() for _, array in arrays)
    bucket = urlsafe_b64encode(blake2b(body, digest_size=_DIGEST_BYTES).digest()).decode()
    prefix = f"podium:{epoch}:{score_hash[:_SHOWN]}:S:{bucket}:"
    seed = blake2b(prefix.encode() + body, digest_size=8).digest()
    return RowSpace(prefix, int.from_bytes(seed, "little"))
