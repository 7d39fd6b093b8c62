"""Impressions and clicks, built from what was shown.

An event's id is made of what it says: slate, kind, item and place. So it is the same for every
attempt to deliver it, from whichever process and after any restart, and the service counts it
once. A second click on the same place of the same slate is therefore the same event.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal

from podium_client.fallback import Slate
from podium_client.replies import RankReply
from podium_client.requests import FeedbackEvent


def impressions(
    slate: RankReply | Slate,
    *,
    shown: Sequence[str] | None = None,
    at: datetime | None = None,
) -> tuple[FeedbackEvent, ...]:
    """One impression per item that the user saw, in the order seen.

    Args:
        slate: The reply; for a slate in input order there is nothing to report.
        shown: Ids of the items as they stood on the page; without it, the whole slate.
        at: When, with a time zone; now, without it.

    Raises:
        ValueError: an item was not in the slate, or is there twice.
    """
    reply = _reply(slate)
    if reply is None:
        return ()
    ids = [item.id for item in reply.items]
    places = ids if shown is None else list(shown)
    if len(set(places)) < len(places) or not set(places) <= set(ids):
        raise ValueError("shown must hold items of the slate, each once")
    return tuple(
        event(
            "impression",
            slate_id=reply.slate_id,
            item_id=item,
            position=place,
            exposure=reply.exposure,
            at=at,
        )
        for place, item in enumerate(places, start=1)
    )


def click(
    slate: RankReply | Slate,
    item_id: str,
    *,
    shown: Sequence[str] | None = None,
    at: datetime | None = None,
) -> tuple[FeedbackEvent, ...]:
    """The click on an item, at the place where it stood; nothing for a slate in input order.

    Raises:
        ValueError: the item was not shown.
    """
    reply = _reply(slate)
    if reply is None:
        return ()
    places = [item.id for item in reply.items] if shown is None else list(shown)
    if item_id not in places:
        raise ValueError(f"item {item_id!r} was not shown")
    return (
        event(
            "click",
            slate_id=reply.slate_id,
            item_id=item_id,
            position=places.index(item_id) + 1,
            exposure=reply.exposure,
            at=at,
        ),
    )


def event(
    kind: Literal["impression", "click"],
    *,
    slate_id: str,
    item_id: str,
    position: int,
    exposure: str | None,
    at: datetime | None = None,
) -> FeedbackEvent:
    """An event whose reply is no longer at hand, such as a click that comes in a later request.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    when = datetime.now(UTC) if at is None else at
    if when.tzinfo is None:
        raise ValueError("at must have a time zone")
    return FeedbackEvent(
        event_id=event_id(kind, slate_id, item_id, position),
        type=kind,
        slate_id=slate_id,
        item_id=item_id,
        position=position,
        timestamp=when.isoformat(timespec="milliseconds"),
        exposure=exposure,
    )


def event_id(kind: str, slate_id: str, item_id: str, position: int) -> str:
    """The same for the same event, whenever and wherever it is made: 32 hex digits."""
    # Lengths first: no two events run together to the same text.
    text = f"{kind}:{len(slate_id)}:{slate_id}:{item_id}:{position}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _reply(slate: RankReply | Slate) -> RankReply | None:
    return slate.reply if isinstance(slate, Slate) else slate
