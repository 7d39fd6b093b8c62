"""The key of a slate: equal if and only if everything that the score depends on is equal.

Every part is encoded so that its end cannot be mistaken (lengths before
values, msgpack), then hashed. Model inputs are hashed as encoded: two users
whom the model cannot tell apart share their slates, and so do two items that the
catalogue lacks.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec import Struct

from ranking_models.schema import FeatureBatch, Int32

EPOCH_KEY = "podium:epoch"
"""Where the cache server keeps the purge epoch, a decimal number; absent means 0."""

_DIGEST_BYTES = 16
_TAG_BYTES = 8
_packed = msgspec.msgpack.Encoder(order="deterministic").encode


class SlateKey(Struct, frozen=True):
    """Where one slate's scores live in the cache."""

    text: str
    """``podium:<epoch>:<score hash>:R:<user>:<context>:<candidates>``, the digests in base64.
    Where an arm keeps to itself, ``<score hash>~<arm>``."""
    count: int
    """How many scores belong there: one per candidate."""

    @property
    def tag(self) -> bytes:
        """8 bytes that the value repeats, so that a reply to another key is recognised."""
        return blake2b(self.text.encode(), digest_size=_TAG_BYTES).digest()


def slate_key(
    *,
    score_hash: str,
    epoch: int,
    user: FeatureBatch,
    context: FeatureBatch,
    items: Int32,
    overrides: Mapping[int, FeatureBatch],
    arm: str = "",
    digests: str = "",
) -> SlateKey:
    """The key of the scores of these candidates, in this order.

    Args:
        score_hash: Stands for all that is the same for every request: graph,
            precision, schema, catalogue. No colon, no braces.
        epoch: The purge epoch; entries of another one are never found.
        user: One row, encoded.
        context: One row, encoded.
        items: Catalogue positions of the candidates in the order of the scores, -1 for every
            unknown one.
        overrides: Place among the candidates to the one row, encoded, that replaces the
            catalogue's.
        arm: Whose entries no other arm may share; empty where all do.
        digests: `request_digests` of the four, where they are known.
    """
    digests = digests or request_digests(user, context, items, overrides)
    return SlateKey(f"{namespace(score_hash, epoch, arm)}:R:{digests}", len(items))


def request_digests(
    user: FeatureBatch,
    context: FeatureBatch,
    items: Int32,
    overrides: Mapping[int, FeatureBatch],
) -> str:
    """The part of a key that a request makes; arguments as of `slate_key`."""
    parts = (_row(user), _row(context), _candidates(items, overrides))
    return ":".join(_digest(part) for part in parts)


def namespace(score_hash: str, epoch: int, arm: str = "") -> str:
    """What the keys of all entries begin with that one model makes in one epoch.

    Args:
        score_hash: As of `slate_key`.
        epoch: The purge epoch.
        arm: Whose entries no other arm may share; empty where all do.
    """
    if arm:
        return f"podium:{epoch}:{score_hash}~{_digest(arm.encode())}"
    return f"podium:{epoch}:{score_hash}"


def _row(batch: FeatureBatch) -> bytes:
    """The values of one row. Their kinds and their order are the schema's, which is part of the
    score hash."""
    multi = {name: values.tobytes() for name, values in batch.multi.items()}
    return _packed((batch.dense.tobytes(), batch.ids.tobytes(), multi))


def _candidates(items: Int32, overrides: Mapping[int, FeatureBatch]) -> bytes:
    listed = _packed(items.tobytes())
    if not overrides:
        return listed
    given = [(place, _row(row)) for place, row in sorted(overrides.items())]
    return listed + _packed(given)


def _digest(part: bytes) -> str:
    digest = blake2b(part, digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
