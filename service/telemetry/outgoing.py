"""Calls over HTTP that leave the process on behalf of a batch.

The spans of a batch are made when it has ended. What it asks another server
for meanwhile belongs to them all the same, so the ids that the other side is
told are drawn before, and given to the spans afterwards. Of a batch that is not
sampled the other side is told just that, or it would begin traces of its own.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct
from opentelemetry.baggage import set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.context import NO_BAGGAGE, Baggage, RequestTrace

_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


class OutgoingCall(Struct, kw_only=True, eq=False):
    """One request to another server. Times are seconds of the service's clock."""

    method: str
    url: str
    address: str
    port: int | None
    headers: dict[str, str]
    """To send along: ``traceparent``, and ``baggage`` if there is any."""
    span_id: int
    started_at: float
    finished_at: float = 0.0
    status: int | None = None
    """Of the reply, once it has come."""
    error_type: str | None = None


def _id(bits: int) -> int:
    return random.getrandbits(bits) or 1


_SAMPLED = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_UNSAMPLED = TraceFlags(TraceFlags.RANDOM_TRACE_ID)


class BatchTrace:
    """The trace of a batch while it is under way; sampled if one of its requests is.

    The thread that scores adds calls; the event loop's reads them when the batch has ended.
    """

    def __init__(self, baggage: Baggage = NO_BAGGAGE, *, sampled: bool = True) -> None:
        flags = _SAMPLED if sampled else _UNSAMPLED
        self.context = SpanContext(_id(128), _id(64), False, flags)
        self.sampled = sampled
        """Of the batch's own span."""
        self.calls: list[OutgoingCall] = []
        self._baggage = baggage

    def headers(self, span_id: int) -> dict[str, str]:
        """What tells another server of the call with this id."""
        trace_id, flags = self.context.trace_id, self.context.trace_flags
        span = SpanContext(trace_id, span_id, False, flags)
        context = set_span_in_context(NonRecordingSpan(span), Context())
        for name, value in self._baggage.items():
            context = set_baggage(name, value, context)
        carrier: dict[str, str] = {}
        _TRACE.inject(carrier, context)
        _BAGGAGE.inject(carrier, context)
        return carrier


def batch_trace(requests: Sequence[RequestTrace | None]) -> BatchTrace | None:
    """The trace of a batch, or None where none of its requests is sampled.

    Its baggage is what all its requests agree on: one caller's is not for another's.
    """
    sampled = [request for request in requests if request is not None]
    if not sampled:
        return None
    common = dict(sampled[0].baggage) if len(sampled) == len(requests) else dict(NO_BAGGAGE)
    for other in sampled[1:]:
        common = {name: value for name, value in common.items() if other.baggage.get(name) == value}
    return BatchTrace(common)


_current: ContextVar[BatchTrace | None] = ContextVar("current_batch", default=None)


@contextmanager
def in_batch(trace: BatchTrace | None) -> Iterator[None]:
    """What runs in here, on this thread, runs on behalf of a batch."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def outgoing_call(method: str, address: str, port: int | None, path: str) -> Iterator[OutgoingCall]:
    """A context around one request to another server; say there what status it answers with.

    Args:
        method: Of HTTP.
        address: Host name or address of the server.
        port: Its port; None for the usual one.
        path: What is asked for, without a query.
    """
    trace = _current.get()
    span_id = _id(64)
    host = address if port is None else f"{address}:{port}"
    call = OutgoingCall(
        method=method,
        url=f"http://{host}{path}",
        address=address,
        port=port,
        headers={} if trace is None else trace.headers(span_id),
        span_id=span_id,
        started_at=time.monotonic(),
    )
    try:
        yield call
    except BaseException as error:
        call.error_type = type(error).__name__
        raise
    finally:
        call.finished_at = time.monotonic()
        if trace is not None and trace.sampled:
            trace.calls.append(call)
