"""The span of a request while it is being answered.

The SDK's own takes a lock and copies what it is told, since any thread may
change it, and that is most of what it costs. This one belongs to the event
loop's thread, and is handed on whole when it ends.
"""

import time

from opentelemetry.trace import SpanContext, SpanKind

from service.telemetry.finished import Attributes, Finished, SpanEvent, child_of


class ServerSpan:
    """Begins when it is made; until it ends it may be added to.

    Args:
        finished: Takes it when it has ended.
        name: Until the route is known.
        context: Its own ids.
        parent: The caller's span, if there is one.
        attributes: To begin with; not copied.
    """

    __slots__ = (
        "_attributes",
        "_began_ns",
        "_error_type",
        "_events",
        "_finished",
        "_links",
        "_parent",
        "context",
        "has_ended",
        "name",
    )

    def __init__(
        self,
        finished: Finished,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
    ) -> None:
        self.name, self.context, self.has_ended = name, context, False
        self._finished, self._parent, self._attributes = finished, parent, attributes
        self._events: list[SpanEvent] = []
        self._links: list[SpanContext] = []
        self._error_type: str | None = None
        self._began_ns = time.time_ns()

    def began(self, seconds: float) -> None:
        """It did so long before now."""
        self._began_ns = time.time_ns() - int(seconds * 1e9)

    def step(self, name: str, after_s: float, until_s: float) -> None:
        """A child of it, of what was done between these times since it began."""
        self._finished.write(
            name,
            child_of(self.context),
            self.context,
            began_ns=self._began_ns + int(after_s * 1e9),
            ended_ns=self._began_ns + int(until_s * 1e9),
            attributes={},
        )

    def tell(self, attributes: Attributes) -> None:
        """Add attributes; one of the same name is replaced."""
        self._attributes.update(attributes)

    def event(self, name: str, attributes: Attributes) -> None:
        """Something happened just now."""
        self._events.append(SpanEvent(name, time.time_ns(), attributes))

    def link(self, context: SpanContext) -> None:
        """Another span has to do with it."""
        self._links.append(context)

    def fail(self, error_type: str) -> None:
        """It is an error."""
        self._error_type = error_type

    def end(self) -> None:
        """Hand it on; once."""
        self.has_ended = True
        self._finished.write(
            self.name,
            self.context,
            self._parent,
            kind=SpanKind.SERVER,
            began_ns=self._began_ns,
            ended_ns=time.time_ns(),
            attributes=self._attributes,
            events=self._events,
            links=self._links,
            error_type=self._error_type,
        )
