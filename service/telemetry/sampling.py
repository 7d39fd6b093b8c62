"""Which requests are recorded: decided before anything of a span is made."""

import random

from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, get_current_span

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SAMPLED_RANDOM = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)


class Draw(Struct, frozen=True, eq=False):
    """What was decided about one request, and the trace that it belongs to either way."""

    trace_id: int
    parent: SpanContext | None
    """The caller's span, if it told of one."""
    result: SamplingResult

    @property
    def sampled(self) -> bool:
        return self.result.decision is Decision.RECORD_AND_SAMPLE

    def context(self) -> SpanContext:
        """New ids for its span, if it is sampled."""
        is_random = self.parent is None or self.parent.trace_flags.random_trace_id
        flags = _SAMPLED_RANDOM if is_random else _SAMPLED
        return SpanContext(self.trace_id, _id(64), False, flags, self.result.trace_state)


class HeadSampling:
    """Decides about requests by a sampler of the SDK's."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def new_trace_id(self) -> int:
        return _id(128)

    def draw(self, name: str, caller: Context) -> Draw:
        """Decide about a request, in the trace of its caller if that tells of one."""
        return self._draw(self._sampler, name, caller)

    def forced(self, name: str, caller: Context) -> Draw:
        """Take a request whatever the sampler would say."""
        return self._draw(ALWAYS_ON, name, caller)

    def _draw(self, sampler: Sampler, name: str, caller: Context) -> Draw:
        told = get_current_span(caller).get_span_context()
        parent = told if told.is_valid else None
        trace_id = self.new_trace_id() if parent is None else parent.trace_id
        result = sampler.should_sample(caller, trace_id, name, SpanKind.SERVER)
        return Draw(trace_id, parent, result)


def _id(bits: int) -> int:
    return random.getrandbits(bits) or 1
