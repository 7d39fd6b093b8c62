"""Spans on their way to the collector: bounded, in the background, and counted when lost.

A collector that is dead, slow or hangs costs a request nothing: spans wait in
a bounded queue, a thread sends them, and what does not fit is dropped.
"""

import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from types import ModuleType

from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from service.errors import StartupError
from service.telemetry import names
from service.telemetry.encoding import encode_spans
from service.telemetry.finished import Attributes, SpanEvent
from service.telemetry.limits import Limits
from service.telemetry.sampling import HeadSampling
from service.telemetry.variables import ExportSettings, Protocol

SWITCH_INTERVAL_S = 0.0005
"""Spans are encoded by a thread, in pure Python, thousands at a time. Meanwhile the event
loop, whenever it comes back from a socket or an engine, waits this long for the interpreter
lock; Python's default of 5 ms would be the whole of a request."""

_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)

OnDrop = Callable[[names.DropReason, int], None]


class CountedExporter(SpanExporter):
    """Passes spans to another exporter and knows how many are under way.

    Any thread may call it: requests admit, the SDK's thread exports.
    """

    def __init__(self, exporter: SpanExporter, max_spans: int, on_drop: OnDrop) -> None:
        self._exporter = exporter
        self._max_spans = max_spans
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._pending = 0
        self._abandoned = False

    def admit(self) -> bool:
        """Take a place in the queue for one finished span, if there is one left."""
        with self._lock:
            admitted = self._pending < self._max_spans
            self._pending += admitted
        if not admitted:
            self._on_drop("queue_full", 1)
        return admitted

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._settle(len(spans), lost=result is not SpanExportResult.SUCCESS)
        return result

    def _settle(self, spans: int, *, lost: bool) -> None:
        with self._lock:
            self._pending -= spans
            lost = lost and not self._abandoned
        if lost:
            self._on_drop("export_failed", spans)

    def abandon(self) -> None:
        """Count whatever is still under way as lost, and stop trying to send it."""
        with self._lock:
            self._abandoned = True
            pending = self._pending
        if pending:
            self._on_drop("shutdown", pending)
        # Ends a wait between two attempts.
        self._exporter.shutdown()

    def shutdown(self) -> None:
        """End the connection, unless that has happened: the SDK's thread comes here last."""
        if not self._abandoned:
            self._exporter.shutdown()


class BoundedProcessor:
    """The SDK's batching processor behind a queue that is full when it says so.

    The SDK drops silently when its queue is full; here a span that has no
    place is counted and never enters it.
    """

    def __init__(self, exporter: CountedExporter, settings: ExportSettings) -> None:
        self._exporter = exporter
        self._batches = BatchSpanProcessor(
            exporter,
            max_queue_size=settings.max_queue_spans,
            max_export_batch_size=settings.max_batch_spans,
            schedule_delay_millis=settings.delay_ms,
        )

    def on_end(self, span: ReadableSpan) -> None:
        if self._exporter.admit():
            self._batches.on_end(span)

    def shutdown_within(self, timeout_s: float) -> None:
        """Send what is waiting, for at most ``timeout_s``; what is left is lost and counted."""
        # The SDK waits up to 30 s for its thread and offers no shorter wait.
        flush = threading.Thread(target=self._batches.shutdown, name="span-flush", daemon=True)
        flush.start()
        flush.join(timeout_s)
        if flush.is_alive():
            self._exporter.abandon()


class FinishedSpans:
    """Makes spans of what has happened: whole, at once, and never changed."""

    def __init__(
        self, processor: BoundedProcessor, resource: Resource, version: str, limits: Limits
    ) -> None:
        self._processor, self._resource, self._limits = processor, resource, limits
        self._scope = InstrumentationScope(names.SERVICE, version)

    def write(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes,
        events: Sequence[SpanEvent] = (),
        links: Sequence[SpanContext] = (),
        error_type: str | None = None,
    ) -> None:
        """As `Finished` says."""
        if error_type is not None:
            attributes[names.ERROR_TYPE] = error_type
        limits = self._limits
        self._processor.on_end(
            ReadableSpan(
                name=name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=limits.attributes(attributes),
                events=limits.events(events) if events else (),
                links=limits.links(links) if links else (),
                kind=kind,
                status=_UNSET if error_type is None else _ERROR,
                start_time=began_ns,
                end_time=ended_ns,
                instrumentation_scope=self._scope,
            )
        )


class SpanExport:
    """Decides which requests are recorded, and sends what is written of them."""

    def __init__(
        self, settings: ExportSettings, *, sample_ratio: float, version: str, on_drop: OnDrop
    ) -> None:
        """Start sending spans.

        Raises:
            StartupError: the SDK refuses one of its OTEL_* variables, or gRPC is not installed.
        """
        try:
            exporter = CountedExporter(_otlp(settings.protocol), settings.max_queue_spans, on_drop)
            resource = _resource(version)
            self._processor = BoundedProcessor(exporter, settings)
            self.sampling = HeadSampling(_sampler(settings, sample_ratio))
            self.finished = FinishedSpans(self._processor, resource, version, Limits())
        except (ValueError, OSError) as error:
            raise StartupError(f"OpenTelemetry: {error}") from None
        sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))

    def shutdown(self, timeout_s: float) -> None:
        """Flush and stop, within ``timeout_s`` whatever the collector does."""
        self._processor.shutdown_within(timeout_s)


def _otlp(protocol: Protocol) -> SpanExporter:
    """The SDK's exporter, which reads endpoint, headers and certificates from OTEL_* variables."""
    if protocol == "http/protobuf":
        _encode_by_ours(over_http)
        return over_http.OTLPSpanExporter()
    try:
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc
    except ImportError as error:
        raise StartupError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs a package ({error}): "
            "install podium[grpc], or use http/protobuf"
        ) from None
    _encode_by_ours(over_grpc)
    exporter: SpanExporter = over_grpc.OTLPSpanExporter()
    return exporter


def _encode_by_ours(exporter: ModuleType) -> None:
    """The exporter in that module looks its encoder up there, by this name."""
    vars(exporter)["encode_spans"] = encode_spans


def _sampler(settings: ExportSettings, ratio: float) -> Sampler:
    if settings.sampler_configured:
        # A provider that is given no sampler obeys OTEL_TRACES_SAMPLER.
        return TracerProvider(shutdown_on_exit=False).sampler
    return ParentBasedTraceIdRatio(ratio)


def _resource(version: str) -> Resource:
    ours = {
        "service.name": names.SERVICE,
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
    }
    # Attributes handed to create() win over OTEL_RESOURCE_ATTRIBUTES and
    # OTEL_SERVICE_NAME, so those are laid over ours first.
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})
