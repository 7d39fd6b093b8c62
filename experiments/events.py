"""What happened: slates served or missed, items shown and clicked. The values of the event stream.

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
from experiments.comparison import Comparison

CacheResult = Literal["hit", "partial", "miss", "stale", "bypass", "error"]
FeedbackKind = Literal["impression", "click"]


class Arm(Struct, frozen=True, array_like=True, gc=False):
    """The variant of one experiment that a unit was served by."""

    experiment: str
    phase: int
    variant: str
    unit: str
    """Digest of the unit that this experiment randomises; another experiment may take another."""
    propensity: float = 1.0
    """Probability with which the draw gives this unit this variant, given that it takes part.
    In events that were written before it was known it stands for "not known"."""


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

    compute_ms: float = 0.0
    """Engine time of this slate: its rows' share of the calls that scored them."""
    queue_ms: float = 0.0
    """How long its rows waited for an engine."""
    predictions: int = 0
    """Rows that an engine scored for it; none for what the cache knew."""
    surface: str = ""
    """Where it was shown, as the request's context says; empty if it does not."""

    def __post_init__(self) -> None:
        _check_duration("latency_ms", self.latency_ms)
        _check_duration("compute_ms", self.compute_ms)
        _check_duration("queue_ms", self.queue_ms)


class Lapse(Struct, frozen=True, kw_only=True, array_like=True, tag="lapse.1"):
    """A unit was assigned and got no slate: refused, too late, broken, or gone before the reply.

    Without it an arm whose requests die would look as good as its survivors.
    """

    arms: tuple[Arm, ...]
    at: float
    """Unix seconds."""
    code: str
    """Why, as the error reply names it. ``client_gone``: a slate was made but nobody was there to
    be sent it. ``cancelled``: the caller hung up, or the shutdown's limit came, before that."""
    latency_ms: float
    """From the arrival of the request to its end."""
    surface: str = ""

    def __post_init__(self) -> None:
        _check_duration("latency_ms", self.latency_ms)


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
    team: str | None = None
    """The variant whose ranker put the item into an interleaved slate; else None."""
    exposed_at: float = 0.0
    """When the slate was made, unix seconds of the service; 0 where no token tells."""
    late: bool = False
    """It happened after the attribution window of its slate: counted as late and nothing else."""


Event = Exposure | Feedback | Lapse | Comparison


def arms_of(event: Event) -> tuple[Arm, ...]:
    """The arms whose sums an event belongs to."""
    if isinstance(event, Comparison):
        return (Arm(event.experiment, event.phase, event.variant, event.unit),)
    return event.arms


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
        Arm(a.key, a.phase, a.variant, unit_digest(a.unit), a.propensity)
        for a in assignments
        if a.counts and a.unit is not None
    )


def _check_duration(name: str, milliseconds: float) -> None:
    if not isfinite(milliseconds) or milliseconds < 0:
        raise ValueError(f"{name} must be a finite number >= 0, got {milliseconds}")
