"""Which requests are recorded: decided before anything of a span is made.

The SDK decides inside ``start_span``, after it has begun to make the span, and
makes another object for a request that it leaves out. Here the configured
sampler is asked first, with the trace id that the request would get; only for
a request that it takes is a span started, with that id and that decision.
"""

from collections.abc import Sequence

from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, get_current_span
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes


class Draw(Struct, frozen=True, eq=False):
    """What was decided about one request, and the trace that it belongs to either way."""

    trace_id: int
    result: SamplingResult

    @property
    def sampled(self) -> bool:
        return self.result.decision is Decision.RECORD_AND_SAMPLE


class HandedIds(RandomIdGenerator):
    """Random ids, but for one that was drawn before. For the event loop's thread."""

    def __init__(self) -> None:
        self.trace_id: int | None = None
        """Of the next span without a parent."""

    def generate_trace_id(self) -> int:
        handed, self.trace_id = self.trace_id, None
        return super().generate_trace_id() if handed is None else handed


class HeadSampling(Sampler):
    """Decides about requests by another sampler.

    For the event loop's thread. ``ids`` belongs to the provider that has this as its sampler.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.ids = HandedIds()
        self._handed: SamplingResult | None = None

    def new_trace_id(self) -> int:
        return self.ids.generate_trace_id()

    def draw(self, name: str, caller: Context) -> Draw:
        """Decide about a request, in the trace of its caller if that tells of one."""
        parent = get_current_span(caller).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self.new_trace_id()
        result = self._sampler.should_sample(caller, trace_id, name, SpanKind.SERVER)
        return Draw(trace_id, result)

    def forced(self, caller: Context) -> Draw:
        """Take a request whatever the sampler would say."""
        parent = get_current_span(caller).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else self.new_trace_id()
        return Draw(trace_id, ALWAYS_ON.should_sample(caller, trace_id, ""))

    def hand(self, draw: Draw) -> None:
        """Let the next span that is started be the one that was drawn."""
        self._handed, self.ids.trace_id = draw.result, draw.trace_id

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        handed, self._handed = self._handed, None
        if handed is not None:
            return handed
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return f"HeadSampling{{{self._sampler.get_description()}}}"
