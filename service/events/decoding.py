"""From a body to events: one bad event is refused alone, and says where it is wrong."""

from datetime import datetime
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from service.errors import InvalidRequest, MalformedBody, split_place
from service.messages import EventResult, FeedbackEvent


class _Identified(Struct):
    """What a rejected result needs of a bad event, if it has that much."""

    event_id: Annotated[str, Meta(max_length=256)]


_EVENT = msgspec.json.Decoder(FeedbackEvent)
_IDENTIFIED = msgspec.json.Decoder(_Identified)
_OBJECT = msgspec.json.Decoder(Raw)
_ARRAY = msgspec.json.Decoder(list[Raw])
_ZONED = Annotated[datetime, Meta(tz=True)]


def decode_events(
    body: bytes, *, lines: bool, max_events: int
) -> list[FeedbackEvent | EventResult]:
    """The events of a body in their order; what is no event is its rejected result.

    Args:
        body: One JSON object or an array of them; with ``lines`` an object per line.
        lines: The body is NDJSON. A line that is not JSON is one rejected event,
            so that a log shipper is not stuck for ever behind one broken line.
        max_events: More than these are refused as a whole.

    Raises:
        MalformedBody: not JSON; says at which byte.
        InvalidRequest: too many events, or JSON that cannot hold any.
    """
    _check_is_text(body)
    if lines:
        elements = [line for line in body.split(b"\n") if line.strip()]
    elif body.lstrip().startswith(b"["):
        elements = _elements(body)
    else:
        return [_event(_object(body), "$")]
    if len(elements) > max_events:
        raise InvalidRequest(f"{len(elements)} events in one call, the limit is {max_events}", "$")
    if lines:
        _check_some_line_is_json(elements)
    return [_event(element, f"$[{at}]") for at, element in enumerate(elements)]


def unix_seconds(timestamp: str) -> float:
    """Seconds of an RFC 3339 time with a zone.

    Raises:
        msgspec.ValidationError: it is none.
    """
    moment: datetime = msgspec.convert(timestamp, _ZONED)
    return moment.timestamp()


def _event(element: bytes, path: str) -> FeedbackEvent | EventResult:
    try:
        event = _EVENT.decode(element)
    except msgspec.ValidationError as error:
        message, within = split_place(error)
        return _rejected(element, path + within.removeprefix("$"), message)
    except msgspec.DecodeError as error:
        return _rejected(element, path, str(error))
    try:
        unix_seconds(event.timestamp)
    except msgspec.ValidationError as error:
        return _rejected(element, f"{path}.timestamp", str(error))
    return event


def _rejected(element: bytes, path: str, why: str) -> EventResult:
    try:
        event_id = _IDENTIFIED.decode(element).event_id
    except (msgspec.DecodeError, RecursionError):
        event_id = None
    return EventResult(
        event_id=event_id, status="rejected", code="invalid_event", detail=f"{path}: {why}"
    )


def _check_is_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"not UTF-8 at byte {error.start}") from None


def _object(body: bytes) -> bytes:
    """The body as one element, if it is one JSON object."""
    try:
        element = bytes(_OBJECT.decode(body))
    except RecursionError:
        element = body
    except msgspec.DecodeError as error:
        raise _malformed(error, body) from None
    if not element.lstrip().startswith(b"{"):
        raise InvalidRequest("an event is an object, and several are an array of objects", "$")
    return element


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(element) for element in _ARRAY.decode(body)]
    except RecursionError:
        return _elements_around_a_bomb(body)
    except msgspec.DecodeError as error:
        raise _malformed(error, body) from None


def _elements_around_a_bomb(body: bytes) -> list[bytes]:
    """Split an array of which an element is nested too deeply for the decoder.

    Finds the commas at depth 1 outside of strings, for all bytes at once: a
    loop over a body full of brackets would hold up the event loop.
    """
    # Same length, and every quote that is left opens or closes a string.
    bare = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    text = np.frombuffer(bare, np.uint8)
    outside = np.cumsum(text == ord('"')) % 2 == 0
    opens = outside & ((text == ord("[")) | (text == ord("{")))
    closes = outside & ((text == ord("]")) | (text == ord("}")))
    depth = np.cumsum(opens.astype(np.int32) - closes)
    if depth[-1] != 0:
        raise MalformedBody("the JSON is nested too deeply, and its brackets do not match")
    cuts = np.flatnonzero(outside & (text == ord(",")) & (depth == 1)).tolist()
    ends = [bare.index(b"["), *cuts, bare.rindex(b"]")]
    return [body[start + 1 : end] for start, end in pairwise(ends)]


def _check_some_line_is_json(elements: list[bytes]) -> None:
    """Refuse what is no NDJSON at all, such as JSON printed over several lines."""
    first: MalformedBody | None = None
    for at, element in enumerate(elements):
        try:
            _OBJECT.decode(element)
        except RecursionError:
            return
        except msgspec.DecodeError as error:
            first = first or _malformed(error, element, f"line {at + 1}: ")
        else:
            return
    if first is not None:
        raise first


def _malformed(error: msgspec.DecodeError, body: bytes, where: str = "") -> MalformedBody:
    message = str(error)
    if "(byte " not in message:
        message = f"{message} (byte {len(body)})"  # truncated: the end is the place
    return MalformedBody(where + message)
