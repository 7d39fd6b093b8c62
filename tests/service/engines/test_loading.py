"""From a bundle to a chain: an engine gets traffic only after it has proved itself."""

import sys

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ranking_models.bundle import Bundle, Graph, write_bundle
from service.engines.loading import load_chain
from service.errors import StartupError
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.bundles import linear_graph, tiny_contents, write_tiny_bundle

CPU = ("onnxruntime-cpu",)


def load(bundle, precision="fp32", engines=CPU):
    return load_chain(bundle, precision, engines, EngineSettings(), FakeClock())


def bundle_with(tmp_path, **changes):
    """A valid bundle of the tiny contents with some of them changed."""
    return Bundle.open(write_bundle(tmp_path, msgspec.structs.replace(tiny_contents(), **changes)))


def test_a_loaded_chain_scores_the_golden_rows(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, expected = bundle.golden

    chain = load(bundle)

    np.testing.assert_allclose(chain.score(rows).scores, expected, rtol=0, atol=1e-5)
    (engine,) = chain.engines
    assert engine.info.name == "onnxruntime-cpu"
    assert engine.info.precision == "fp32"
    assert (engine.info.model, engine.info.version) == ("tiny", bundle.manifest.version)
    assert engine.info.max_batch_rows == bundle.manifest.max_batch_rows


def test_proving_does_not_count_as_traffic(tmp_path):
    chain = load(Bundle.open(write_tiny_bundle(tmp_path)))

    assert [state.calls for state in chain.states()] == [0]


def test_an_engine_whose_scores_are_off_is_refused_with_file_and_figures(tmp_path):
    contents = tiny_contents()
    other = Graph(onnx=linear_graph(contents.schema, seed=99), tolerance=1e-5, parity=0.0)
    bundle = bundle_with(tmp_path, graphs={"fp32": other})

    with pytest.raises(StartupError) as refusal:
        load(bundle)

    text = str(refusal.value)
    assert str(bundle.graph("fp32")) in text
    assert "onnxruntime-cpu does not give the golden scores: row " in text
    assert "(allowed difference 1e-05)" in text
    assert "\n" not in text


def test_scores_within_the_tolerance_of_the_precision_are_good_enough(tmp_path):
    contents = tiny_contents()
    graph = Graph(onnx=linear_graph(contents.schema, seed=99), tolerance=1.0, parity=0.0)

    chain = load(bundle_with(tmp_path, graphs={"fp32": graph}))

    assert len(chain.engines) == 1


def test_a_limit_below_the_number_of_golden_rows_is_kept_while_proving(tmp_path):
    bundle = bundle_with(tmp_path, max_batch_rows=5)

    assert load(bundle).max_batch_rows == 5


def test_a_precision_that_the_bundle_has_not_is_refused_with_those_it_has(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    with pytest.raises(StartupError, match=r"no precision 'fp16'; it has fp32"):
        load(bundle, precision="fp16")


def test_an_engine_that_there_is_not_is_refused(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    with pytest.raises(StartupError, match="no engine 'popularity' to load"):
        load(bundle, engines=("onnxruntime-cpu", "popularity"))


def test_a_graph_that_the_runtime_cannot_load_is_refused_with_its_file(tmp_path):
    bundle = bundle_with(
        tmp_path, graphs={"fp32": Graph(onnx=b"not a graph", tolerance=1e-5, parity=0.0)}
    )

    with pytest.raises(StartupError, match=r"ranker\.fp32\.onnx: onnxruntime-cpu cannot load it"):
        load(bundle)


def test_a_graph_that_wants_other_rows_than_the_bundle_has_is_refused(tmp_path):
    contents = tiny_contents()
    schema = msgspec.structs.replace(contents.schema, features=contents.schema.features[:2])
    narrow = Graph(onnx=linear_graph(schema, seed=0), tolerance=1e-5, parity=0.0)

    with pytest.raises(StartupError, match="cannot score the golden rows"):
        load(bundle_with(tmp_path, graphs={"fp32": narrow}))


def hand_made(*nodes, shape):
    """A graph of these nodes from `dense` to `score`."""
    graph = helper.make_graph(
        nodes,
        "hand made",
        [helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    onnx.checker.check_model(model)
    return Graph(onnx=model.SerializeToString(), tolerance=1e-5, parity=0.0)


def test_a_graph_whose_scores_have_another_shape_is_refused(tmp_path):
    maximum = helper.make_node("ReduceMax", ["dense"], ["score"], axes=[1], keepdims=1)
    column = hand_made(maximum, shape=["rows", 1])

    with pytest.raises(
        StartupError, match=r"the scores are float32 \[32, 1\] where float32 \[32\] is due"
    ):
        load(bundle_with(tmp_path, graphs={"fp32": column}))


def test_a_score_that_is_not_a_number_is_never_near_enough(tmp_path):
    nothing = hand_made(
        helper.make_node("Sub", ["dense", "dense"], ["zeros"]),
        helper.make_node("Div", ["zeros", "zeros"], ["nan"]),
        helper.make_node("ReduceMean", ["nan"], ["score"], axes=[1], keepdims=0),
        shape=["rows"],
    )

    with pytest.raises(StartupError, match="row 0 of 32 scores nan"):
        load(bundle_with(tmp_path, graphs={"fp32": nothing}))


def test_without_onnx_runtime_the_message_says_what_to_install(tmp_path, monkeypatch):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    monkeypatch.setitem(sys.modules, "service.engines.onnx_runtime", None)

    with pytest.raises(StartupError, match=r"install podium\[cpu\] or podium\[gpu\]"):
        load(bundle)


def test_two_distributions_of_one_runtime_are_refused(tmp_path, monkeypatch):
    """pip installs both extras into one module without a word."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    installed = tmp_path / "site" / "onnxruntime_gpu-1.31.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\n")
    monkeypatch.syspath_prepend(installed.parent)

    with pytest.raises(StartupError, match="onnxruntime and onnxruntime-gpu are both installed"):
        load(bundle)
