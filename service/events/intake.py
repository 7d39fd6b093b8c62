"""Which reported events count, and what becomes of each.

Two clocks meet here. When a slate was made is our own time, signed into its token. When
something happened to it is the timestamp that the sender reports, since events may be
delivered hours later and that must not make them late. So a sender whose clock is ahead by
more than the attribution window makes its events late, which shows in the counts; one whose
clock is behind loses nothing. Whether a token has expired is asked of our clock alone.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from experiments.events import Feedback
from service.clock import Clock
from service.events.batches import Entry, FeedbackBatch
from service.events.decoding import unix_seconds
from service.events.event_log import EventLog
from service.events.names import slate_member
from service.events.slates import SlateIds
from service.events.stream import Fate
from service.events.tokens import (
    Claims,
    ExposureTokens,
    TokenRejected,
    digested_items,
    items_digest,
)
from service.messages import EventResult, EventsReply, FeedbackEvent
from service.settings import EventSettings

MAX_AHEAD_S = 86_400.0
"""How far in the future a timestamp may lie. Clocks of phones are wrong by hours (a zone
set wrongly) far more often than by days; an event of next month would stand ahead of all
others in every analysis by time until then."""


MAX_BEHIND_S = 86_400.0
"""How long before its slate an event may say that it happened, for the same reason."""


class _Proven(Struct, frozen=True):
    """A token that was verified, and the place of each item it allows."""

    claims: Claims
    items: dict[str, int]

    def team_of(self, item_id: str) -> str | None:
        """Whose pick an item of an interleaved slate was."""
        if not self.claims.teams:
            return None
        return self.claims.teams[int(self.claims.picks[self.items[items_digest([item_id])]])]


class EventCounts(Struct):
    """What became of the events that were reported to this process since the start."""

    accepted: int = 0
    unattributed: int = 0
    """Of the accepted: on a slate of ours but without a token, so in no variant."""
    late: int = 0
    """Happened after the attribution window of their slate."""
    orphan: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    """By code."""


class EventIntake:
    """Takes impressions and clicks: checked, kept durably, answered one by one."""

    def __init__(
        self,
        log: EventLog,
        tokens: ExposureTokens,
        slates: SlateIds,
        settings: EventSettings,
        clock: Clock,
    ) -> None:
        self.counts = EventCounts()
        self.max_events = settings.max_events
        """In one call; for `decode_events`."""
        self._window_s = settings.attribution_window_s
        self._late = f"it happened more than {self._window_s:g} s after its slate was made"
        self._log = log
        self._tokens = tokens
        self._slates = slates
        self._clock = clock

    async def accept(self, events: Sequence[FeedbackEvent | EventResult]) -> EventsReply:
        """Keep what counts; what is accepted survives a crash of anything.

        Args:
            events: In the order sent; results stand for what was no event.

        Raises:
            EventsUnavailable: it is not certain that any was kept; send them again.
        """
        checked = self._check(events)
        first: dict[str, Entry] = {}
        for one in checked:
            if isinstance(one, Entry):
                first.setdefault(one.event_id, one)
        fates = {}
        if first:
            batch = FeedbackBatch(tuple(first.values()))
            fates = dict(zip(first, await self._log.keep_feedback(batch), strict=True))
        return EventsReply(results=tuple(self._result(one, fates) for one in checked))

    def _check(self, events: Sequence[FeedbackEvent | EventResult]) -> list[Entry | EventResult]:
        now = self._clock.wall()
        # A slate's token comes again with each of its impressions.
        proven: dict[str, _Proven] = {}
        return [
            event if isinstance(event, EventResult) else self._check_one(event, now, proven)
            for event in events
        ]

    def _check_one(
        self, event: FeedbackEvent, now: float, proven: dict[str, _Proven]
    ) -> Entry | EventResult:
        at = unix_seconds(event.timestamp)
        if at > now + MAX_AHEAD_S:
            return _rejected(
                event, "timestamp_in_future", "the timestamp is more than a day in the future"
            )
        if event.exposure is None:
            return self._without_token(event, at)
        token = proven.get(event.exposure)
        if token is None:
            try:
                claims = self._tokens.verify(event.exposure, now)
            except TokenRejected as why:
                return _rejected(event, why.code, str(why))
            places = {item: place for place, item in enumerate(digested_items(claims.items))}
            token = proven[event.exposure] = _Proven(claims, places)
        if (refusal := _refusal(event, token, at)) is not None:
            return refusal
        late = at > token.claims.issued + self._window_s
        return Entry(
            event_id=event.event_id,
            slate_id=event.slate_id,
            member=slate_member(event.type, event.item_id),
            counter="late" if late else "accepted",
            event=_feedback(event, at, token, late=late),
        )

    def _without_token(self, event: FeedbackEvent, at: float) -> Entry:
        """It counts, but for no variant: nothing proves which of them made the slate."""
        return Entry(
            event_id=event.event_id,
            slate_id=event.slate_id,
            member=b"",
            counter="accepted" if self._slates.issued_here(event.slate_id) else "orphan",
            event=_feedback(event, at),
        )

    def _result(self, one: Entry | EventResult, fates: dict[str, Fate]) -> EventResult:
        """What to answer for an event, counted."""
        if isinstance(one, EventResult):
            code = one.code or "invalid_event"
            self.counts.rejected[code] = self.counts.rejected.get(code, 0) + 1
            self._log.count(f"rejected:{code}")
            return one
        if one.event_id not in fates:
            # The first with this id in the call took its fate; the store never saw this one.
            self._log.count("duplicate")
        fate = fates.pop(one.event_id, Fate.EVENT_SEEN)
        if fate is not Fate.NEW:
            self.counts.duplicate += 1
            return EventResult(event_id=one.event_id, status="duplicate", detail=_WHY[fate])
        if one.counter == "orphan":
            self.counts.orphan += 1
        elif one.counter == "late":
            self.counts.late += 1
            return EventResult(event_id=one.event_id, status="late", detail=self._late)
        else:
            self.counts.accepted += 1
            self.counts.unattributed += not one.member
        return EventResult(event_id=one.event_id, status=one.counter)


_WHY = {
    Fate.EVENT_SEEN: "an event with this id was reported before",
    Fate.SLATE_SEEN: "this was reported for the same item of the slate, under another id",
}


def _refusal(event: FeedbackEvent, token: _Proven, at: float) -> EventResult | None:
    """Why a genuine token does not speak for this event; None if it does."""
    claims = token.claims
    if claims.slate_id != event.slate_id:
        why = f"the exposure token belongs to slate {claims.slate_id}"
        return _rejected(event, "token_foreign_slate", why)
    if items_digest([event.item_id]) not in token.items:
        return _rejected(event, "item_not_in_slate", "the slate does not hold this item")
    if at < claims.issued - MAX_BEHIND_S:
        why = "the slate was made more than a day later"
        return _rejected(event, "timestamp_before_slate", why)
    return None


def _rejected(event: FeedbackEvent, code: str, detail: str) -> EventResult:
    return EventResult(event_id=event.event_id, status="rejected", code=code, detail=detail)


def _feedback(
    event: FeedbackEvent, at: float, token: _Proven | None = None, *, late: bool = False
) -> bytes:
    return msgspec.msgpack.encode(
        Feedback(
            event_id=event.event_id,
            kind=event.type,
            slate_id=event.slate_id,
            item_id=event.item_id,
            position=event.position,
            at=at,
            arms=() if token is None else token.claims.arms,
            team=None if token is None else token.team_of(event.item_id),
            exposed_at=0.0 if token is None else token.claims.issued,
            late=late,
        )
    )
