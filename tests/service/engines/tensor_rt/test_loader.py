"""TensorRT as a chain loads it: proven by golden rows in every bucket, and watched on a thread."""

from pathlib import Path

import pytest

from service.clock import SystemClock
from service.engines.loading import EngineLoader
from service.engines.tensor_rt import bundles
from service.errors import StartupError
from service.settings import EngineSettings
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import simulated


@pytest.fixture
def loader(gpu: SimulatedGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineLoader:
    """Of a machine with this GPU."""
    machine = simulated(gpu)
    monkeypatch.setattr(bundles, "find_gpu", lambda index: machine)
    return EngineLoader(EngineSettings(row_buckets=(8, 32)), tmp_path / "plans", SystemClock())


def test_every_instance_proves_itself_in_every_bucket(loader, bundle, gpu):
    loaded = loader.load("tensorrt", bundle, "fp32", 2)

    assert {len(given["ids"]) for given in gpu.executed[2 * 2 * 2 :]} == {8, 32}
    assert [engine.info.best_batch_rows for engine in loaded.engines] == [32, 32]
    assert loader.budget.held_bytes >= loaded.predicted_bytes > 0
    loaded.close()
    assert loader.budget.held_bytes == 0


def test_an_engine_that_does_not_run_is_refused_and_gives_everything_back(loader, bundle, gpu):
    gpu.fail("execution", "cudaErrorLaunchFailure", after=9)  # the warm-up of two slots takes 8

    with pytest.raises(StartupError, match="tensorrt cannot score the golden rows: the GPU is los"):
        loader.load("tensorrt", bundle, "fp32", 2)

    assert loader.budget.held_bytes == 0


def test_two_bundles_are_on_the_device_during_a_swap(loader, bundle):
    old = loader.load("tensorrt", bundle, "fp32", 1)
    new = loader.load("tensorrt", bundle, "fp32", 1)
    golden, expected = bundle.golden

    both = loader.budget.held_bytes
    old.close()

    assert abs(new.engines[0].score(golden) - expected).max() < 1e-5
    assert loader.budget.held_bytes == both / 2
    new.close()


def test_a_machine_with_a_gpu_says_that_it_has_one(loader):
    assert loader.absent("tensorrt") is None
