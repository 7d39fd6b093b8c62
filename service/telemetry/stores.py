"""Calls to a Redis server: a CLIENT span for each, and how long they take."""

from contextlib import AbstractContextManager
from types import TracebackType

from opentelemetry.trace import Span, SpanKind

from service.clock import Clock
from service.telemetry import names
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Attributes, Tracing


class StoreCalls:
    """Watches the calls to one Redis server."""

    def __init__(
        self,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        *,
        store: str,
        address: str,
        port: int | None,
        database: int,
    ) -> None:
        """Name the server.

        Args:
            store: What it is to us, such as ``cache`` or ``events``; a metric label.
            address: Host name, or the path of a unix socket.
            port: None for a unix socket.
            database: The number of the logical database.
        """
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock
        self._store = store
        self._attributes: Attributes = {
            names.DB_SYSTEM: "redis",
            names.DB_NAMESPACE: str(database),
            names.SERVER_ADDRESS: address,
        }
        if port is not None:
            self._attributes[names.SERVER_PORT] = port

    def call(self, operation: str) -> "StoreCall":
        """A context around one call; ``operation`` is the command, such as ``MGET``."""
        attributes = {**self._attributes, names.DB_OPERATION: operation}
        span = self._tracing.step(operation, SpanKind.CLIENT, attributes)
        return StoreCall(self._metrics, self._clock, self._store, operation, span)


class StoreCall:
    """One call on its way; a call that fails is measured under the class of its error."""

    __slots__ = ("_clock", "_metrics", "_operation", "_span", "_started_at", "_store")

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        store: str,
        operation: str,
        span: AbstractContextManager[Span],
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._store = store
        self._operation = operation
        self._span = span

    def __enter__(self) -> None:
        self._span.__enter__()
        self._started_at = self._clock.now()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        seconds = self._clock.now() - self._started_at
        self._metrics.store_called(
            self._store, self._operation, "" if kind is None else kind.__name__, seconds
        )
        self._span.__exit__(kind, error, stack)
