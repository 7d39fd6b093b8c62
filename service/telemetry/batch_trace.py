"""The spans of a batch: its own trace, linked with the sampled requests in it.

A batch serves many requests and so is the child of none. It is recorded after
the fact, once, and only if one of its members is sampled. The links go both
ways because most tools show only those that leave a span.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from opentelemetry.trace import SpanContext, SpanKind

from service.clock import Clock
from service.telemetry import names
from service.telemetry.context import RequestTrace
from service.telemetry.finished import Attributes, Finished, child_of
from service.telemetry.outgoing import BatchTrace, OutgoingCall, batch_trace
from service.telemetry.records import BatchMember, BatchRecord, EngineCall
from service.telemetry.tracing import Tracers

_CLIENT_ERRORS = 400

UnixNs = Callable[[float], int]
"""Seconds of the service's clock to nanoseconds since 1970."""


class _Sampled(Struct, frozen=True):
    """A member whose request is sampled, and its place in the batch."""

    index: int
    member: BatchMember
    request: RequestTrace


class BatchTracing:
    """Turns batch records into spans, or into nothing while no collector is configured."""

    def __init__(self, tracers: Tracers | None, clock: Clock) -> None:
        self._finished = None if tracers is None else tracers.finished
        self._clock = clock

    def record(self, batch: BatchRecord) -> None:
        """Record a batch that has ended; without a sampled member it leaves no trace."""
        if self._finished is None:
            return
        trace = batch.trace or batch_trace([member.request for member in batch.members])
        if trace is None or not trace.sampled:
            return
        sampled = [
            _Sampled(index, member, member.request)
            for index, member in enumerate(batch.members)
            if member.request is not None
        ]
        at = self._unix_ns()
        _batch_spans(self._finished, batch, trace, sampled, at)
        for one in sampled:
            _member_spans(self._finished, batch, one, trace.context, at)

    def _unix_ns(self) -> UnixNs:
        offset_s = self._clock.wall() - self._clock.now()
        return lambda at_s: int((offset_s + at_s) * 1e9)


def _batch_spans(
    finished: Finished,
    batch: BatchRecord,
    trace: BatchTrace,
    sampled: Sequence[_Sampled],
    at: UnixNs,
) -> None:
    """The root span of the batch and one child for each call of an engine."""
    for call in batch.calls:
        context = child_of(trace.context)
        for made in trace.calls:
            if call.started_at <= made.started_at <= call.finished_at:
                _outgoing_span(finished, made, context, at)
        _engine_span(finished, call, context, trace.context, at)
    linked = sampled[: names.MAX_BATCH_LINKS]
    attributes = _batch_attributes(batch)
    if len(linked) < len(sampled):
        attributes[names.BATCH_LINKS_DROPPED] = len(sampled) - len(linked)
    finished.write(
        names.SPAN_BATCH,
        trace.context,
        None,
        began_ns=at(batch.taken_at),
        ended_ns=at(batch.finished_at),
        attributes=attributes,
        links=[one.request.context for one in linked],
        error_type=batch.error_type,
    )


def _engine_span(
    finished: Finished, call: EngineCall, context: SpanContext, parent: SpanContext, at: UnixNs
) -> None:
    finished.write(
        names.SPAN_ENGINE,
        context,
        parent,
        began_ns=at(call.started_at),
        ended_ns=at(call.finished_at),
        attributes={names.ENGINE: call.engine, names.ROWS: call.rows},
        error_type=call.error_type,
    )


def _outgoing_span(finished: Finished, made: OutgoingCall, engine: SpanContext, at: UnixNs) -> None:
    """Of a request that an engine's call made to another server, as its side was told."""
    attributes: Attributes = {
        names.HTTP_METHOD: made.method,
        names.URL_FULL: made.url,
        names.SERVER_ADDRESS: made.address,
    }
    if made.port is not None:
        attributes[names.SERVER_PORT] = made.port
    refused = None
    if made.status is not None:
        attributes[names.HTTP_STATUS] = made.status
        refused = str(made.status) if made.status >= _CLIENT_ERRORS else None
    finished.write(
        made.method,
        child_of(engine, made.span_id),
        engine,
        kind=SpanKind.CLIENT,
        began_ns=at(made.started_at),
        ended_ns=at(made.finished_at),
        attributes=attributes,
        error_type=made.error_type or refused,
    )


def _batch_attributes(batch: BatchRecord) -> Attributes:
    attributes: Attributes = {
        names.MODEL: batch.model,
        names.PRECISION: batch.precision,
        names.BATCH_ROWS: batch.rows,
        names.BATCH_JOBS: len(batch.members),
        names.BATCH_REASON: batch.reason,
        names.BATCH_WAITING_ROWS: batch.waiting_rows,
        names.BATCH_OLDEST_WAIT_MS: round(batch.oldest_wait_s * 1000, 3),
        names.BATCH_EXECUTING: batch.executing,
        names.BATCH_DUPLICATE_ROWS: batch.duplicate_rows,
    }
    if batch.arrival_rows_per_s is not None:
        attributes[names.BATCH_ARRIVAL_ROWS_PER_S] = round(batch.arrival_rows_per_s, 1)
    if batch.fixed_s is not None and batch.row_s is not None:
        attributes[names.BATCH_FIXED_MS] = round(batch.fixed_s * 1000, 4)
        attributes[names.BATCH_ROW_US] = round(batch.row_s * 1e6, 4)
    return attributes


def _member_spans(
    finished: Finished, batch: BatchRecord, one: _Sampled, link: SpanContext, at: UnixNs
) -> None:
    """What the batch was to one request: the wait for it, and the scoring in it."""
    parent, member = one.request.context, one.member
    left_ms = round((member.deadline_at - batch.taken_at) * 1000, 3)
    finished.write(
        names.SPAN_QUEUE,
        child_of(parent),
        parent,
        began_ns=at(member.arrived_at),
        ended_ns=at(batch.taken_at),
        attributes={names.ROWS: member.rows, names.DEADLINE_LEFT_MS: left_ms},
    )
    finished.write(
        names.SPAN_SCORE,
        child_of(parent),
        parent,
        began_ns=at(batch.taken_at),
        ended_ns=at(batch.finished_at),
        attributes={
            names.ROWS: member.rows,
            names.BATCH_ROWS: batch.rows,
            names.BATCH_INDEX: one.index,
        },
        links=[link],
        error_type=batch.error_type,
    )
    # A request whose deadline has passed is answered already; its span takes no more links.
    if (span := one.request.recorded) is not None:
        span.link(link)
