"""The one object that the rest of the service is handed to tell what happens."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from litestar.types import ASGIApp

from service.clock import Clock
from service.telemetry.asgi import Exchange, MayForce, TelemetryMiddleware, nobody_may
from service.telemetry.batch_trace import BatchTracing
from service.telemetry.context import RequestTrace, current_request
from service.telemetry.metrics import Metrics
from service.telemetry.outgoing import BatchTrace, batch_trace
from service.telemetry.ranking import Ranking
from service.telemetry.records import BatchRecord
from service.telemetry.stores import StoreCalls
from service.telemetry.tracing import NoStep, Step, Tracers, Tracing
from service.telemetry.variables import ExportSettings

if TYPE_CHECKING:
    from service.telemetry.export import SpanExport

SHUTDOWN_TIMEOUT_S = 2.0


class Telemetry:
    """Spans and metrics of what happens, in the words of ranking.

    Steps, rankings and calls are contexts around a block of code; a batch is
    reported when it has ended. Called from the event loop's thread.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        export: "SpanExport | None",
        *,
        context_ids: bool = False,
    ) -> None:
        """Use ``create_telemetry``; without ``export`` there are no spans."""
        tracers = None
        if export is not None:
            tracers = Tracers(export.sampling, export.finished)
        self.metrics = metrics
        self._clock = clock
        self._export = export
        self._context_ids = context_ids
        self._tracing = Tracing(tracers)
        self._batches = BatchTracing(tracers, clock)

    def middleware(self, app: ASGIApp, may_force: MayForce = nobody_may) -> ASGIApp:
        """Wrap the whole application, so that what the framework refuses counts as well.

        Args:
            app: The application.
            may_force: Whether a caller who asks for it gets its request recorded.
        """
        return TelemetryMiddleware(app, self._tracing, self.metrics, self._clock, may_force)

    def exchange(
        self, scope: Mapping[str, Any], *, traced: bool = True, left_out: bool = False
    ) -> Exchange:
        """A context around a request that does not come through the middleware.

        Args:
            scope: Of ASGI's: type, method, path, path_template, query_string, scheme, headers,
                http_version and server.
            traced: Whether the headers may tell of a trace that the request belongs to.
            left_out: `leaves_out_next` has said so.
        """
        return Exchange(
            scope, self._tracing, self.metrics, self._clock, traced=traced, left_out=left_out
        )

    def leaves_out_next(self, method: str) -> bool:
        """Whether the request that begins next, which tells of no trace, is not recorded.

        Decided here, once for each call. If it is not left out, its `exchange` has to be the
        next one that is made.
        """
        return self._tracing.leaves_out_next(method)

    def ranking(self, arrived_at: float, request_id: str | None = None) -> Ranking:
        """A context around the ranking of one request; say there what becomes of it.

        Args:
            arrived_at: When the request came, on the service's clock.
            request_id: The caller's, for log lines.
        """
        return Ranking(self.metrics, self._clock, arrived_at, request_id, self._context_ids)

    def step(self, name: str) -> Step | NoStep:
        """A span around a block of code; shared and without effect in unsampled requests.

        Args:
            name: One of the SPAN_ names of ``names.py``.
        """
        return self._tracing.step(name)

    def store(self, store: str, *, address: str, port: int | None, database: int = 0) -> StoreCalls:
        """What watches the calls to one Redis server; made once, beside its client.

        Args:
            store: What the server is to us: ``cache`` or ``events``.
            address: Host name, or the path of a unix socket.
            port: None for a unix socket.
            database: The number of the logical database.
        """
        return StoreCalls(
            self._tracing,
            self.metrics,
            self._clock,
            store=store,
            address=address,
            port=port,
            database=database,
        )

    def sampled_request(self) -> RequestTrace | None:
        """The current request if its spans are recorded: what a job takes to its batch."""
        if self._export is None:
            return None
        request = current_request.get()
        return request if request is not None and request.recording else None

    def batch_trace(self, requests: Sequence[RequestTrace | None]) -> BatchTrace | None:
        """The trace of a batch of these requests; None while nothing is exported."""
        if self._export is None:
            return None
        return batch_trace(requests) or BatchTrace(sampled=False)

    def batch(self, batch: BatchRecord) -> None:
        """A batch has ended. Call this before its jobs are answered, or right after."""
        self.metrics.batch(batch)
        self._batches.record(batch)

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Send the spans that wait, for at most ``timeout_s``; blocks that long at worst."""
        if self._export is not None:
            self._export.shutdown(timeout_s)


def create_telemetry(
    *,
    sample_ratio: float,
    context_ids: bool = False,
    export: ExportSettings,
    surfaces: Iterable[str],
    version: str,
    clock: Clock,
    triton_names: bool = False,
) -> Telemetry:
    """Telemetry as configured; it owns a thread when it exports, so end it by ``shutdown``.

    Args:
        sample_ratio: Share of the traces begun here that are recorded.
        context_ids: Whether spans tell a digest of whom experiments decided for.
        export: Whether and how spans leave; from ``export_settings``.
        surfaces: The configured ones; any other is counted as ``other``.
        version: Of the service, for ``service.version`` and ``podium_build_info``.
        clock: The service's.
        triton_names: Whether metrics have Triton's names as well.

    Raises:
        StartupError: an OTEL_* variable that the SDK cannot use.
    """
    metrics = Metrics(surfaces, version=version, triton_names=triton_names)
    if not export.endpoint_configured:
        return Telemetry(metrics, clock, None)
    # The SDK and its exporter take 0.2 s to import and are not needed without a collector.
    from service.telemetry.export import SpanExport

    return Telemetry(
        metrics,
        clock,
        SpanExport(
            export, sample_ratio=sample_ratio, version=version, on_drop=metrics.spans_dropped
        ),
        context_ids=context_ids,
    )
