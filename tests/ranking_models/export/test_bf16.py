"""bf16: the fp32 graph, measured as OpenVINO computes it in bfloat16."""

import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.bundle.rewriting import contents_of
from ranking_models.bundle.writing import write_bundle
from ranking_models.export.to_bundle import export_run
from ranking_models.export.variants import VariantsRefused
from ranking_models.gates import evidence_of_run, thresholds_for
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.openvino import OpenVinoFailed, openvino_scorer, why_absent
from tests.support.runs import tiny_run

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)

needs_bf16 = pytest.mark.skipif(why_absent("bf16") is not None, reason=str(why_absent("bf16")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    made = tiny_run(tmp_path_factory.mktemp("runs") / "tiny")
    # Scores that spread little, as those of a trained network.
    return replace(made, weights={name: 0.5 * weights for name, weights in made.weights.items()})


def exported(run, root, **options):
    return Bundle.open(
        export_run(run, root, name="tiny", created=TODAY, precisions=("bf16",), **options)
    )


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported(run, tmp_path_factory.mktemp("bundles"), force=True)


@needs_bf16
def test_the_gate_has_the_figures_of_openvinos_scores(run, bundle):
    variant, held_out = bundle.manifest.precisions["bf16"], evidence_of_run(run).held_out

    reference = onnx_runtime_scorer(bundle.graph("fp32"))(held_out)
    reduced = openvino_scorer(bundle.graph("bf16"), computes="bf16")(held_out)

    off = np.abs(reference.astype(np.float64) - reduced)
    figures = variant.gate.figures
    assert figures.p99_difference == pytest.approx(np.quantile(off, 0.99), rel=1e-3)
    assert figures.max_difference >= off.max() > 1e-4
    assert variant.gate.thresholds == thresholds_for("bf16")
    assert 1e-5 < variant.parity <= variant.tolerance


@needs_bf16
def test_it_has_no_file_of_its_own_and_is_kept_when_the_bundle_is_written_again(bundle, tmp_path):
    again = Bundle.open(write_bundle(tmp_path, contents_of(bundle)))

    assert bundle.manifest.precisions["bf16"].file == "ranker.fp32.onnx"
    assert [file.name for file in bundle.path.glob("*.onnx")] == ["ranker.fp32.onnx"]
    assert again.manifest.version == bundle.manifest.version
    assert again.score_hash("bf16") != again.score_hash("fp32")


@needs_bf16
def test_a_model_that_bfloat16_spoils_is_refused(run, tmp_path):
    steep = replace(run, weights={name: 20 * weights for name, weights in run.weights.items()})

    with pytest.raises(VariantsRefused) as refused:
        exported(steep, tmp_path)

    assert any("bf16: the largest score difference is" in line for line in refused.value.failures)
    assert not list(tmp_path.glob("*/*"))


def test_without_openvino_nothing_is_measured_and_nothing_written(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(OpenVinoFailed, match=r"install podium\[openvino\]"):
        exported(run, tmp_path)

    assert not list(tmp_path.glob("*/*"))
