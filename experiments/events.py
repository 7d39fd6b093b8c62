"""What happened: slates served, items shown and clicked. The values of the event stream.

They are written as msgpack arrays behind a tag that carries a version. A new
field goes to the end and has a default, then old and new readers understand
each other; anything else is a new tag.
"""

from collections.abc import Iterable
from hashlib import blake2b
from math import isfinite
from typing import Literal

from msgspec import Struct

from experiments.assignment import Assignment

CacheResult = Literal["hit", "partial", "miss", "stale", "bypass"]
FeedbackKind = Literal["impression", "click"]


class Arm(Struct, frozen=True, array_like=True, gc=False):
    """The variant of one experiment that a unit was served by."""

    experiment: str
    phase: int
    variant: str
    unit: str
    """Digest of the unit that this experiment randomises; another experiment may take another."""


class Exposure(Struct, frozen=True, kw_only=True, array_like=True, tag="exposure.1"):
    """A slate was returned to a unit by its variants. Written after the reply, never before."""

    slate_id: str
    arms: tuple[Arm, ...]
    at: float
    """Unix seconds."""
    latency_ms: float
    """From the arrival of the request to its reply."""
    candidates: int
    cache_hits: int
    cache_misses: int
    """Candidates that the cache was asked for and said not to know. A bypass counts none: the
    cache was not asked, or gave no answer."""
    cache_result: CacheResult
    engine: str
    """What scored, as the reply names it."""
    degraded: str | None
    config_digest: str
    """`experiments.assignment.Assigner.digest`: the definitions that decided."""

    def __post_init__(self) -> None:
        if not isfinite(self.latency_ms) or self.latency_ms < 0:
            raise ValueError(f"latency_ms must be a finite number >= 0, got {self.latency_ms}")


class Feedback(Struct, frozen=True, kw_only=True, array_like=True, tag="feedback.1"):
    """An impression or a click on an item of a slate."""

    event_id: str
    kind: FeedbackKind
    slate_id: str
    item_id: str
    position: int
    """Place in the slate as shown, 1 is first."""
    at: float
    """Unix seconds, as the backend reports it."""
    arms: tuple[Arm, ...]
    """From the exposure token; none for an orphan."""


Event = Exposure | Feedback


def unit_digest(unit: str) -> str:
    """A pseudonym for a unit id: 64 bits of BLAKE2b as 16 hex digits.

    Enough to tell units apart (two of a million share one with a probability
    of 3e-8) and to put them into cells. It keeps raw ids out of streams and
    tokens, but it is no anonymisation: a list of ids can be hashed again.
    """
    return blake2b(unit.encode(), digest_size=8).hexdigest()


def arms(assignments: Iterable[Assignment]) -> tuple[Arm, ...]:
    """The arms that a slate is counted in: what was split or decided outside, for a known unit."""
    return tuple(
        Arm(a.key, a.phase, a.variant, unit_digest(a.unit))
        for a in assignments
        if a.counts and a.unit is not None
    )
