"""What is called how on the event server.

    podium:events                               the stream of `experiments.events.Event`
    podium:stats:<experiment>:<phase>:<variant> hash: sufficient statistics, of constant size
    podium:counts                               hash: what came in and what became of it
    podium:event:<digest>                       an event id that was seen; lives as long as a token
    podium:slate:<slate>                        set: what was shown and clicked of a slate; likewise
    podium:batch:<id>                           a batch whose append was not confirmed
    podium:unit:<experiment>:<phase>:<unit>     the variant that a unit was counted in
    podium:moved:<experiment>:<phase>:<unit>    set: further variants that the unit was seen in
    podium:clicks:<experiment>:<phase>:<unit>   how often the unit clicked, for the cap

The server is one server, not a cluster: a script touches keys of many slots.
"""

from hashlib import blake2b

from experiments.events import Arm, FeedbackKind

STREAM = "podium:events"
FIELD = b"e"
"""The one field of a stream entry: an `experiments.events.Event` as msgpack."""
GROUP = "podium-aggregator"
COUNTS = "podium:counts"


def event_key(event_id: str) -> str:
    # 96 bits: among 10^9 ids that live at once, a collision has a chance of 10^-11.
    return f"podium:event:{blake2b(event_id.encode(), digest_size=12).hexdigest()}"


def slate_key(slate_id: str) -> str:
    return f"podium:slate:{slate_id}"


def slate_member(kind: FeedbackKind, item_id: str) -> bytes:
    """An impression or click of an item within its slate: short, for there is one per event."""
    return kind[:1].encode() + blake2b(item_id.encode(), digest_size=8).digest()


def batch_key(batch_id: str) -> str:
    return f"podium:batch:{batch_id}"


def statistics_key(experiment: str, phase: int, variant: str) -> str:
    return f"podium:stats:{experiment}:{phase}:{variant}"


def unit_key(arm: Arm) -> str:
    return f"podium:unit:{arm.experiment}:{arm.phase}:{arm.unit}"


def moved_key(arm: Arm) -> str:
    return f"podium:moved:{arm.experiment}:{arm.phase}:{arm.unit}"


def clicks_key(arm: Arm) -> str:
    return f"podium:clicks:{arm.experiment}:{arm.phase}:{arm.unit}"
