"""The spans of a batch: its own trace, linked with the sampled requests in it.

A batch serves many requests and so is the child of none. It is recorded after
the fact, once, and only if one of its members is sampled. The links go both
ways because most tools show only those that leave a span.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from opentelemetry.trace import Link, Span, Tracer, set_span_in_context

from service.clock import Clock
from service.telemetry import names
from service.telemetry.context import NO_CONTEXT, RequestTrace
from service.telemetry.records import BatchMember, BatchRecord
from service.telemetry.tracing import Attributes, Tracers, mark_failed

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
        self._tracers = tracers
        self._clock = clock

    def record(self, batch: BatchRecord) -> None:
        """Record a batch that has ended; without a sampled member it leaves no trace."""
        if self._tracers is None:
            return
        sampled = [
            _Sampled(index, member, member.request)
            for index, member in enumerate(batch.members)
            if member.request is not None
        ]
        if sampled:
            at = self._unix_ns()
            span = _batch_span(self._tracers.batches, batch, sampled, at)
            for one in sampled:
                _member_spans(self._tracers.requests, batch, one, Link(span.get_span_context()), at)

    def _unix_ns(self) -> UnixNs:
        offset_s = self._clock.wall() - self._clock.now()
        return lambda at_s: int((offset_s + at_s) * 1e9)


def _batch_span(
    tracer: Tracer, batch: BatchRecord, sampled: Sequence[_Sampled], at: UnixNs
) -> Span:
    """The root span of the batch and one child for each call of an engine."""
    linked = sampled[: names.MAX_BATCH_LINKS]
    span = tracer.start_span(
        names.SPAN_BATCH,
        context=NO_CONTEXT,
        # Given at the start: samplers of other tools see only those links.
        links=[Link(one.request.span.get_span_context()) for one in linked],
        start_time=at(batch.taken_at),
        attributes=_batch_attributes(batch),
    )
    if len(linked) < len(sampled):
        span.set_attribute(names.BATCH_LINKS_DROPPED, len(sampled) - len(linked))
    context = set_span_in_context(span, NO_CONTEXT)
    for call in batch.calls:
        attributes: Attributes = {names.ENGINE: call.engine, names.ROWS: call.rows}
        engine = tracer.start_span(
            names.SPAN_ENGINE,
            context=context,
            start_time=at(call.started_at),
            attributes=attributes,
        )
        _end(engine, call.error_type, at(call.finished_at))
    _end(span, batch.error_type, at(batch.finished_at))
    return span


def _batch_attributes(batch: BatchRecord) -> Attributes:
    attributes: dict[str, str | int | float] = {
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
    tracer: Tracer, batch: BatchRecord, one: _Sampled, link: Link, at: UnixNs
) -> None:
    """What the batch was to one request: the wait for it, and the scoring in it."""
    context, member = one.request.context, one.member
    left_ms = round((member.deadline_at - batch.taken_at) * 1000, 3)
    waited: Attributes = {names.ROWS: member.rows, names.DEADLINE_LEFT_MS: left_ms}
    queue = tracer.start_span(
        names.SPAN_QUEUE, context=context, start_time=at(member.arrived_at), attributes=waited
    )
    queue.end(at(batch.taken_at))
    scored: Attributes = {
        names.ROWS: member.rows,
        names.BATCH_ROWS: batch.rows,
        names.BATCH_INDEX: one.index,
    }
    score = tracer.start_span(
        names.SPAN_SCORE,
        context=context,
        links=[link],
        start_time=at(batch.taken_at),
        attributes=scored,
    )
    _end(score, batch.error_type, at(batch.finished_at))
    # A request whose deadline has passed is answered already; its span takes no more links.
    if one.request.recording:
        one.request.span.add_link(link.context)


def _end(span: Span, error_type: str | None, at_ns: int) -> None:
    if error_type is not None:
        mark_failed(span, error_type)
    span.end(at_ns)
