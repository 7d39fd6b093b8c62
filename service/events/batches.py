"""What is appended in one step, and what the spool keeps of it.

A batch can be sent again and again, to the same effect as once: feedback is
known by its event ids, a batch of observations by an id of its own. That is what
lets a call end in the spool whose outcome on the server is not known.
"""

import secrets
from typing import Literal

import msgspec
from msgspec import Struct

Counter = Literal["accepted", "late", "orphan"]


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


class ObservationBatch(Struct, frozen=True, array_like=True, tag="exposures.1"):
    """What the service itself saw, appended together: `experiments.events` as msgpack, by kind."""

    batch_id: str
    exposures: tuple[bytes, ...] = ()
    lapses: tuple[bytes, ...] = ()
    comparisons: tuple[bytes, ...] = ()

    def by_counter(self) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
        """Each kind under the name that it is counted by."""
        return (
            ("exposures", self.exposures),
            ("lapses", self.lapses),
            ("comparisons", self.comparisons),
        )


Batch = FeedbackBatch | ObservationBatch

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
    if isinstance(batch, FeedbackBatch):
        return len(batch.entries)
    return sum(len(entries) for _, entries in batch.by_counter())
