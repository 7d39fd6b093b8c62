"""A machine with a simulated GPU, as imports see it, and the proof made small."""

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from ranking_models.bundle import Bundle, write_bundle
from service.clock import SystemClock
from service.doctor.proof.figures import Proof
from service.doctor.proof.rig import Effort
from service.doctor.proof.run import prove_gpu
from service.settings import EngineSettings
from tests.support.bundles import tiny_contents
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import RTX, VERSIONS, Faults, fake_tensorrt
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import real_gpu

LITTLE = Effort(
    seconds=60,
    score_rows=200,
    cell_s=0.01,
    cell_calls=2,
    warm_up_calls=1,
    overlap_rounds=3,
    swap_calls=3,
)
BUCKETS = (16, 64)
ONE_BUCKET = (16,)
"""Enough for what goes wrong."""

Prove = Callable[..., Proof]
Install = Callable[..., None]


def install_gpu(
    patch: pytest.MonkeyPatch,
    gpu: SimulatedGpu,
    file: str | None = VERSIONS[0],
    faults: Faults | None = None,
) -> None:
    """Make this a machine with a GPU, and with one TensorRT or none."""
    trt = None if file is None else fake_tensorrt(file, faults, gpu=gpu)[0]
    patch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda(T4, simulated=gpu))
    patch.setitem(sys.modules, "tensorrt", None if file == RTX else trt)
    patch.setitem(sys.modules, "tensorrt_rtx", trt if file == RTX else None)


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """A device on which, at the end, no rule was broken and nothing is left."""
    device = SimulatedGpu()
    yield device
    device.stop()
    gc.collect()  # a failed call's traceback holds what it made
    device.check()


def proof_of(
    bundle: Bundle,
    plans: Path,
    *,
    effort: Effort = LITTLE,
    buckets: tuple[int, ...],
    tell: Callable[[str], None] = lambda what: None,
) -> Proof:
    """The whole proof; only its effort is less than a person's."""
    settings = EngineSettings(row_buckets=buckets)
    return prove_gpu(bundle, settings, plans, clock=SystemClock(), tell=tell, effort=effort)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One graph in three precisions, for the simulated GPU runs fp32 alone."""
    contents = tiny_contents()
    graphs = dict.fromkeys(("fp32", "fp16", "int8-trt"), contents.graphs["fp32"])
    root = tmp_path_factory.mktemp("bundles")
    return Bundle.open(write_bundle(root, msgspec.structs.replace(contents, graphs=graphs)))


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with simulated_gpu() as device:
        yield device


@pytest.fixture
def install(gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes this a machine with `gpu`."""
    return functools.partial(install_gpu, monkeypatch, gpu)


@pytest.fixture
def prove(bundle: Bundle, tmp_path: Path) -> Prove:
    return functools.partial(proof_of, bundle, tmp_path / "plans", buckets=ONE_BUCKET)


@pytest.fixture(
    scope="module",
    params=[*VERSIONS, RTX, pytest.param("real", marks=pytest.mark.gpu)],
    ids=lambda param: param.removesuffix(".json"),
)
def any_proof(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proof]:
    """Of every TensorRT that this machine can run, and of the fakes of all that podium supports."""
    plans = tmp_path_factory.mktemp("plans")
    if request.param == "real":
        real_gpu()
        yield proof_of(bundle, plans, buckets=BUCKETS)
        return
    with simulated_gpu() as gpu, pytest.MonkeyPatch.context() as patch:
        install_gpu(patch, gpu, request.param)
        proof = proof_of(bundle, plans, buckets=BUCKETS)
    yield proof
