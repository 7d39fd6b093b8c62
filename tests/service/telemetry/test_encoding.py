"""Our encoder says what the exporters' own says, in less time."""

import pytest
from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from service.telemetry import encoding, names
from service.telemetry.encoding import encode_spans

RESOURCE = Resource(
    {"service.name": "podium", "host.name": "a", "zones": ("a", "b")}, "https://x/1"
)
SCOPE = InstrumentationScope("podium", "1.2.3")
SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def context(number, *, is_remote=False, state=None) -> SpanContext:
    return SpanContext(number << 70 | 5, number, is_remote, SAMPLED, state)


def span(**told) -> ReadableSpan:
    usual = {"name": "podium.route", "context": context(1), "start_time": 7, "end_time": 9}
    return ReadableSpan(**usual | told, resource=RESOURCE, instrumentation_scope=SCOPE)


LINKS = [Link(context(4)), Link(context(5, is_remote=True))]
SPANS = (
    span(),
    span(kind=SpanKind.SERVER, parent=context(2, is_remote=True)),
    span(kind=SpanKind.CLIENT, parent=context(3), status=Status(StatusCode.ERROR)),
    span(context=context(6, state=TraceState([("vendor", "x"), ("other", "y")]))),
    # Equal to Python, and three different things to a collector; twice, from memory.
    *[span(attributes={"n": value}) for value in (1, 1.0, True, "1", 0, 0.0, False, "")] * 2,
    span(attributes={"text": "café \u2603", "far": 2**62, "below": -1.5, "other": -3}),
    span(attributes={"a": 1, "several": ("a", "b"), "too far": 2**70, "of a library": 7 + 0j}),
    span(links=LINKS),
    span(links=BoundedList.from_seq(1, LINKS)),
    span(events=[Event("seen", {"n": 1, "text": "a"}, 8), Event("again", {}, 9)]),
)


def in_order(request):
    """The attributes of a span have no order."""
    for told in request.resource_spans[0].scope_spans[0].spans:
        for holder in (told, *told.events):
            holder.attributes.sort(key=lambda pair: pair.key)
    return request


@pytest.mark.parametrize("spans", [*[[one] for one in SPANS], SPANS])
def test_it_says_what_the_exporters_own_encoder_says(spans):
    assert in_order(encode_spans(spans)) == in_order(trace_encoder.encode_spans(spans))


def test_a_text_that_is_no_unicode_costs_nobody_else_a_span():
    request = encode_spans([span(attributes={"text": "a\ud800b"}), span()])

    told = request.resource_spans[0].scope_spans[0].spans
    assert [pair.value.string_value for pair in told[0].attributes] == ["a?b"]
    assert len(told) == 2


async def test_the_exporter_uses_it_and_says_what_repeats_once(collector, open_shop, monkeypatch):
    shop = open_shop()
    async with shop.client() as http:
        for _ in range(20):
            await http.post("/v1/rank", json={})
    made = []
    whole = encoding.KeyValue
    monkeypatch.setattr(encoding, "KeyValue", lambda **told: (made.append(told), whole(**told))[1])
    shop.telemetry.shutdown()

    assert len(collector.named(names.SPAN_ROUTE)) == 20
    assert 0 < len(made) < sum(len(one.attributes) for one in collector.spans) / 2
