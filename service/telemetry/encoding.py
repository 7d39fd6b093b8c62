"""Spans as the bytes that a collector takes.

The exporters' own encoder makes two messages for every attribute of every
span, in Python: that was two thirds of what tracing costs. Most attributes say
the same in span after span, so here their bytes are kept. What comes out means
the same, as a test that asks both has it.
"""

from collections.abc import Sequence
from functools import lru_cache

from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

_whole = trace_encoder.encode_spans
_KINDS = {
    SpanKind.INTERNAL: Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: Span.SPAN_KIND_CLIENT,
}
_OURS = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _OURS | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_KEPT = 4096


def encode_spans(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The request that tells a collector of spans.

    Args:
        spans: One or more, all of the same resource and scope; internal, server and client spans.
    """
    request: ExportTraceServiceRequest = _whole(spans[:1])  # for the resource and the scope
    told = request.resource_spans[0].scope_spans[0].spans
    del told[:]
    for span in spans:
        try:
            _tell(told.add(), span)
        except (TypeError, ValueError):  # a sampler of somebody's own may add any attributes
            (alone,) = _whole([span]).resource_spans[0].scope_spans[0].spans
            told[-1].CopyFrom(alone)
    return request


def _tell(told: Span, span: ReadableSpan) -> None:
    context, parent = span.context, span.parent
    assert context is not None, "all of ours have one"
    told.trace_id, told.span_id = context.trace_id.to_bytes(16), context.span_id.to_bytes(8)
    if context.trace_state:
        told.trace_state = ",".join(
            [f"{key}={value}" for key, value in context.trace_state.items()]
        )
    if parent is not None:
        told.parent_span_id = parent.span_id.to_bytes(8)
    told.name, told.kind, told.flags = span.name, _KINDS[span.kind], _flags(parent)
    told.start_time_unix_nano, told.end_time_unix_nano = span.start_time or 0, span.end_time or 0
    told.dropped_attributes_count = span.dropped_attributes
    told.dropped_events_count = span.dropped_events
    told.dropped_links_count = span.dropped_links
    # One message after the other is both in one: that is how protobuf is defined.
    parts = [_status(span.status.status_code.value)]
    parts += [_attribute(Span, name, value) for name, value in (span.attributes or {}).items()]
    told.MergeFromString(b"".join(parts))
    for event in span.events:
        added = told.events.add(name=event.name, time_unix_nano=event.timestamp)
        added.dropped_attributes_count = event.dropped_attributes
        given = (event.attributes or {}).items()
        added.MergeFromString(b"".join([_attribute(Span.Event, *one) for one in given]))
    for link in span.links:
        to = link.context
        told.links.add(
            trace_id=to.trace_id.to_bytes(16), span_id=to.span_id.to_bytes(8), flags=_flags(to)
        )


def _flags(context: SpanContext | None) -> int:
    return _REMOTE if context is not None and context.is_remote else _OURS


@lru_cache
def _status(code: int) -> bytes:
    status = Status(code=Status.StatusCode.ValueType(code))
    return bytes(Span(status=status).SerializeToString())


@lru_cache(_KEPT, typed=True)  # 1, 1.0 and True are different attributes
def _attribute(of: type[Span] | type[Span.Event], name: str, value: object) -> bytes:
    """A message that has one attribute, and nothing else."""
    told = of(attributes=[KeyValue(key=name, value=_value(value))])
    return bytes(told.SerializeToString())


def _value(value: object) -> AnyValue:
    match value:
        case str():
            # What is no Unicode, of whoever sent it, must not cost all the others their spans.
            return AnyValue(string_value=value.encode("utf-8", "replace").decode())
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
    raise TypeError(f"{value!r} is no value of an attribute")
