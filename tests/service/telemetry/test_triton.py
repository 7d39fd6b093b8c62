"""Triton's names: what its server would say of the same traffic."""

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.messages import CacheReport
from service.telemetry import BatchMember, EngineCall, ExportSettings
from service.telemetry.triton import TritonNames
from tests.support.figures import page_of


def shown(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Name and the values of its labels to figure."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def triton(registry):
    return TritonNames(registry)


@pytest.fixture
def batch(make_batch):
    """Two requests of 8 and 1 rows, dynamically batched: 4 and 1 ms waited, 2 ms scored."""
    members = [
        BatchMember(rows=rows, arrived_at=10.0 - waited, deadline_at=10.05, request=None)
        for rows, waited in ((8, 0.004), (1, 0.001))
    ]
    return replace(make_batch(*members), model="market")


def test_two_requests_in_one_batch_are_counted_as_triton_counts_them(registry, triton, batch):
    triton.batch(batch)

    model = ("market", "3f9c2a1b")
    assert shown(registry) == {
        ("nv_inference_request_success", *model): 2,
        ("nv_inference_count", *model): 9,
        ("nv_inference_exec_count", *model): 1,
        ("nv_inference_queue_duration_us", *model): pytest.approx(5000),
        ("nv_inference_compute_infer_duration_us", *model): pytest.approx(2 * 2000),
        ("nv_inference_request_duration_us", *model): pytest.approx(5000 + 2 * 2000),
    }


def test_a_batch_that_no_engine_scored_is_so_many_failed_requests(registry, triton, batch):
    (call,) = batch.calls
    triton.batch(replace(batch, calls=(replace(call, error_type="CudaError"),)))

    assert shown(registry) == {("nv_inference_request_failure", "market", "3f9c2a1b", "BACKEND"): 2}


def test_a_fallback_engine_is_one_execution_more_and_no_failure(registry, triton, batch):
    (call,) = batch.calls
    failed = EngineCall(
        engine="tensorrt", rows=9, started_at=9.9, finished_at=10.0, error_type="CudaError"
    )
    triton.batch(replace(batch, calls=(failed, call)))

    found = shown(registry)
    assert found["nv_inference_exec_count", "market", "3f9c2a1b"] == 1
    assert found["nv_inference_request_success", "market", "3f9c2a1b"] == 2


@pytest.mark.parametrize(
    ("result", "name"),
    [
        ("hit", "nv_cache_num_hits_per_model"),
        ("stale", "nv_cache_num_hits_per_model"),
        ("miss", "nv_cache_num_misses_per_model"),
        ("partial", "nv_cache_num_misses_per_model"),
        ("bypass", None),
        ("error", None),
    ],
)
def test_slates_are_hits_or_misses_of_their_model(registry, triton, make_reply, result, name):
    triton.answered(replace(make_reply(), cache=CacheReport(result=result, hits=3, misses=4)))

    found = shown(registry)
    cached = {key: n for key, n in found.items() if key[0].startswith("nv_cache")}
    assert cached == ({} if name is None else {(name, "market", "3f9c2a1b"): 1})
    # A request that the cache answered is an inference request that went well.
    is_hit = name == "nv_cache_num_hits_per_model"
    assert (("nv_inference_request_success", "market", "3f9c2a1b") in found) is is_hit


def test_requests_that_wait_are_those_of_all_queues_of_a_model(registry, triton):
    triton.watch_queue("market@1", "fp32", lambda: 3)
    triton.watch_queue("market@1", "fp16", lambda: 4)
    assert shown(registry) == {("nv_inference_pending_request_count", "market", "1"): 7}

    triton.forget_models()
    assert shown(registry) == {}


def test_the_names_are_there_only_if_they_are_asked_for(open_telemetry, batch):
    for asked in (True, False):
        telemetry = open_telemetry(export=ExportSettings(), triton_names=asked)
        telemetry.batch(batch)
        page = page_of(telemetry)[0].decode()
        names = {family.name for family in text_string_to_metric_families(page)}
        assert ("nv_inference_request_success" in names) is asked
        assert any(line.startswith("nv_inference_count{") for line in page.splitlines()) is asked
