"""The spans of a request: its server span and the steps inside it.

Nothing is created for a request that is not sampled, and nothing is added to
one that has been answered: work after the reply belongs to no request.
"""

import traceback
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from msgspec import Struct
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.span import INVALID_SPAN

from service.errors import RankingError
from service.telemetry import names
from service.telemetry.context import (
    NO_CONTEXT,
    Headers,
    RequestTrace,
    current_request,
    incoming_context,
)

Attributes = dict[str, str | int | float | bool]

NO_STEP: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
"""The step of a request that is not sampled: shared, and does nothing."""


class Tracers(Struct, frozen=True):
    """Where spans come from: ``requests`` samples, ``batches`` always records."""

    requests: Tracer
    batches: Tracer


class Step:
    """A span around a block of code; a block that fails marks it with the error's class."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        # Only the class: messages of errors may name users and items.
        if kind is not None:
            mark_failed(self._span, kind.__name__)
        self._span.end()


class Tracing:
    """Makes the spans of requests, or none while no collector is configured."""

    def __init__(self, tracers: Tracers | None) -> None:
        self._tracer = None if tracers is None else tracers.requests

    def request(self, method: str, headers: Headers) -> RequestTrace:
        """Begin the server span of a request, in the trace of its caller if there is one.

        Without a collector the caller's context still reaches the log lines.
        """
        caller = incoming_context(headers)
        if self._tracer is None:
            return RequestTrace(INVALID_SPAN if caller is NO_CONTEXT else get_current_span(caller))
        return RequestTrace(self._tracer.start_span(method, context=caller, kind=SpanKind.SERVER))

    def step(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """A child of the current request's span, around a block of code."""
        if self._tracer is None:
            return NO_STEP
        request = current_request.get()
        if request is None or not request.recording:
            return NO_STEP
        return Step(
            self._tracer.start_span(name, context=request.context, kind=kind, attributes=attributes)
        )


def mark_failed(span: Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(StatusCode.ERROR)


def note_failure(error: Exception) -> None:
    """Tell the current request's span why it is answered with a problem; the first one counts.

    An error that is our own mistake is recorded with its stack, and without
    its message: messages may name users and items.
    """
    request = current_request.get()
    if request is None or not request.recording or request.error_type is not None:
        return
    if isinstance(error, RankingError):
        request.error_type = error.code
        request.span.set_attribute(names.ERROR_CODE, error.code)
        return
    request.error_type = type(error).__name__
    stack = "".join(traceback.format_tb(error.__traceback__))
    request.span.add_event(
        names.EVENT_EXCEPTION,
        {names.EXCEPTION_TYPE: request.error_type, names.EXCEPTION_STACKTRACE: stack},
    )
