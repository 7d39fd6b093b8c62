"""What an evaluation of the cache's modes holds: the JSON of the side file."""

import msgspec
from msgspec import Struct

from ranking_models.manifest import ModeCost

FORMAT = 1


class CacheEvaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each mode costs, and on what that was measured."""

    format: int
    model: str
    """``name@version``."""
    precision: str
    evidence: str
    """In words."""
    rows: int
    users: int
    known_users: int
    """Of these, users of the bundle's table: all others are in segment 0."""
    lists: int
    """Of one click among `candidates`."""
    candidates: int
    k: int
    resamples: int
    seed: int
    confidence: float
    modes: tuple[ModeCost, ...]
    """exact first."""


def encode_evaluation(evaluation: CacheEvaluation) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n"


def decode_evaluation(content: bytes) -> CacheEvaluation:
    """What was encoded.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    return msgspec.json.decode(content, type=CacheEvaluation)
