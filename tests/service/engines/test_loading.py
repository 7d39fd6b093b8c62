"""From a bundle to a chain: an engine gets traffic only after it has proved itself."""

import sys
from types import SimpleNamespace

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ranking_models.bundle import Bundle, Graph, write_bundle
from service.engines.loading import EngineLoader
from service.errors import StartupError
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.bundles import linear_graph, tiny_contents, write_tiny_bundle

CPU = "onnxruntime-cpu"
SETTINGS = EngineSettings(calibrate=False)


@pytest.fixture
def load(tmp_path):
    def load(bundle, precision="fp32", engine=CPU, instances=1):
        loader = EngineLoader(SETTINGS, tmp_path / "plans", FakeClock())
        return loader.load(engine, bundle, precision, instances).engines

    return load


def bundle_with(tmp_path, **changes):
    """A valid bundle of the tiny contents with some of them changed."""
    return Bundle.open(write_bundle(tmp_path, msgspec.structs.replace(tiny_contents(), **changes)))


def test_a_loaded_engine_scores_the_golden_rows(load, tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    rows, expected = bundle.golden

    (engine,) = load(bundle)

    np.testing.assert_allclose(engine.score(rows), expected, rtol=0, atol=1e-5)
    assert engine.info.name == "onnxruntime-cpu"
    assert engine.info.precision == "fp32"
    assert (engine.info.model, engine.info.version) == ("tiny", bundle.manifest.version)
    assert engine.info.max_batch_rows == bundle.manifest.max_batch_rows


def test_every_instance_gets_an_engine_of_its_own(load, tmp_path):
    one, other = load(Bundle.open(write_tiny_bundle(tmp_path)), instances=2)

    assert one is not other


def test_an_engine_whose_scores_are_off_is_refused_with_file_and_figures(load, tmp_path):
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


def test_scores_within_the_tolerance_of_the_precision_are_good_enough(load, tmp_path):
    contents = tiny_contents()
    graph = Graph(onnx=linear_graph(contents.schema, seed=99), tolerance=1.0, parity=0.0)

    assert len(load(bundle_with(tmp_path, graphs={"fp32": graph}))) == 1


def test_a_limit_below_the_number_of_golden_rows_is_kept_while_proving(load, tmp_path):
    bundle = bundle_with(tmp_path, max_batch_rows=5)

    (engine,) = load(bundle)
    assert engine.info.max_batch_rows == 5


def test_a_precision_that_the_bundle_has_not_is_refused_with_those_it_has(load, tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    with pytest.raises(StartupError, match=r"no precision 'fp16'; it has fp32"):
        load(bundle, precision="fp16")


def test_an_engine_that_there_is_not_is_refused(load, tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    with pytest.raises(StartupError, match="no engine 'popularity' to load"):
        load(bundle, engine="popularity")


def test_a_graph_that_the_runtime_cannot_load_is_refused_with_its_file(load, tmp_path):
    bundle = bundle_with(
        tmp_path, graphs={"fp32": Graph(onnx=b"not a graph", tolerance=1e-5, parity=0.0)}
    )

    with pytest.raises(StartupError, match=r"ranker\.fp32\.onnx: onnxruntime-cpu cannot load it"):
        load(bundle)


def test_a_graph_that_wants_other_rows_than_the_bundle_has_is_refused(load, tmp_path):
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


def test_a_graph_whose_scores_have_another_shape_is_refused(load, tmp_path):
    maximum = helper.make_node("ReduceMax", ["dense"], ["score"], axes=[1], keepdims=1)
    column = hand_made(maximum, shape=["rows", 1])

    with pytest.raises(
        StartupError, match=r"the scores are float32 \[32, 1\] where float32 \[32\] is due"
    ):
        load(bundle_with(tmp_path, graphs={"fp32": column}))


def test_a_score_that_is_not_a_number_is_never_near_enough(load, tmp_path):
    nothing = hand_made(
        helper.make_node("Sub", ["dense", "dense"], ["zeros"]),
        helper.make_node("Div", ["zeros", "zeros"], ["nan"]),
        helper.make_node("ReduceMean", ["nan"], ["score"], axes=[1], keepdims=0),
        shape=["rows"],
    )

    with pytest.raises(StartupError, match="row 0 of 32 scores nan"):
        load(bundle_with(tmp_path, graphs={"fp32": nothing}))


def test_without_onnx_runtime_the_message_says_what_to_install(load, tmp_path, monkeypatch):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    monkeypatch.setitem(sys.modules, "service.engines.onnx_runtime", None)

    with pytest.raises(StartupError, match=r"install podium\[cpu\] or podium\[gpu\]"):
        load(bundle)


def test_two_distributions_of_one_runtime_are_refused(load, tmp_path, monkeypatch):
    """pip installs both extras into one module without a word."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    installed = tmp_path / "site" / "onnxruntime_gpu-1.31.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\n")
    monkeypatch.syspath_prepend(installed.parent)

    with pytest.raises(StartupError, match="onnxruntime and onnxruntime-gpu are both installed"):
        load(bundle)


def test_without_a_gpu_tensorrt_is_refused_with_the_reason(load, tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    loader = EngineLoader(SETTINGS, tmp_path / "plans", FakeClock())
    reason = loader.absent("tensorrt")
    if reason is None:
        pytest.skip("this machine has a GPU")

    with pytest.raises(StartupError, match="tensorrt cannot load it: no "):
        load(bundle, engine="tensorrt")
    assert reason.startswith("no ")
    assert loader.absent(CPU) is None


def use_slots(monkeypatch, slots):
    """Have these as TensorRT's."""
    plan = SimpleNamespace(slots=slots, predicted_bytes=1, measured_bytes=2)
    bundles = "service.engines.tensor_rt.bundles"
    monkeypatch.setattr(f"{bundles}.find_gpu", lambda _: "a GPU")
    monkeypatch.setattr(f"{bundles}.load_bundle", lambda *_, **__: plan)


class _Sized:
    """An engine that notes the rows of its calls."""

    def __init__(self, engine):
        self._engine, self.calls, self.closed = engine, [], False
        self.info = msgspec.structs.replace(engine.info, name="tensorrt", max_batch_rows=128)

    def score(self, batch):
        self.calls.append(batch.rows)
        return self._engine.score(batch)

    def close(self):
        self.closed = True


def test_an_engine_with_buckets_is_proved_and_warmed_up_in_each(load, tmp_path, monkeypatch):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    slots = tuple(_Sized(engine) for engine in load(bundle, instances=2))
    use_slots(monkeypatch, slots)

    engines = load(bundle, engine="tensorrt", instances=2)

    assert engines == slots
    for slot in slots:
        assert {64, 128} <= set(slot.calls)
        assert max(slot.calls) == 128
        assert not slot.closed


def test_engines_that_do_not_prove_themselves_are_closed(load, tmp_path, monkeypatch):
    contents = tiny_contents()
    other = Graph(onnx=linear_graph(contents.schema, seed=99), tolerance=1.0, parity=0.0)
    wrong = bundle_with(tmp_path / "wrong", graphs={"fp32": other})
    slots = tuple(_Sized(engine) for engine in load(wrong, instances=2))
    use_slots(monkeypatch, slots)

    with pytest.raises(StartupError, match="tensorrt does not give the golden scores"):
        load(Bundle.open(write_tiny_bundle(tmp_path)), engine="tensorrt", instances=2)

    assert [slot.closed for slot in slots] == [True, True]


def test_plans_that_cannot_be_written_refuse_tensorrt_and_say_where(load, tmp_path, monkeypatch):
    use_slots(monkeypatch, ())
    (tmp_path / "plans").write_text("in the way")

    with pytest.raises(StartupError, match=r"tensorrt cannot load it: .*plans: cannot be written"):
        load(Bundle.open(write_tiny_bundle(tmp_path)), engine="tensorrt")
