"""The spans of a request: its server span and the steps inside it.

Nothing is created for a request that is not sampled, and nothing is added to
one that has been answered: work after the reply belongs to no request.
"""

import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import Struct
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, get_current_span

from service.errors import RankingError
from service.telemetry import names
from service.telemetry.context import (
    NO_CONTEXT,
    Headers,
    RequestTrace,
    baggage_of,
    current_request,
    incoming_context,
)
from service.telemetry.finished import Attributes, Finished, child_of
from service.telemetry.server_span import ServerSpan

if TYPE_CHECKING:
    from service.telemetry.sampling import Draw, HeadSampling


class Tracers(Struct, frozen=True):
    """Where spans come from."""

    sampling: "HeadSampling"
    """Decides which requests are recorded."""
    finished: Finished
    """Takes every span when it has ended."""


class Step:
    """A span around a block of code; a block that fails marks it with the error's class."""

    __slots__ = ("_attributes", "_began_ns", "_failure", "_finished", "_kind", "_name", "_parent")

    def __init__(
        self,
        finished: Finished,
        name: str,
        parent: SpanContext,
        kind: SpanKind,
        attributes: Attributes,
    ) -> None:
        self._finished, self._name, self._parent = finished, name, parent
        self._kind, self._attributes = kind, attributes
        self._failure: str | None = None

    def __enter__(self) -> Self:
        self._began_ns = time.time_ns()
        return self

    def fail(self, error_type: str) -> None:
        """It has failed, whether or not the block raises."""
        self._failure = error_type

    def tell(self, name: str, value: str) -> None:
        self._attributes[name] = value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        # Only the class: messages of errors may name users and items.
        if kind is not None and self._failure is None:
            self._failure = kind.__name__
        self._finished.write(
            self._name,
            child_of(self._parent),
            self._parent,
            kind=self._kind,
            began_ns=self._began_ns,
            ended_ns=time.time_ns(),
            attributes=self._attributes,
            error_type=self._failure,
        )


class NoStep:
    """The step of a request that is not sampled: shared, and does nothing."""

    def __enter__(self) -> Self:
        return self

    def fail(self, error_type: str) -> None:
        """Nobody is told."""

    def tell(self, name: str, value: str) -> None:
        """Nobody is told."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Nothing was begun."""


NO_STEP = NoStep()


class Tracing:
    """Makes the spans of requests, or none while no collector is configured."""

    def __init__(self, tracers: Tracers | None) -> None:
        self._finished = None if tracers is None else tracers.finished
        self._sampling = None if tracers is None else tracers.sampling
        self._drawn: Draw | None = None

    def leaves_out_next(self, method: str) -> bool:
        """Decide about the request that begins next on this thread, which tells of no trace.

        Returns:
            True: it is not sampled, and nobody has to begin it. Else it has to be begun next.
        """
        if self._sampling is None:
            return True
        drawn = self._sampling.draw(method, NO_CONTEXT)
        self._drawn = drawn if drawn.sampled else None
        return not drawn.sampled

    def left_out(self) -> RequestTrace:
        """Of a request that is not sampled, as `leaves_out_next` said."""
        return RequestTrace(trace_id=self._sampling.new_trace_id() if self._sampling else 0)

    def request(self, method: str, headers: Headers, *, forced: bool = False) -> RequestTrace:
        """Begin the server span of a request, in the trace of its caller if there is one.

        Without a collector the caller's context still reaches the log lines.

        Args:
            method: As the convention has it: one of nine, or HTTP.
            headers: May tell of the caller's trace.
            forced: Record it, whatever the caller and the sampler say.
        """
        caller = incoming_context(headers)
        if self._finished is None or self._sampling is None:
            told = get_current_span(caller).get_span_context() if caller else INVALID_SPAN_CONTEXT
            return RequestTrace(told)
        drawn, self._drawn = self._drawn, None
        if forced:
            drawn = self._sampling.forced(method, caller)
        elif drawn is None:
            drawn = self._sampling.draw(method, caller)
        if not drawn.sampled:
            return RequestTrace(trace_id=drawn.trace_id)
        attributes = dict(drawn.result.attributes or {})
        if forced:
            attributes[names.TRACE_FORCED] = True
        context = drawn.context()
        span = ServerSpan(self._finished, method, context, drawn.parent, attributes)
        return RequestTrace(context, span=span, baggage=baggage_of(caller))

    def step(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
    ) -> Step | NoStep:
        """A child of the current request's span, around a block of code."""
        if self._finished is None:
            return NO_STEP
        request = current_request.get()
        if request is None or not request.recording:
            return NO_STEP
        given = {} if attributes is None else attributes
        return Step(self._finished, name, request.context, kind, given)


def note_failure(error: Exception) -> None:
    """Tell the current request's span why it is answered with a problem; the first one counts.

    An error that is our own mistake is recorded with its stack, and without
    its message: messages may name users and items.
    """
    request = current_request.get()
    span = None if request is None else request.recorded
    if request is None or span is None or request.error_type is not None:
        return
    if isinstance(error, RankingError):
        request.error_type = error.code
        span.tell({names.ERROR_CODE: error.code})
        return
    request.error_type = type(error).__name__
    stack = "".join(traceback.format_tb(error.__traceback__))
    span.event(
        names.EVENT_EXCEPTION,
        {names.EXCEPTION_TYPE: request.error_type, names.EXCEPTION_STACKTRACE: stack},
    )
