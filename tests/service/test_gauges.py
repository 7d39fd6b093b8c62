"""Gauges of what several parts have in common."""

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from service.breaker import Breaker
from service.cache import CacheStatus
from service.gauges import watch_breakers, watch_gpu_memory
from service.messages import GpuMemory
from service.telemetry.merging import encode_snapshot, merged_page
from service.telemetry.metrics import Metrics
from service.testing import FakeEngine, FaultyEngine
from tests.support.rankers import deployment_of


class Cache:
    """A cache that is as it is told to be."""

    now = CacheStatus(state="connected")

    def status(self) -> CacheStatus:
        return self.now


def shown(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    page = merged_page([encode_snapshot(list(metrics.families()))], "")[0].decode()
    samples = [s for f in text_string_to_metric_families(page) for s in f.samples]
    return {tuple(s.labels.values()): s.value for s in samples if s.name == name}


def states(metrics: Metrics) -> dict[str, str]:
    """Part to the one state that it is in."""
    found = shown(metrics, "podium_breaker_state")
    assert sum(found.values()) == len({part for part, _ in found})
    return {part: state for (part, state), is_it in found.items() if is_it}


def test_a_breaker_that_opens_shows_with_its_part(tiny_bundle, clock):
    metrics, cache = Metrics((), version="1.0"), Cache()
    events = Breaker(failures=1, probe_s=1.0)
    engine = FaultyEngine(FakeEngine("first"))
    deployment = deployment_of(tiny_bundle, engine, clock=clock)
    watch_breakers(metrics, cache, events, {"ranker": deployment})
    (part,) = states(metrics).keys() - {"cache", "cache writes", "events"}
    assert part.endswith("/first")
    assert set(states(metrics).values()) == {"closed"}

    cache.now = replace(cache.now, breaker="open", breaker_opened=2)
    events.failed(started=0.0, now=1.0)
    assert states(metrics) == {
        "cache": "open", "cache writes": "closed", "events": "open", part: "closed",
    }  # fmt: skip
    assert shown(metrics, "podium_breaker_opened_total") == {
        ("cache",): 2, ("cache writes",): 0, ("events",): 1, (part,): 0,
    }  # fmt: skip

    cache.now = replace(cache.now, writes_problem="OOM", writes_opened=1)
    assert states(metrics)["cache writes"] == "open"
    assert shown(metrics, "podium_breaker_opened_total")[("cache writes",)] == 1


class Models:
    gpu_memory: GpuMemory | None = None


def test_memory_of_a_gpu_shows_once_a_model_is_on_it():
    metrics, models = Metrics((), version="1.0"), Models()
    watch_gpu_memory(metrics, models, "engine-process")
    assert shown(metrics, "podium_gpu_reserved_bytes") == {}

    models.gpu_memory = GpuMemory(limit_bytes=20 << 30, held_bytes=3 << 30, holds=())
    assert shown(metrics, "podium_gpu_reserved_bytes") == {("engine-process",): 3 << 30}
    assert shown(metrics, "podium_gpu_reservable_bytes") == {("engine-process",): 20 << 30}
