"""One bundle, and machines with a GPU to load it on: simulated ones, and the real one if any."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ranking_models.bundle import Bundle
from service.engines.tensor_rt.bundles import Gpu
from service.engines.tensor_rt.plan import LoadedPlan
from tests.support.bundles import write_tiny_bundle
from tests.support.fake_tensorrt import RTX, VERSIONS
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import loaded, real_gpu, simulated

Load = Callable[..., LoadedPlan]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    """A device on which, at the end, no rule was broken and nothing is left."""
    device = SimulatedGpu()
    yield device
    device.stop()
    gc.collect()  # a failed call's traceback holds what it made
    device.check()


@pytest.fixture
def load(bundle: Bundle, gpu: SimulatedGpu, tmp_path: Path) -> Load:
    """Loads the bundle on `gpu`."""

    def load(*, file: str = VERSIONS[0], **options: Any) -> LoadedPlan:
        return loaded(bundle, simulated(gpu, file), tmp_path / "plans", **options)

    return load


@pytest.fixture(
    params=[*VERSIONS, RTX, pytest.param("real", marks=pytest.mark.gpu)],
    ids=lambda param: param.removesuffix(".json"),
)
def any_gpu(request: pytest.FixtureRequest) -> Gpu:
    """Every TensorRT that this machine can run, and the fakes of all that podium supports."""
    if request.param == "real":
        return real_gpu()
    return simulated(request.getfixturevalue("gpu"), request.param)
