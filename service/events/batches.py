"""What is appended in one step, and what the spool keeps of it.

A batch can be sent again and again, to the same effect as once: feedback is
known by its event ids, a batch of exposures by an id of its own. That is what
lets a call end in the spool whose outcome on the server is not known.
"""

import secrets
from typing import Literal

import msgspec
from msgspec import Struct

Counter = Literal["accepted", "orphan"]


class Entry(Struct, frozen=True, kw_only=True, array_like=True):
    """An impression or a click, checked and ready for the stream."""

    event_id: str
    slate_id: str
    member: bytes
    """`names.slate_member`; empty without a token, for then the slate proves nothing."""
    counter: Counter
    event: bytes
    """`experiments.events.Feedback` as msgpack."""


class FeedbackBatch(Struct, frozen=True, array_like=True, tag="feedback.1"):
    """The events of one call."""

    entries: tuple[Entry, ...]


class ExposureBatch(Struct, frozen=True, array_like=True, tag="exposures.1"):
    """Exposures that are appended together."""

    batch_id: str
    exposures: tuple[bytes, ...]
    """`experiments.events.Exposure` as msgpack."""


Batch = FeedbackBatch | ExposureBatch

_DECODER: msgspec.msgpack.Decoder[Batch] = msgspec.msgpack.Decoder(Batch)


def new_batch_id() -> str:
    return secrets.token_hex(12)


def encode_batch(batch: Batch) -> bytes:
    return msgspec.msgpack.encode(batch)


def decode_batch(record: bytes) -> Batch:
    """A batch from the spool.

    Raises:
        msgspec.MsgspecError: another release wrote it in a way that this one does not know.
    """
    return _DECODER.decode(record)


def size_of(batch: Batch) -> int:
    """How many events it holds."""
    return len(batch.entries if isinstance(batch, FeedbackBatch) else batch.exposures)
