"""A bundle's graph is built once per GPU, and found after that."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ranking_models.bundle import Bundle, list_bundles
from ranking_models.errors import BundleError, InputError
from ranking_models.tensorrt.build import BuildOptions
from ranking_models.tensorrt.compile import Compiled, compile_bundle
from ranking_models.tensorrt.device import find_device
from ranking_models.tensorrt.plan_cache import PlanCache
from tests.support.bundles import write_tiny_bundle
from tests.support.fake_cuda import L4, T4, fake_cuda
from tests.support.fake_tensorrt import VERSIONS, Faults, fake_tensorrt

ELEVEN, TEN = VERSIONS


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "bundles"))


def compiled(trt, bundle: Bundle, *, gpu=T4, precision="fp32", buckets=(64, 128)) -> Compiled:
    root = bundle.path.parents[1]
    return compile_bundle(
        trt,
        bundle,
        precision,
        find_device(fake_cuda(gpu), 0),
        PlanCache(root / ".plans"),
        buckets=buckets,
        options=BuildOptions(),
        created=datetime(2026, 11, 22, tzinfo=UTC),
    )


def test_the_second_time_the_plan_is_there(bundle):
    trt, _ = fake_tensorrt(ELEVEN)

    first = compiled(trt, bundle)
    calls = len(trt.calls)
    second = compiled(trt, bundle)

    assert (first.built, second.built) == (True, False)
    assert len(trt.calls) == calls, "TensorRT was asked again"
    assert second.plan == first.plan
    assert first.plan.manifest.model == f"tiny@{bundle.manifest.version}"


def test_another_gpu_version_or_bucket_is_another_plan(bundle):
    trt, _ = fake_tensorrt(ELEVEN)
    compiled(trt, bundle)

    assert compiled(trt, bundle, gpu=L4).built
    assert compiled(trt, bundle, buckets=(64,)).built
    assert compiled(fake_tensorrt(TEN)[0], bundle).built


def test_measurements_are_kept_for_the_next_graph(bundle, tmp_path):
    trt, told = fake_tensorrt(ELEVEN)
    compiled(trt, bundle)

    compiled(trt, Bundle.open(write_tiny_bundle(tmp_path / "bundles", name="other", seed=1)))

    assert told.timing_cache == b"measured;"


def test_a_damaged_plan_is_built_again_and_said(bundle):
    trt, _ = fake_tensorrt(ELEVEN)
    (compiled(trt, bundle).plan.path / "plan").write_bytes(b"cut")

    again = compiled(trt, bundle)

    assert again.built
    assert again.replaced is not None
    assert "SHA-256 differs" in again.replaced
    assert compiled(trt, bundle).replaced is None


def test_plans_lie_beside_the_bundles_and_change_none(bundle):
    compiled(fake_tensorrt(ELEVEN)[0], bundle)

    root = bundle.path.parents[1]
    assert [ref.path for ref in list_bundles(root)] == [bundle.path]
    assert Bundle.open(bundle.path).manifest == bundle.manifest


def test_what_cannot_be_compiled_leaves_no_plan(bundle):
    trt, _ = fake_tensorrt(ELEVEN, Faults(refuses_build="it is odd"))

    with pytest.raises(InputError, match=r"ranker\.fp32\.onnx: TensorRT built no plan: it is odd"):
        compiled(trt, bundle)
    with pytest.raises(BundleError, match="has no precision 'fp16'; it has fp32"):
        compiled(trt, bundle, precision="fp16")
    with pytest.raises(InputError, match="checked with up to 4096 rows; lower --buckets"):
        compiled(trt, bundle, buckets=(64, 8192))
    assert not (bundle.path.parents[1] / ".plans").exists()
