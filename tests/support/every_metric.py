"""Every metric that the service can show, shown: each method of telemetry called once."""

from collections.abc import Iterable
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from experiments.assignment import Assigner
from experiments.definition import Experiment, Rollout, Variant
from experiments.standing import first_standing
from service.breaker import Breaker
from service.cache import CacheStatus
from service.gauges import watch_breakers, watch_experiments, watch_gpu_memory
from service.messages import (
    CacheReport,
    EventResult,
    ExperimentRef,
    GpuMemory,
    ModelRef,
    RankReply,
    Timing,
)
from service.rollouts.totals import Totals
from service.telemetry import BatchMember, BatchRecord, EngineCall
from service.telemetry.gpu import GpuFigures, read_gpus
from service.telemetry.merging import FamilySnapshot
from service.telemetry.metrics import Metrics
from service.telemetry.parent import ParentMetrics
from tests.support.fake_nvml import FakeGpu, fake_nvml

DECIDED = ExperimentRef(key="fp16", phase=1, variant="new", reason="SPLIT")
REPLY = RankReply(
    slate_id="s1",
    items=(),
    model=ModelRef(name="market", version="3f9c2a1b", precision="fp16", engine="tensorrt"),
    experiments=(DECIDED,),
    exposure=None,
    cache=CacheReport(result="hit", hits=3, misses=4, age_ms=5, level="server"),
    degraded="stale",
    timing_ms=Timing(total=4.0, cache=0.5, queue=1.0, engine=2.0),
)


class Shown(Struct, frozen=True, order=True):
    """One metric as the page has it."""

    name: str
    """As it is asked for: a counter with ``_total``."""
    kind: str
    labels: tuple[str, ...]
    meaning: str


def every_metric() -> tuple[Shown, ...]:
    """All of them, by name."""
    metrics, parent = Metrics(("home",), version="1.0", triton_names=True), ParentMetrics()
    _rankings(metrics)
    _batches(metrics)
    _stores_and_events(metrics)
    _experiments(metrics)
    figures = GpuFigures(triton_names=True)
    figures.take(read_gpus(fake_nvml(FakeGpu())))
    metrics.collect_from(figures)
    parent.engine_process_ended()
    found = {_shown(family) for family in chain(metrics.families(), parent.families())}
    return tuple(sorted(found))


def _shown(family: FamilySnapshot) -> Shown:
    label_sets = {frozenset(sample[1]) - {"le"} for sample in family.samples}
    (labels,) = label_sets  # no sample: nobody called what shows it
    is_counter = family.kind == "counter"
    return Shown(
        name=f"{family.name}_total" if is_counter else family.name,
        kind="untyped" if family.kind == "unknown" else family.kind,
        labels=tuple(sorted(labels)),
        meaning=family.meaning,
    )


def _rankings(metrics: Metrics) -> None:
    metrics.http_started("POST", "http")
    metrics.http_ended(
        method="POST", scheme="http", route="/v1/rank", status="200", seconds=0.1, exemplar=None
    )
    metrics.ranking_started()
    metrics.ranking_ended(
        surface="home", variant="none", reply=REPLY, outcome="ok", seconds=0.1, exemplar=None
    )
    missed = replace(REPLY, cache=CacheReport(result="miss", hits=0, misses=7))
    metrics.ranking_started()
    metrics.ranking_ended(
        surface="home", variant="none", reply=missed, outcome="ok", seconds=0.1, exemplar=None
    )
    metrics.shed("queue_full")
    metrics.deadline_exceeded()
    metrics.external_ignored(1)
    metrics.watch_handover(lambda: {"given": 1})


def _batches(metrics: Metrics) -> None:
    metrics.model_loaded("market", "3f9c2a1b", "fp16")
    metrics.watch_queue("market@3f9c2a1b", "fp16", lambda: 0, lambda: 0)
    metrics.watch_engine("market@3f9c2a1b", "fp16", "tensorrt", lambda: "ready")
    metrics.watch_engine_status("market@3f9c2a1b", "fp16", "tensorrt", lambda: "ready")
    metrics.engine_pads("market", "3f9c2a1b", "tensorrt", (64,))
    metrics.watch_row_worth("ranker", lambda: 0, lambda: 0, lambda: 0)
    metrics.watch_slate_worth("ranker", lambda: 0, lambda: 0, lambda: 0)
    scored = EngineCall(engine="tensorrt", rows=7, started_at=1.0, finished_at=1.1)
    failed = replace(scored, error_type="CudaError")
    metrics.batch(_batch(failed, scored))
    metrics.batch(_batch(failed))


def _batch(*calls: EngineCall) -> BatchRecord:
    return BatchRecord(
        model="market",
        version="3f9c2a1b",
        precision="fp16",
        reason="full",
        waiting_rows=7,
        oldest_wait_s=0.1,
        executing=0,
        duplicate_rows=0,
        arrival_rows_per_s=None,
        fixed_s=None,
        row_s=None,
        taken_at=1.0,
        finished_at=1.2,
        members=(BatchMember(rows=7, arrived_at=0.9, deadline_at=2.0, request=None),),
        calls=calls,
        fallback="failed",
    )


def _stores_and_events(metrics: Metrics) -> None:
    metrics.store_called("cache", "MGET", "", 0.001)
    metrics.watch_store("cache", lambda: "ready")
    metrics.watch_cache_failures(lambda: {"timeouts": 0})
    metrics.watch_cache_renewals(lambda: {"renewed": 0})
    metrics.watch_score_rows(lambda: {"misses": 0})
    metrics.watch_cache_in_process(lambda: 0, lambda: 0)
    metrics.events((), ())
    no_event = EventResult(event_id=None, status="rejected", code="invalid_event")
    metrics.events((no_event,), (no_event,))
    metrics.watch_events_kept(lambda: {"appended": 0})
    metrics.watch_exposures_kept(lambda: {"kept": 0})
    metrics.watch_spool(lambda: 0, lambda: 0, 1, lambda: {"appended": 0})
    metrics.watch_aggregation(lambda: {"applied": 0})


def _experiments(metrics: Metrics) -> None:
    metrics.assigned((DECIDED,))
    metrics.exposed((DECIDED,))
    metrics.compared("fp16:new", overlap=1.0, kendall_tau=1.0, drift_max=0.0)
    metrics.watch_shadow(lambda: {"compared": 0})
    watch_experiments(metrics, Rollouts(), price_per_hour=0.5)
    watch_breakers(metrics, Cache(), Breaker(failures=1, probe_s=1.0), {})
    watch_gpu_memory(metrics, Models(), "worker-0")


class Models:
    """Models of which some are on a GPU."""

    gpu_memory = GpuMemory(limit_bytes=9, held_bytes=3, holds=())


class Cache:
    def status(self) -> CacheStatus:
        return CacheStatus(state="connected")


class Live:
    """One experiment that runs."""

    troubles: dict[str, str] = {}  # noqa: RUF012 - never written to
    unready: dict[str, str] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self._experiment = Experiment(
            key="fp16",
            variants=(Variant(name="old", share_bp=5000), Variant(name="new", share_bp=5000)),
            rollout=Rollout(),
        )

    def current(self) -> Assigner:
        return Assigner((self._experiment,))

    def standing(self, key: str):
        return first_standing(self._experiment, 0.0, {})


class ReadTotals:
    newest = Totals(
        by_variant={("fp16", "old"): {"users": 9, "impressions": 90, "clicks": 4}},
        split_p={"fp16": 0.4},
        backlog=0,
    )


class Rollouts:
    def __init__(self) -> None:
        self.live, self.totals = Live(), ReadTotals()


def names_of(shown: Iterable[Shown]) -> set[str]:
    return {one.name for one in shown}
