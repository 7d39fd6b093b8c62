"""The request that is being served, as its spans and log lines see it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    SpanContext,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.server_span import ServerSpan

Headers = Iterable[tuple[bytes, bytes]]

NO_CONTEXT = Context()

Baggage = Mapping[str, object]
"""What a caller gives along for everybody downstream, by name."""

NO_BAGGAGE: Baggage = {}

_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()
_W3C_HEADERS = {b"traceparent": "traceparent", b"tracestate": "tracestate", b"baggage": "baggage"}


class RequestTrace:
    """One HTTP request, with the identity that correlates its spans and log lines.

    Made by the ASGI middleware and found through ``current_request`` by
    whatever runs on behalf of the request; only the event loop's thread
    touches it. A job in the batch queue carries it to its batch.
    """

    __slots__ = (
        "_span",
        "_trace_id",
        "baggage",
        "context",
        "error_type",
        "request_id",
        "variant",
    )

    def __init__(
        self,
        context: SpanContext = INVALID_SPAN_CONTEXT,
        *,
        span: ServerSpan | None = None,
        trace_id: int = 0,
        baggage: Baggage = NO_BAGGAGE,
    ) -> None:
        self.context = context
        """Of our server span; while nothing is exported, of the caller's; else not valid."""
        self._span = span
        self._trace_id = trace_id  # of a request that is not sampled, and has no span
        self.baggage = baggage
        self.request_id: str | None = None
        self.variant: str | None = None
        self.error_type: str | None = None

    @property
    def recorded(self) -> ServerSpan | None:
        """The server span, if it is sampled and has not ended."""
        span = self._span
        return None if span is None or span.has_ended else span

    @property
    def recording(self) -> bool:
        """Whether the server span is sampled and has not ended."""
        return self._span is not None and not self._span.has_ended

    def identity(self) -> dict[str, str]:
        """What a log line says about the request it belongs to; what is unknown is absent."""
        known: dict[str, str] = {}
        trace = self.context
        if trace.is_valid:
            known["trace_id"] = format_trace_id(trace.trace_id)
            known["span_id"] = format_span_id(trace.span_id)
            known["trace_flags"] = f"{trace.trace_flags:02x}"
        elif self._trace_id:
            known["trace_id"] = format_trace_id(self._trace_id)
            known["trace_flags"] = "00"
        if self.request_id is not None:
            known["request_id"] = self.request_id
        if self.variant is not None:
            known["variant"] = self.variant
        return known

    def exemplar(self) -> dict[str, str] | None:
        """The trace that a measurement points at, or None when it is not recorded."""
        if not self.recording:
            return None
        trace = self.context
        return {
            "trace_id": format_trace_id(trace.trace_id),
            "span_id": format_span_id(trace.span_id),
        }


current_request: ContextVar[RequestTrace | None] = ContextVar("current_request", default=None)


def incoming_context(headers: Headers) -> Context:
    """The caller's W3C trace context and baggage; empty without a valid one of either."""
    if not headers:
        return NO_CONTEXT
    carrier: dict[str, list[str]] = {}
    for name, value in headers:
        known = _W3C_HEADERS.get(name)
        if known is not None:
            carrier.setdefault(known, []).append(value.decode("latin-1"))
    context = NO_CONTEXT
    if "traceparent" in carrier:
        context = _TRACE.extract(carrier, context=context)
    if "baggage" in carrier:
        # A list that came in several lines is one list: RFC 9110 section 5.3.
        context = _BAGGAGE.extract({"baggage": [",".join(carrier["baggage"])]}, context=context)
    return context


def baggage_of(context: Context) -> Baggage:
    """What came along with a context."""
    return get_all(context) if context else NO_BAGGAGE


@contextmanager
def on_behalf_of(traceparent: bytes) -> Iterator[None]:
    """A request whose spans another process keeps: here its log lines name the trace.

    Args:
        traceparent: The caller's header; empty without one.
    """
    called = incoming_context([(b"traceparent", traceparent)] if traceparent else [])
    token = current_request.set(RequestTrace(get_current_span(called).get_span_context()))
    try:
        yield
    finally:
        current_request.reset(token)
