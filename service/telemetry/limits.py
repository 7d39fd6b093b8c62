"""How much a span may hold, as the OTEL_SPAN_* and OTEL_ATTRIBUTE_* variables have it.

What is written stays far below the limits that hold without them, so nothing
is copied unless a limit is passed or texts are to be cut.
"""

from collections.abc import Sequence
from math import inf

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext

from service.telemetry.finished import Attributes, SpanEvent


class Limits:
    """The limits that the variables set; the SDK reads them.

    Raises:
        ValueError: one is no number; its text names the variable.
    """

    def __init__(self) -> None:
        self._of = SpanLimits()
        self._cuts = self._of.max_span_attribute_length is not None
        self._most = _or_endless(self._of.max_span_attributes)
        self._most_of_event = _or_endless(self._of.max_event_attributes)
        self._most_events = _or_endless(self._of.max_events)
        self._most_links = _or_endless(self._of.max_links)

    def attributes(self, given: Attributes) -> Attributes | BoundedAttributes:
        """Of a span: the newest, each cut to length."""
        if not self._cuts and len(given) <= self._most:
            return given
        of = self._of
        return BoundedAttributes(
            of.max_span_attributes, given, max_value_len=of.max_span_attribute_length
        )

    def events(self, given: Sequence[SpanEvent]) -> "Sequence[Event]":
        """Of a span: the newest, with their attributes cut to length."""
        events = [self._event(event) for event in given]
        if len(events) <= self._most_events:
            return events
        return BoundedList.from_seq(self._of.max_events, events)

    def links(self, given: Sequence[SpanContext]) -> "Sequence[Link]":
        """Of a span: the newest."""
        links = [Link(context) for context in given]
        if len(links) <= self._most_links:
            return links
        return BoundedList.from_seq(self._of.max_links, links)

    def _event(self, event: SpanEvent) -> Event:
        of, given = self._of, event.attributes
        if of.max_attribute_length is None and len(given) <= self._most_of_event:
            return Event(event.name, given, event.at_ns)
        bounded = BoundedAttributes(
            of.max_event_attributes, given, max_value_len=of.max_attribute_length
        )
        return Event(event.name, bounded, event.at_ns)


def _or_endless(limit: int | None) -> float:
    return inf if limit is None else limit
