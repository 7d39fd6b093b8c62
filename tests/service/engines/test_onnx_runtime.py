"""ONNX Runtime on the CPU: what is particular to it, beyond the contract of every engine."""

import numpy as np
import onnxruntime as ort
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema
from service.engines import EngineInfo
from service.engines.onnx_runtime import OnnxRuntimeEngine
from service.errors import EngineFailed
from tests.support.bundles import linear_graph, run_graph, tiny_schema, write_tiny_bundle

INFO = EngineInfo(
    name="onnxruntime-cpu", precision="fp32", model="tiny", version="x", max_batch_rows=4096
)


def engine_of(path, threads=1):
    return OnnxRuntimeEngine(path, info=INFO, threads=threads)


def test_it_scores_as_a_direct_run_of_the_graph(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, _ = bundle.golden
    graph = bundle.graph("fp32")

    scores = engine_of(graph).score(rows)

    np.testing.assert_array_equal(scores, run_graph(graph.read_bytes(), rows))


@pytest.mark.parametrize("kind", ["numeric", "categorical", "multi"])
def test_it_feeds_only_the_inputs_that_the_graph_has(tmp_path, kind):
    """Inputs without columns are left out of the graph; ONNX Runtime refuses unknown ones."""
    schema = tiny_schema(items=5, users=5)
    schema = FeatureSchema(features=tuple(s for s in schema.features if s.kind == kind))
    graph = tmp_path / "ranker.onnx"
    graph.write_bytes(linear_graph(schema, seed=0))
    rows = Encoder(schema).encode_rows([{}, {"price": 3.0, "country": "SE", "tags": ["new"]}])

    scores = engine_of(graph).score(rows)

    np.testing.assert_array_equal(scores, run_graph(graph.read_bytes(), rows))


def test_a_batch_without_an_input_that_the_graph_wants_is_a_failure(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, _ = bundle.golden

    with pytest.raises(EngineFailed, match="the graph wants input 'multi_tags'"):
        engine_of(bundle.graph("fp32")).score(FeatureBatch(dense=rows.dense, ids=rows.ids))


def test_what_the_runtime_says_is_one_line_and_nothing_on_the_terminal(tmp_path, capfd):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, _ = bundle.golden
    engine = engine_of(bundle.graph("fp32"))

    with pytest.raises(EngineFailed) as failure:
        engine.score(FeatureBatch(dense=rows.dense, ids=rows.ids + 10**6, multi=rows.multi))

    assert "Gather" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_graph_is_refused(tmp_path, capfd):
    nonsense = tmp_path / "ranker.onnx"
    nonsense.write_bytes(b"not a graph")

    with pytest.raises(EngineFailed):
        engine_of(nonsense)

    assert capfd.readouterr() == ("", "")


def test_a_runtime_that_would_run_elsewhere_than_asked_is_refused(tmp_path, monkeypatch):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    elsewhere = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda session: elsewhere)

    with pytest.raises(EngineFailed, match="asked for CPUExecutionProvider, ONNX Runtime runs CUD"):
        engine_of(bundle.graph("fp32"))


def test_several_threads_score_the_same(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, _ = bundle.golden
    graph = bundle.graph("fp32")

    np.testing.assert_allclose(
        engine_of(graph, threads=2).score(rows), engine_of(graph).score(rows), atol=1e-6
    )
