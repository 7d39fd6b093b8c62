"""The figures of several processes as one page.

Counters and histograms add up. A gauge follows the rule that is declared for
it here. What a process that ended had counted is kept, so no total falls.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from service.telemetry import names

Rule = Literal["sum", "min", "max"]

GAUGE_RULES: Final[Mapping[str, Rule]] = {
    "process_virtual_memory_bytes": "sum",
    # Memory that processes share, such as mapped bundles, is in each of them.
    "process_resident_memory_bytes": "sum",
    "process_open_fds": "sum",
    "process_max_fds": "sum",
    "process_start_time_seconds": "min",
    names.M_HTTP_ACTIVE: "sum",
    names.M_INFLIGHT: "sum",
    names.M_QUEUE_DEPTH_ROWS: "sum",
    names.M_CACHE_PROCESS_BYTES: "sum",
    names.M_CACHE_PROCESS_ENTRIES: "sum",
    # What the dearest of the workers has measured; each decides for itself.
    names.M_CACHE_ROW_LOOKUP_SECONDS: "max",
    names.M_CACHE_ROW_SCORING_SECONDS: "max",
    names.M_CACHE_ROWS_FETCHED: "sum",
    names.M_CACHE_SLATE_LOOKUP_SECONDS: "max",
    names.M_CACHE_SLATE_SCORING_SECONDS: "max",
    names.M_CACHE_SLATES_DECLINED: "sum",
    names.M_EVENTS_SPOOLED: "sum",
    names.M_MODEL_INFO: "max",
    # 1 is well and 0 is not: one that is not well must show.
    names.M_ENGINE_STATE: "min",
    names.M_ENGINE_STATUS: "sum",
    names.M_STORE_STATE: "min",
    # Known to the parent alone.
    names.M_WORKERS: "max",
    names.M_BUILD_INFO: "max",
    names.M_PRICE_PER_HOUR: "max",
    # The same for all workers but for the moment of a change: the slowest must show.
    names.M_CONFIG_GENERATION: "min",
    names.M_CONFIG_RELOADED: "min",
    names.M_EXPERIMENT_STATE: "max",
    names.M_EXPERIMENT_PHASE: "min",
    names.M_EXPERIMENT_UNREADY: "max",
    names.M_EXPERIMENT_TRAFFIC: "min",
    names.M_VARIANT_SHARE: "max",
    names.M_ROLLOUT_STAGE: "min",
    names.M_ROLLOUT_STAGES: "max",
    # Known to the one that leads, and to the one that led a moment ago.
    names.M_UNITS: "max",
    names.M_SRM_PVALUE: "min",
    names.M_AGGREGATION_BACKLOG: "max",
    names.M_BREAKER_STATE: "sum",
    # Of one directory and one machine, whoever looks.
    names.M_SPOOL_BYTES: "max",
    names.M_SPOOL_LIMIT_BYTES: "max",
    names.M_GPU_INFO: "max",
    names.M_GPU_UTILIZATION: "max",
    names.M_GPU_MEMORY_BYTES: "max",
    names.M_GPU_RESERVED_BYTES: "max",
    names.M_GPU_RESERVABLE_BYTES: "max",
    names.M_GPU_POWER: "max",
    names.M_GPU_POWER_LIMIT: "max",
    names.M_GPU_TEMPERATURE: "max",
    names.M_GPU_CLOCK: "max",
    names.T_PENDING: "sum",
    names.T_GPU_UTILIZATION: "max",
    names.T_GPU_MEMORY_TOTAL: "max",
    names.T_GPU_MEMORY_USED: "max",
    names.T_GPU_POWER: "max",
    names.T_GPU_POWER_LIMIT: "max",
}
"""What a gauge of the service is, given those of its processes. A test holds it complete."""

READ_COUNTERS: Final = frozenset((names.M_CLICKS, names.M_IMPRESSIONS))
"""Counters that a process reads from the event server: the largest is the newest, and what a
process that ended had read is not its own to leave behind."""

_COMBINE: Final[Mapping[Rule, Callable[[float, float], float]]] = {
    "sum": float.__add__,
    "min": min,
    "max": max,
}
_ADDED_UP: Final = ("counter", "histogram", "summary", "unknown")
"""Kinds that only rise; of unknown kind are counters under Triton's names."""


_Sample = tuple[str, dict[str, str], float, None, tuple[Any, ...] | None, None]
"""As `prometheus_client.samples.Sample`; the fifth is an exemplar: labels, value, time."""


class FamilySnapshot(Struct, frozen=True, array_like=True):
    """One metric of one process: its name, kind and samples."""

    name: str
    kind: str
    meaning: str
    samples: Sequence[_Sample]


_SNAPSHOT = msgspec.msgpack.Decoder(list[FamilySnapshot])


def family_snapshot(family: Metric) -> FamilySnapshot:
    """A family as it can be sent; nothing is copied."""
    samples = cast(Sequence[_Sample], family.samples)
    return FamilySnapshot(family.name, family.type, family.documentation, samples)


def snapshot(families: Iterable[Metric]) -> bytes:
    """All families of a process, for `Totals.add`."""
    return encode_snapshot([family_snapshot(family) for family in families])


def encode_snapshot(families: Sequence[FamilySnapshot]) -> bytes:
    return msgspec.msgpack.encode(families)


class _Family:
    """One metric of all processes."""

    def __init__(self, first: FamilySnapshot) -> None:
        self.name, self.kind, self.meaning = first.name, first.kind, first.meaning
        self.samples: dict[tuple[str, ...], Sample] = {}
        self._combine = _COMBINE[_rule(first)]

    def add(self, family: FamilySnapshot) -> None:
        for name, labels, value, _, exemplar, _ in family.samples:
            key = (name, *labels, *labels.values())
            seen = Exemplar(*exemplar) if exemplar else None
            known = self.samples.get(key)
            if known is None:
                self.samples[key] = Sample(name, labels, value, None, seen)
                continue
            together = self._combine(float(known.value), float(value))
            newest = _newer(known.exemplar, seen)
            self.samples[key] = Sample(name, labels, together, None, newest)

    def metric(self) -> Metric:
        metric = Metric(self.name, self.meaning, self.kind)
        metric.samples = list(self.samples.values())
        return metric


class Totals(Collector):
    """Figures of several processes, added up."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def add(self, encoded: bytes) -> None:
        """Add the snapshot of one process."""
        for family in _SNAPSHOT.decode(encoded):
            if family.name not in self._families:
                self._families[family.name] = _Family(family)
            self._families[family.name].add(family)

    def keep_counts_of(self, encoded: bytes) -> None:
        """Add what a process that ended had counted; how it was is over."""
        families = _SNAPSHOT.decode(encoded)
        counted = [f for f in families if f.kind in _ADDED_UP and f.name not in READ_COUNTERS]
        self.add(encode_snapshot(counted))

    def collect(self) -> Iterable[Metric]:
        return [family.metric() for family in self._families.values()]

    def snapshot(self) -> bytes:
        """The sums, as the snapshot of one process."""
        return snapshot(self.collect())

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics with exemplars if ``accept`` asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type


def merged_page(snapshots: Iterable[bytes], accept: str) -> tuple[bytes, str]:
    """The figures of all processes as one page, and its content type."""
    totals = Totals()
    for encoded in snapshots:
        totals.add(encoded)
    return totals.page(accept)


def _rule(family: FamilySnapshot) -> Rule:
    if family.name in READ_COUNTERS:
        return "max"
    return "sum" if family.kind in _ADDED_UP else GAUGE_RULES.get(family.name, "sum")


def _newer(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda exemplar: float(exemplar.timestamp or 0.0))
