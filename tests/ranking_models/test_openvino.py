"""OpenVINO computes what it is asked for, in the precision that it is asked for, or refuses."""

from pathlib import Path

import numpy as np
import pytest

import ranking_models
from ranking_models import openvino
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.openvino import (
    OpenVinoFailed,
    OpenVinoGraph,
    bf16_flags,
    check_precision,
    openvino_scorer,
    why_absent,
)
from ranking_models.schema import FeatureBatch
from tests.support.bundles import write_tiny_bundle

BUCKETS = (8, 64)

needs_openvino = pytest.mark.skipif(why_absent("f32") is not None, reason=str(why_absent("f32")))
needs_bf16 = pytest.mark.skipif(why_absent("bf16") is not None, reason=str(why_absent("bf16")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def network() -> Bundle:
    """The demonstration's: unlike the tiny one it has matrix products."""
    demonstration = Path(ranking_models.__file__).parent / "demo"
    return Bundle.open(find_bundle(demonstration, "marketplace"))


@pytest.fixture(scope="module")
def graph(bundle: Bundle) -> OpenVinoGraph:
    return OpenVinoGraph(bundle.graph("fp32"), computes="f32", buckets=BUCKETS)


@needs_openvino
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 63, 64])
def test_a_batch_is_padded_and_only_its_own_scores_come_out(bundle, graph, rows):
    golden, expected = bundle.golden
    chosen = np.arange(rows) % golden.rows

    scores = graph(golden.take(chosen))

    np.testing.assert_allclose(scores, expected[chosen], rtol=0, atol=1e-6)


@needs_openvino
def test_an_input_that_the_graph_converts_first_keeps_its_name(network):
    """The graphs for TensorRT begin with a conversion that OpenVINO leaves out."""
    golden, expected = network.golden
    graph = OpenVinoGraph(network.graph("int8-trt"), computes="f32", buckets=(golden.rows,))

    tolerance = network.manifest.precisions["int8-trt"].tolerance
    np.testing.assert_allclose(graph(golden), expected, rtol=0, atol=tolerance)


@needs_openvino
def test_a_scorer_takes_more_rows_than_its_largest_bucket(bundle):
    golden, expected = bundle.golden
    chosen = np.arange(2 * openvino.BUCKETS[-1] + 5) % golden.rows
    score = openvino_scorer(bundle.graph("fp32").read_bytes(), computes="f32")

    np.testing.assert_allclose(score(golden.take(chosen)), expected[chosen], rtol=0, atol=1e-6)


@needs_openvino
def test_rows_that_do_not_fit_are_refused_and_the_next_ones_scored(bundle, graph):
    golden, expected = bundle.golden
    wide = golden.ids.astype(np.int64)

    with pytest.raises(OpenVinoFailed, match="65 rows are more than 64"):
        graph(golden.take(np.zeros(65, np.intp)))
    with pytest.raises(OpenVinoFailed, match="wants input 'multi_tags', the batch has none"):
        graph(FeatureBatch(dense=golden.dense, ids=golden.ids))
    with pytest.raises(OpenVinoFailed, match=r"input 'ids' is int64 \(32, \d\), not int32 \(rows"):
        graph(FeatureBatch(dense=golden.dense, ids=wide, multi=golden.multi))
    np.testing.assert_allclose(graph(golden), expected, rtol=0, atol=1e-6)


@needs_openvino
def test_a_graph_that_is_none_is_refused_with_its_file(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"not a graph")

    with pytest.raises(OpenVinoFailed, match=r"broken\.onnx: OpenVINO does not load it: "):
        OpenVinoGraph(file, computes="f32")


@needs_bf16
def test_bf16_is_computed_in_bfloat16_and_f32_is_not(network):
    golden, expected = network.golden

    off = {
        computes: np.abs(
            openvino_scorer(network.graph("fp32"), computes=computes)(golden) - expected
        )
        for computes in ("f32", "bf16")
    }

    assert off["f32"].max() < 1e-5
    assert 1e-4 < off["bf16"].max() < 2e-2


@needs_bf16
@pytest.mark.parametrize(("asked", "given"), [("f32", "bf16"), ("bf16", "f32")])
def test_what_runs_is_looked_up_in_the_compiled_graph(network, asked, given):
    import openvino as runtime

    core = runtime.Core()
    compiled = core.compile_model(
        core.read_model(network.graph("fp32")), "CPU", {"INFERENCE_PRECISION_HINT": given}
    )

    check_precision(compiled, given)
    with pytest.raises(OpenVinoFailed, match=f"asked for {asked}, OpenVINO runs {given}"):
        check_precision(compiled, asked)


@needs_bf16
def test_a_graph_that_bfloat16_does_nothing_for_is_refused(bundle):
    with pytest.raises(OpenVinoFailed, match="asked for bf16, it has no products"):
        OpenVinoGraph(bundle.graph("fp32"), computes="bf16")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("fpu avx512f avx512_bf16 amx_bf16", {"avx512_bf16", "amx_bf16"}),
        ("fpu avx512f amx_bf16", {"amx_bf16"}),
        ("fpu avx512f avx512_vnni", set()),
    ],
)
def test_the_cpus_instructions_for_bfloat16_are_read_from_linux(tmp_path, flags, found):
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n")

    assert bf16_flags(cpu_info) == found


@needs_openvino
@pytest.mark.parametrize("there", [True, False])
def test_a_cpu_without_bfloat16_is_refused(tmp_path, there):
    cpu_info = tmp_path / "cpuinfo"
    if there:
        cpu_info.write_text("flags : fpu avx2\n")

    assert "neither amx_bf16 and avx512_bf16" in (why_absent("bf16", cpu_info) or "")
    assert why_absent("f32", cpu_info) is None


def test_without_openvino_the_package_is_named(bundle: Bundle, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)

    with pytest.raises(OpenVinoFailed, match=r"cannot be imported .* install podium\[openvino\]"):
        OpenVinoGraph(bundle.graph("fp32"), computes="f32")
