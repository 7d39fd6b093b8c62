"""Every metric: its kind, its labels and what it means.

Labels take values from the settings and from short lists in the code, never
from a request, so the number of series is bounded whatever is sent to us.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Self, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.errors import DeadlineUnreachable, QueueFull
from service.messages import CacheLevel, CacheResult, Degraded
from service.telemetry import names
from service.telemetry.tallies import counter, gauge, histogram

Counts = Callable[[], Mapping[str, int]]
Rows = Callable[[], Mapping[tuple[str, ...], float]]
"""Label values to figure."""

Kind = TypeVar("Kind", bound=MetricWrapperBase)

# fmt: off
SECONDS_BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025,
    0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5,
)
# fmt: on
"""Fine between 1 and 50 ms, where a ranking lives; the advised HTTP buckets begin at 5 ms."""
AGE_BUCKETS = (0.1, 1.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 86_400.0)
OVERLAP_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
# Values below 0 have no sum in Prometheus, and with a bound below 0 none is shown.
TAU_BUCKETS = (-0.5, 0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
DRIFT_BUCKETS = (1e-6, 1e-5, 1e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""From rounding, over fp16 (1e-5) and int8 (1e-3), to another model."""
PADDING_BUCKETS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 400, 512, 1024, 2048, 4096)


class Series(dict[tuple[str, ...], Kind], Generic[Kind]):
    """The children of a metric by label values.

    A dictionary look-up instead of ``labels()``, which takes a lock and
    converts every value each time.
    """

    def __init__(self, metric: Kind) -> None:
        self._metric = metric

    def expect(self, *values: str) -> Self:
        """Begin at 0 for these values of a single label.

        A series that appears with its first event hides that event: an
        increase from nothing to 1 is none.
        """
        for value in values:
            self[(value,)]
        return self

    def clear(self) -> None:
        """Show none of them any more."""
        super().clear()
        self._metric.clear()

    def __missing__(self, values: tuple[str, ...]) -> Kind:
        child = self[values] = self._metric.labels(*values)
        return child


class Asked(Collector):
    """Figures that a component keeps itself, read whenever the page is made."""

    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        meaning: str,
        labels: Sequence[str],
        rows: Rows,
    ) -> None:
        self._family, self._name, self._meaning = family, name, meaning
        self._labels, self._rows = labels, rows

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._meaning, labels=self._labels)
        for values, figure in self._rows().items():
            family.add_metric(values, figure)
        yield family


class Instruments:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        # The time a series began, as a series of its own, doubles their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._http()
        self._rankings()
        self._batches()
        self._stores()
        self._feedback()
        self._shadow()

    def mirror(self, name: str, meaning: str, label: str, counts: Counts) -> None:
        self.counters(name, meaning, (label,), lambda: {(v,): n for v, n in counts().items()})

    def counters(self, name: str, meaning: str, labels: Sequence[str], rows: Rows) -> None:
        """Show what somebody else counts; asked with the page."""
        self.registry.register(Asked(CounterMetricFamily, name, meaning, labels, rows))

    def gauges(self, name: str, meaning: str, labels: Sequence[str], rows: Rows) -> None:
        """Show how something is; asked with the page."""
        self.registry.register(Asked(GaugeMetricFamily, name, meaning, labels, rows))

    def _counter(self, name: str, meaning: str, *labels: str) -> Series[Counter]:
        return Series(Counter(name, meaning, labels, registry=self.registry))

    def _gauge(self, name: str, meaning: str, *labels: str) -> Series[Gauge]:
        return Series(Gauge(name, meaning, labels, registry=self.registry))

    def _http(self) -> None:
        self.http_seconds = histogram(
            self.registry,
            names.M_HTTP_DURATION,
            "Duration of HTTP requests, from the first byte to the last",
            "http_request_method",
            "url_scheme",
            "http_route",
            "http_response_status_code",
            bounds=SECONDS_BUCKETS,
        )
        self.http_active = gauge(
            self.registry,
            names.M_HTTP_ACTIVE,
            "HTTP requests that are being answered",
            "http_request_method",
            "url_scheme",
        )

    def _rankings(self) -> None:
        self.requests = counter(
            self.registry,
            names.M_REQUESTS,
            "Ranking requests by how they ended",
            "surface",
            "variant",
            "engine",
            "outcome",
        )
        self.request_seconds = histogram(
            self.registry,
            names.M_REQUEST_SECONDS,
            "Time from the arrival of a ranking request to its slate or error",
            "variant",
            "cache",
            bounds=SECONDS_BUCKETS,
        )
        self.external_ignored = Counter(
            names.M_EXTERNAL_IGNORED,
            "External decisions that name no experiment or variant of ours",
            registry=self.registry,
        )
        self.inflight = gauge(self.registry, names.M_INFLIGHT, "Ranking requests under way")[()]
        self.cache = counter(
            self.registry, names.M_CACHE, "Answered rankings by what the cache gave", "result"
        )
        for result in get_args(CacheResult):
            self.cache[(result,)]
        candidates = counter(
            self.registry,
            names.M_CACHE_CANDIDATES,
            "Candidates asked of the cache, by whether it knew their score",
            "result",
        )
        self.cache_hits, self.cache_misses = candidates["hit",], candidates["miss",]
        self.cache_found = counter(
            self.registry, names.M_CACHE_FOUND, "Slates the cache had, by where", "level"
        )
        for level in get_args(CacheLevel):
            self.cache_found[(level,)]
        self.cache_age_seconds = histogram(
            self.registry,
            names.M_CACHE_AGE_SECONDS,
            "How long ago the slates were computed that the cache had",
            bounds=AGE_BUCKETS,
        )[()]
        self.cache_process_bytes, self.cache_process_entries = (
            Gauge(name, f"{what} that this process keeps of the cache", registry=self.registry)
            for name, what in (
                (names.M_CACHE_PROCESS_BYTES, "About the bytes"),
                (names.M_CACHE_PROCESS_ENTRIES, "Slates"),
            )
        )
        self.row_lookup_seconds = self._gauge(
            names.M_CACHE_ROW_LOOKUP_SECONDS,
            "CPU time of fetching a score row from Redis, as learnt; 0: not yet",
            "deployment",
        )
        self.row_scoring_seconds = self._gauge(
            names.M_CACHE_ROW_SCORING_SECONDS,
            "Time of scoring a row instead, as learnt; 0: not yet",
            "deployment",
        )
        self.rows_fetched = self._gauge(
            names.M_CACHE_ROWS_FETCHED,
            "1 if requests fetch score rows from Redis; over several workers, their number",
            "deployment",
        )
        self.slate_lookup_seconds = self._gauge(
            names.M_CACHE_SLATE_LOOKUP_SECONDS,
            "CPU time of asking Redis for the slate of a rank request, as learnt; 0: not yet",
            "deployment",
        )
        self.slate_scoring_seconds = self._gauge(
            names.M_CACHE_SLATE_SCORING_SECONDS,
            "Engine time of the rows of such a request, as learnt; 0: not yet",
            "deployment",
        )
        self.slates_declined = self._gauge(
            names.M_CACHE_SLATES_DECLINED,
            "Kinds of rank requests, by surface and by users with or without a name, that do not "
            "ask Redis now as it costs more than to score them; over several workers, their sum",
            "deployment",
        )
        self.cache_seconds = histogram(
            self.registry,
            names.M_CACHE_SECONDS,
            "Time a ranking spent on asking the cache",
            bounds=SECONDS_BUCKETS,
        )[()]
        self.degraded = self._counter(
            names.M_DEGRADED, "Rankings answered with less than was asked for", "reason"
        ).expect(*get_args(Degraded))
        self.shed = self._counter(
            names.M_SHED, "Rankings refused at the door because of load", "reason"
        ).expect(QueueFull.code, DeadlineUnreachable.code)
        self.deadline_exceeded = Counter(
            names.M_DEADLINE_EXCEEDED,
            "Admitted rankings whose deadline passed before they were scored",
            registry=self.registry,
        )

    def _batches(self) -> None:
        self.rows_scored = counter(
            self.registry,
            names.M_ROWS_SCORED,
            "Rows scored: one candidate of one request",
            "model",
            "engine",
        )
        self.batches = counter(self.registry, names.M_BATCHES, "Batches scored", "model", "engine")
        self.batch_rows = histogram(
            self.registry, names.M_BATCH_ROWS, "Rows in a batch", bounds=ROWS_BUCKETS
        )[()]
        self.batch_padding = histogram(
            self.registry,
            names.M_BATCH_PADDING,
            "Share of the rows of an engine call that only filled it up to a prepared size",
            "engine",
            bounds=PADDING_BUCKETS,
        )
        self.batch_reason = counter(
            self.registry, names.M_BATCH_REASON, "Batches by why they left the queue", "reason"
        )
        self.queue_seconds = histogram(
            self.registry,
            names.M_QUEUE_SECONDS,
            "Time from the arrival of a job in the queue to its batch",
            bounds=SECONDS_BUCKETS,
        )[()]
        self.queue_depth_rows = self._gauge(
            names.M_QUEUE_DEPTH_ROWS, "Rows waiting for a batch", "model", "precision"
        )
        self.engine_seconds = histogram(
            self.registry,
            names.M_ENGINE_SECONDS,
            "Duration of engine calls that gave scores",
            "engine",
            bounds=SECONDS_BUCKETS,
        )
        self.engine_failures = self._counter(
            names.M_ENGINE_FAILURES, "Engine calls that failed", "model", "engine"
        )
        self.engine_state = self._gauge(
            names.M_ENGINE_STATE,
            "1: it is well; 0: it gets no calls or its last one failed, in one instance at least",
            "model",
            "precision",
            "engine",
        )
        self.engine_status = self._gauge(
            names.M_ENGINE_STATUS,
            "1 for the status that its worst instance has; over several workers, their number",
            "model",
            "precision",
            "engine",
            "status",
        )
        self.engine_process_restarts = engine_process_restarts(self.registry)
        self.fallbacks = self._counter(
            names.M_FALLBACKS,
            "Batches that the first engine did not score, or not wholly, by why",
            "model",
            "reason",
        )
        self.model_info = self._gauge(
            names.M_MODEL_INFO, "1 for every loaded model", "model", "version", "precision"
        )

    def _stores(self) -> None:
        self.store_seconds = histogram(
            self.registry,
            names.M_DB_DURATION,
            "Duration of calls to Redis",
            "db_system_name",
            "store",
            "db_operation_name",
            "error_type",
            bounds=SECONDS_BUCKETS,
        )
        self.store_state = self._gauge(
            names.M_STORE_STATE,
            "1: it is used; 0: it failed, and is left alone but for a look now and then",
            "store",
        )

    def _feedback(self) -> None:
        self.assignments = counter(
            self.registry,
            names.M_ASSIGNMENTS,
            "Decisions of experiments about requests, by the variant and why",
            "experiment",
            "variant",
            "reason",
        )
        self.exposures = counter(
            self.registry,
            names.M_EXPOSURES,
            "Units served by a variant, repeats included",
            "variant",
        )
        self.events = self._counter(
            names.M_EVENTS, "Reported impressions and clicks by what became of them",
            "type", "status",
        )  # fmt: skip
        self.events_spooled = Gauge(
            names.M_EVENTS_SPOOLED,
            "Events on disk that wait for the event server",
            registry=self.registry,
        )
        self.telemetry_dropped = self._counter(
            names.M_TELEMETRY_DROPPED, "Spans that never reached the collector", "reason"
        ).expect(*get_args(names.DropReason))

    def _shadow(self) -> None:
        self.shadow_overlap = histogram(
            self.registry,
            names.M_SHADOW_OVERLAP,
            "Share of a served slate that a variant would have served as well",
            "variant",
            bounds=OVERLAP_BUCKETS,
        )
        self.shadow_tau = histogram(
            self.registry,
            names.M_SHADOW_TAU,
            "Kendall tau-b of a variant's order of the candidates with the order that was served",
            "variant",
            bounds=TAU_BUCKETS,
        )
        self.shadow_drift = histogram(
            self.registry,
            names.M_SHADOW_DRIFT,
            "Largest difference of a variant's score from the score that was served, per request",
            "variant",
            bounds=DRIFT_BUCKETS,
        )


def engine_process_restarts(registry: CollectorRegistry) -> Counter:
    """Whose process starts the engine process counts: the only one, or the parent of several."""
    return Counter(
        names.M_ENGINE_PROCESS_RESTARTS,
        "Times that the engine process ended unasked and was started again",
        registry=registry,
    )
