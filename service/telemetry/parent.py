"""What the parent of several workers counts itself."""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.registry import Collector

from service.telemetry import names
from service.telemetry.instruments import engine_process_restarts
from service.telemetry.merging import FamilySnapshot, family_snapshot


class ParentMetrics:
    """The figures of the parent process, and of its workers as it sees them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._workers = Gauge(names.M_WORKERS, "Workers that serve", registry=self._registry)
        self._restarts = Counter(
            names.M_WORKER_RESTARTS, "Workers that ended unasked", registry=self._registry
        )
        self._engine_process_restarts = engine_process_restarts(self._registry)

    def workers_serve(self, number: int) -> None:
        self._workers.set(number)

    def worker_ended(self) -> None:
        """Unasked; it is started again."""
        self._restarts.inc()

    def engine_process_ended(self) -> None:
        """Unasked; it is started again. From any thread."""
        self._engine_process_restarts.inc()

    def collect_from(self, collector: Collector) -> None:
        """Show what a collector has."""
        self._registry.register(collector)

    def families(self) -> Iterator[FamilySnapshot]:
        """All figures, metric by metric."""
        return map(family_snapshot, self._registry.collect())
