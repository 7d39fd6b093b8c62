"""ONNX Runtime on a GPU: never on the CPU without a word, and never more memory than there is."""

from collections.abc import Callable

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import open_session as open_on_cpu
from service.clock import SystemClock
from service.engines import EngineInfo, onnx_runtime_cuda
from service.engines.bound_graph import BoundGraph, Place
from service.engines.loading import EngineLoader
from service.engines.memory import MemoryBudget, MemoryRefused
from service.engines.onnx_runtime_cuda import (
    CudaEngines,
    open_onnx_runtime_cuda,
    open_session,
    why_absent,
)
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings
from tests.support.bundles import write_tiny_bundle
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.simulated_gpu import SimulatedGpu

INFO = EngineInfo(
    name="onnxruntime-cuda", precision="fp32", model="tiny", version="1", max_batch_rows=4096
)
BUCKETS = (8, 64)
MIB = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimulatedGpu:
    """The only GPU of this machine."""
    gpu = SimulatedGpu()
    cuda = fake_cuda(T4, simulated=gpu)
    monkeypatch.setattr(onnx_runtime_cuda, "cuda_runtime", lambda: cuda)
    return gpu


@pytest.fixture
def with_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that is built with CUDA."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [onnx_runtime_cuda.PROVIDER])


def placed(gpu: SimulatedGpu, limits: list[int], taken: int) -> Callable[..., BoundGraph]:
    """Puts a graph on the CPU, takes memory of the GPU, and notes the limit it was given."""

    def open_graph(graph, device, limit_bytes, buckets):
        limits.append(limit_bytes)
        bound = BoundGraph(open_on_cpu(graph), Place("cpu"), buckets)
        assert gpu.take(bound, "arena", taken)
        bound.warm_up()
        return bound

    return open_graph


def opened(bundle: Bundle, budget: MemoryBudget, instances: int, **options) -> CudaEngines:
    return open_onnx_runtime_cuda(
        bundle,
        "fp32",
        EngineSettings(),
        INFO,
        instances=instances,
        buckets=BUCKETS,
        budget=budget,
        **options,
    )


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 63, 64])
def test_a_batch_is_padded_and_only_its_own_scores_come_out(bundle, rows):
    graph = BoundGraph(open_on_cpu(bundle.graph("fp32")), Place("cpu"), BUCKETS)
    golden, expected = bundle.golden
    chosen = np.arange(rows) % golden.rows

    scores = graph(golden.take(chosen))

    np.testing.assert_allclose(scores, expected[chosen], rtol=0, atol=1e-5)


def test_more_rows_than_the_largest_bucket_are_refused(bundle):
    graph = BoundGraph(open_on_cpu(bundle.graph("fp32")), Place("cpu"), (8,))

    with pytest.raises(EngineFailed, match="9 rows are more than 8"):
        graph(bundle.golden[0].take(np.arange(9)))


def test_a_session_that_would_run_on_the_cpu_is_refused(bundle):
    if why_absent(0) is None:
        pytest.skip("there is a GPU: the session would be opened")
    with pytest.raises(EngineFailed, match=r"CUDA|CPU"):
        open_session(bundle.graph("fp32"), device=0, limit_bytes=MIB)


def test_an_onnx_runtime_without_cuda_is_named(bundle, gpu):
    if onnx_runtime_cuda.PROVIDER in __import__("onnxruntime").get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")

    assert "is built without CUDA: uninstall onnxruntime" in (why_absent(0) or "")
    with pytest.raises(EngineFailed, match="is built without CUDA"):
        opened(bundle, MemoryBudget(0.8), 1)


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (fake_cuda(count_error="cudaErrorInsufficientDriver"), "no NVIDIA driver that works"),
        (fake_cuda(), "the NVIDIA driver finds none"),
        (fake_cuda(T4), "there is no GPU 3: this machine has device 0"),
    ],
)
def test_the_reason_is_said_and_the_chain_goes_on(bundle, tmp_path, monkeypatch, cuda, words):
    monkeypatch.setattr(onnx_runtime_cuda, "cuda_runtime", lambda: cuda)
    loader = EngineLoader(EngineSettings(device=3), tmp_path, SystemClock())

    assert words in (loader.absent("onnxruntime-cuda") or "")
    with pytest.raises(StartupError, match=f"onnxruntime-cuda cannot load it: .*{words}"):
        loader.load("onnxruntime-cuda", bundle, "fp32", 1)


@pytest.mark.usefixtures("with_provider")
def test_what_the_sessions_take_is_held_until_the_last_is_closed(bundle, gpu):
    budget, limits = MemoryBudget(0.5), []

    loaded = opened(bundle, budget, 2, open_graph=placed(gpu, limits, 3 * MIB))

    assert loaded.predicted_bytes < loaded.measured_bytes == budget.held_bytes == 6 * MIB
    assert limits == [budget.limit_bytes // 2] * 2
    assert {engine.info.max_batch_rows for engine in loaded.engines} == {64}
    one, other = loaded.engines
    golden, expected = bundle.golden
    np.testing.assert_allclose(other.score(golden), expected, rtol=0, atol=1e-5)
    one.close()
    one.close()
    assert budget.held_bytes == 6 * MIB
    other.close()
    assert budget.held_bytes == gpu.used_bytes == 0
    with pytest.raises(EngineFailed, match="closed"):
        other.score(golden)


@pytest.mark.usefixtures("with_provider")
def test_a_second_model_gets_what_the_first_one_left(bundle, gpu):
    budget, limits = MemoryBudget(0.5), []

    first, second = (
        opened(bundle, budget, 1, open_graph=placed(gpu, limits, 3 * MIB)) for _ in range(2)
    )

    assert limits == [budget.limit_bytes, budget.limit_bytes - 3 * MIB]
    assert budget.held_bytes == first.measured_bytes + second.measured_bytes


@pytest.mark.usefixtures("with_provider")
def test_sessions_that_took_more_than_there_is_are_given_back(bundle, gpu):
    budget = MemoryBudget(0.5)
    half = gpu.memory_bytes // 2

    with pytest.raises(MemoryRefused, match=r"tiny@1 fp32 needs .* of GPU memory"):
        opened(bundle, budget, 1, open_graph=placed(gpu, [], half + MIB))

    assert budget.held_bytes == 0


@pytest.mark.gpu
def test_a_gpu_gives_the_golden_scores_and_its_memory_back(bundle, tmp_path):
    if reason := why_absent(0):
        pytest.skip(reason)
    loader = EngineLoader(EngineSettings(), tmp_path, SystemClock())

    loaded = loader.load("onnxruntime-cuda", bundle, "fp32", 2)

    assert loader.budget.held_bytes >= loaded.predicted_bytes > 0
    loaded.close()
    assert loader.budget.held_bytes == 0
