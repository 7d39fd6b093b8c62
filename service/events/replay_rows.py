"""The log that a replay needs, from the events that were sent to ``POST /v1/events``.

Whoever sends events can keep them: with its exposure token each says which
variant showed the item, with what probability that variant was drawn, and for
whom. So a log of Podium's own needs no export, and outlives the event stream,
which is trimmed once it is added up. Tokens are read and not verified here: the
file is the reader's own, and signing keys may have changed since.
"""

import base64
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from experiments.events import Arm
from experiments.replay import Row, TableInvalid
from service.events.tokens import Claims
from service.messages import FeedbackEvent

_decoder = msgspec.json.Decoder(FeedbackEvent)


class EventLog(Struct, frozen=True, kw_only=True):
    """Impressions of one experiment as rows of a replay; the actions are its variants."""

    rows: tuple[Row, ...]
    phases: tuple[int, ...]
    left_out: int
    """Events without a token, of other experiments, and clicks on what nobody reported as seen."""


def read_event_log(
    lines: Iterable[str], experiment: str, *, phase: int | None = None, where: str
) -> EventLog:
    """Join impressions and clicks.

    An impression is a row with the reward 1 if the item of the slate was clicked.
    Events that were sent twice count once.

    Args:
        lines: NDJSON of events as ``POST /v1/events`` takes them, in any order.
        experiment: Its key.
        phase: None takes all of them, which the propensities allow.
        where: What the text is called in errors.

    Raises:
        TableInvalid: a line is no event, or its token none of Podium's.
    """
    seen: dict[tuple[str, str], tuple[Arm, int]] = {}
    clicked: set[tuple[str, str]] = set()
    events, used = 0, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        events += 1
        event = _event(line, where, number)
        arm = _arm(event, experiment, phase, where, number)
        if arm is None:
            continue
        shown = (event.slate_id, event.item_id)
        if event.type == "click":
            clicked.add(shown)
        else:
            used += 1
            seen[shown] = (arm, event.position)
    rows = tuple(_row(arm, position, shown in clicked) for shown, (arm, position) in seen.items())
    return EventLog(
        rows=rows,
        phases=tuple(sorted({arm.phase for arm, _ in seen.values()})),
        left_out=events - used - len(clicked & seen.keys()),
    )


def _row(arm: Arm, position: int, clicked: bool) -> Row:
    return Row(
        action=arm.variant,
        reward=float(clicked),
        propensity=arm.propensity,
        position=position,
        cluster=arm.unit,
    )


def _event(line: str, where: str, number: int) -> FeedbackEvent:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise TableInvalid(where, number, f"it is no event: {error}") from None


def _arm(
    event: FeedbackEvent, experiment: str, phase: int | None, where: str, number: int
) -> Arm | None:
    """The variant of the experiment that made the event's slate, if one did."""
    if event.exposure is None:
        return None
    for arm in _claims(event.exposure, where, number).arms:
        if arm.experiment == experiment and phase in (None, arm.phase):
            return arm
    return None


def _claims(token: str, where: str, number: int) -> Claims:
    try:
        payload = token.split(".")[2]
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=="), type=Claims)
    except (IndexError, ValueError, msgspec.MsgspecError):
        raise TableInvalid(where, number, "its exposure token is none of Podium's") from None
