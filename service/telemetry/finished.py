"""Spans that have ended, and who takes them."""

import random
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from opentelemetry.trace import SpanContext, SpanKind

Attributes = dict[str, str | int | float | bool]


def child_of(parent: SpanContext, span_id: int | None = None) -> SpanContext:
    """The ids of a span in the same trace."""
    own = random.getrandbits(64) or 1 if span_id is None else span_id
    return SpanContext(parent.trace_id, own, False, parent.trace_flags, parent.trace_state)


class SpanEvent(Struct, frozen=True):
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    """Nanoseconds since 1970."""
    attributes: Attributes


class Finished(Protocol):
    """Takes spans that have ended, from the event loop's thread."""

    def write(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes,
        events: Sequence[SpanEvent] = (),
        links: Sequence[SpanContext] = (),
        error_type: str | None = None,
    ) -> None:
        """Send one on its way.

        Args:
            name: One of the SPAN_ names of ``names.py``, a command of Redis, or that of a route.
            context: Its own ids, with the flag of what is sampled.
            parent: None for the root of a trace.
            kind: Of span.
            began_ns: Nanoseconds since 1970.
            ended_ns: Likewise.
            attributes: Of the types that OpenTelemetry knows; not copied.
            events: In order.
            links: Other spans that it has to do with.
            error_type: Why it failed; None if it did not.
        """
        ...
