"""What the parent of several workers counts itself."""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from service.telemetry import names
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

    def workers_serve(self, number: int) -> None:
        self._workers.set(number)

    def worker_ended(self) -> None:
        """Unasked; it is started again."""
        self._restarts.inc()

    def families(self) -> Iterator[FamilySnapshot]:
        """All figures, metric by metric."""
        return map(family_snapshot, self._registry.collect())
