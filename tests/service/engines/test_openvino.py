"""OpenVINO as a chain loads it: bf16 only with its gate in the manifest."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ranking_models
from ranking_models.bundle import Bundle, find_bundle, write_bundle
from ranking_models.bundle.rewriting import contents_of
from ranking_models.errors import BundleError
from ranking_models.openvino import why_absent
from service.clock import SystemClock
from service.engines.loading import EngineLoader
from service.errors import StartupError
from service.settings import EngineSettings
from tests.support.bundles import tiny_contents, write_tiny_bundle

needs_openvino = pytest.mark.skipif(why_absent("f32") is not None, reason=str(why_absent("f32")))
needs_bf16 = pytest.mark.skipif(why_absent("bf16") is not None, reason=str(why_absent("bf16")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


def loader(folder: Path, **options) -> EngineLoader:
    return EngineLoader(EngineSettings(row_buckets=(8, 64), **options), folder, SystemClock())


def with_bf16(root: Path, tolerance: float) -> Bundle:
    """The demonstration's bundle with a bf16 variant that allows so much; no gate is asked here."""
    demonstration = Path(ranking_models.__file__).parent / "demo"
    contents = contents_of(Bundle.open(find_bundle(demonstration, "marketplace")))
    graph = msgspec.structs.replace(contents.graphs["fp32"], tolerance=tolerance)
    graphs = {**contents.graphs, "bf16": graph}
    return Bundle.open(write_bundle(root, msgspec.structs.replace(contents, graphs=graphs)))


@needs_openvino
def test_it_proves_itself_in_every_bucket_and_takes_no_more_rows(bundle, tmp_path):
    loaded = loader(tmp_path, calibrate=False).load("openvino", bundle, "fp32", 2)

    golden, expected = bundle.golden
    for engine in loaded.engines:
        np.testing.assert_allclose(engine.score(golden), expected, rtol=0, atol=1e-6)
        assert (engine.info.name, engine.info.precision) == ("openvino", "fp32")
        assert engine.info.max_batch_rows == engine.info.best_batch_rows == 64


@needs_openvino
def test_the_best_batch_is_one_of_the_buckets(bundle, tmp_path):
    (engine,) = loader(tmp_path).load("openvino", bundle, "fp32", 1).engines

    assert engine.info.best_batch_rows in (8, 64)


@needs_openvino
def test_buckets_that_are_all_too_large_for_the_bundle_are_refused(tmp_path):
    small = msgspec.structs.replace(tiny_contents(), max_batch_rows=4)
    bundle = Bundle.open(write_bundle(tmp_path, small))

    with pytest.raises(
        StartupError, match=r"none of engine\.row_buckets \(8, 64\) is within the 4"
    ):
        loader(tmp_path).load("openvino", bundle, "fp32", 1)


@needs_bf16
def test_bf16_runs_the_fp32_graph_within_its_own_tolerance(tmp_path):
    bundle = with_bf16(tmp_path, 2e-2)

    (engine,) = loader(tmp_path, calibrate=False).load("openvino", bundle, "bf16", 1).engines

    assert engine.info.precision == "bf16"
    assert bundle.graph("bf16") == bundle.graph("fp32")
    golden, expected = bundle.golden
    off = np.abs(engine.score(golden.take(slice(64))) - expected[:64])
    assert 1e-4 < off.max() < 2e-2


@needs_bf16
def test_bf16_that_is_further_off_than_was_measured_is_refused(tmp_path):
    bundle = with_bf16(tmp_path, 1e-5)

    with pytest.raises(StartupError, match="openvino does not give the golden scores"):
        loader(tmp_path).load("openvino", bundle, "bf16", 1)


def test_a_bundle_that_was_not_measured_in_bf16_names_the_command(bundle, tmp_path):
    command = f"podium export --bundle tiny@{bundle.manifest.version} --precision bf16 --run DIR"

    with pytest.raises(
        BundleError, match=f"no precision 'bf16'; it has fp32; to add it: {command}"
    ):
        bundle.graph("bf16")
    with pytest.raises(StartupError, match=command):
        loader(tmp_path).load("openvino", bundle, "bf16", 1)


def test_without_openvino_it_is_refused_and_the_package_named(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    assert "install podium[openvino]" in (loader(tmp_path).absent("openvino") or "")
    with pytest.raises(
        StartupError, match=r"openvino cannot load it: .*install podium\[openvino\]"
    ):
        loader(tmp_path).load("openvino", bundle, "fp32", 1)
