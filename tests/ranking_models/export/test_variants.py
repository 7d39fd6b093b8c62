"""Every precision is proven against fp32, and what does not rank like it is not published."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from ranking_models.export.graph_rules import check_graph
from ranking_models.export.to_bundle import export_run
from ranking_models.export.variants import VariantsRefused, precisions_of
from ranking_models.gates import GateFailed, evidence_of_run, gate, measure, thresholds_for
from ranking_models.manifest import Lineage
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.run import TrainedRun
from tests.support.gated import sound_figures
from tests.support.plain_onnx import plain_scores
from tests.support.runs import DCN, DEEP_FM, tiny_run

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROW_PRECISIONS = ("fp32-rows-fp16", "fp32-rows-int8")


class Recorder:
    """An `ExportProgress` that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[tuple[int, int]] = []

    def begin(self, what: str) -> None:
        self.begun.append(what)

    def step(self, done: int, total: int) -> None:
        self.done.append((done, total))


def small(run: TrainedRun) -> TrainedRun:
    """The run with weights whose scores spread little, as those of a trained network."""
    return replace(run, weights={name: 0.5 * weights for name, weights in run.weights.items()})


@pytest.fixture(scope="module", params=[DCN, DEEP_FM], ids=["dcn-v2", "deepfm"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainedRun, Bundle, Recorder]:
    root = tmp_path_factory.mktemp("bundles")
    run = small(tiny_run(root / "tiny", architecture=request.param))
    progress = Recorder()
    path = export_run(
        run,
        root,
        name="tiny",
        created=TODAY,
        precisions=("fp16",),
        embedding_rows=("fp16", "int8"),
        force=True,  # int8 rows of four columns may move a score by more than their gate allows
        progress=progress,
    )
    return run, Bundle.open(path), progress


def test_every_precision_is_a_graph_of_its_own(made):
    _, bundle, _ = made

    assert set(bundle.manifest.precisions) == {"fp32", "fp16", *ROW_PRECISIONS}
    assert {v.file for v in bundle.manifest.precisions.values()} == {
        "ranker.fp32.onnx",
        "ranker.fp16.onnx",
        "ranker.fp32-rows-fp16.onnx",
        "ranker.fp32-rows-int8.onnx",
    }
    rows = {name: v.embedding_rows for name, v in bundle.manifest.precisions.items()}
    assert rows == {
        "fp32": "fp32",
        "fp16": "fp32",
        "fp32-rows-fp16": "fp16",
        "fp32-rows-int8": "int8",
    }


def test_every_graph_loads_and_agrees_in_plain_onnx_runtime(made):
    _, bundle, _ = made
    rows, reference = bundle.golden
    for precision, variant in bundle.manifest.precisions.items():
        model = onnx.load(bundle.graph(precision))
        onnx.checker.check_model(model, full_check=True)
        check_graph(model, bundle.schema)
        assert model.ir_version <= 13
        assert model.opset_import[0].version <= 26
        difference = np.abs(plain_scores(model.SerializeToString(), rows) - reference).max()
        assert difference <= variant.tolerance
        assert difference == pytest.approx(variant.parity, abs=1e-6)


def test_the_gates_figures_are_those_of_the_published_graphs(made):
    run, bundle, _ = made
    evidence = evidence_of_run(run)
    for precision, kind in (("fp16", "fp16"), ("fp32-rows-int8", "rows-int8")):
        stated = bundle.manifest.precisions[precision].gate
        again = measure(
            onnx_runtime_scorer(bundle.graph("fp32")),
            onnx_runtime_scorer(bundle.graph(precision)),
            evidence,
            max_activation=stated.figures.max_activation,
        )
        verdict = gate(again, thresholds_for(kind), reference="fp32", evidence=evidence)

        assert replace(stated, forced=False) == verdict
        assert stated.figures.max_difference > 0


def test_the_reference_has_no_gate_and_half_precision_passes_its_own(made):
    _, bundle, _ = made

    assert bundle.manifest.precisions["fp32"].gate is None
    assert bundle.manifest.precisions["fp16"].gate.passed
    assert not bundle.manifest.precisions["fp16"].gate.forced


def test_progress_names_every_precision_and_counts_its_rows(made):
    run, _, progress = made

    assert progress.begun == [
        f"{step} {precision}"
        for precision in ("fp16", *ROW_PRECISIONS)
        for step in ("building", "measuring")
    ]
    done, total = progress.done[-1]
    assert done == total > run.held_out.rows


def overflowing(run: TrainedRun) -> TrainedRun:
    """A network whose scores are sound in fp32, and whose insides are beyond fp16.

    The second layer undoes what the first one does.
    """
    weights = dict(run.weights)
    for name in ("weight", "bias"):
        weights[f"body.mlp.layers.0.{name}"] = 3e4 * weights[f"body.mlp.layers.0.{name}"]
    weights["body.mlp.layers.3.weight"] = weights["body.mlp.layers.3.weight"] / 3e4
    return replace(run, weights=weights)


def test_values_beyond_half_precision_inside_are_refused_and_nothing_is_written(tmp_path):
    run = overflowing(tiny_run(tmp_path / "tiny"))
    export = exporting(run, tmp_path / "out", precisions=("fp16",))

    with pytest.raises(VariantsRefused, match="fp16: the largest value inside the graph") as caught:
        export()
    assert not (tmp_path / "out").exists()
    assert set(caught.value.graphs) == {"fp32", "fp16"}
    assert all(failure.startswith("fp16: ") for failure in caught.value.failures)


def test_force_publishes_it_and_says_so(tmp_path):
    run = overflowing(tiny_run(tmp_path / "tiny"))
    export = exporting(run, tmp_path / "out", precisions=("fp16",), force=True)

    bundle = Bundle.open(export())

    forced = bundle.manifest.precisions["fp16"].gate
    assert forced.forced
    assert not forced.passed
    assert any("largest value inside the graph" in failure for failure in forced.failures)
    rows, reference = bundle.golden
    scores = plain_scores(bundle.graph("fp16").read_bytes(), rows)
    allowed = bundle.manifest.precisions["fp16"].tolerance
    assert np.abs(scores - reference).max() <= allowed


def test_the_same_model_in_fp32_alone_is_no_matter(tmp_path):
    run = overflowing(tiny_run(tmp_path / "tiny"))

    bundle = Bundle.open(exporting(run, tmp_path / "out")())

    assert set(bundle.manifest.precisions) == {"fp32"}


def test_weights_beyond_half_precision_are_named_and_force_is_no_help(tmp_path):
    run = tiny_run(tmp_path / "tiny")
    weights = dict(run.weights)
    weights["body.mlp.layers.0.bias"] = weights["body.mlp.layers.0.bias"] - np.float32(1e5)
    run = replace(run, weights=weights)

    with pytest.raises(InputError, match=r"'body\.mlp\.layers\.0\.bias' reach"):
        exporting(run, tmp_path / "out", precisions=("fp16",), force=True)()
    assert not (tmp_path / "out").exists()


def test_a_run_that_failed_against_its_parent_is_refused_before_any_work(tmp_path):
    run = tiny_run(tmp_path / "tiny")
    figures = replace(sound_figures(), top10_overlap=0.5)
    failed = gate(
        figures, thresholds_for("smaller"), reference="big", evidence=evidence_of_run(run)
    )
    lineage = Lineage(method="pruned", parent="big@1", options={}, gate=failed)
    run = replace(run, lineage=lineage)

    with pytest.raises(GateFailed, match="tiny, pruned from big@1, does not pass its gate"):
        exporting(run, tmp_path / "out")()
    assert not (tmp_path / "out").exists()
    bundle = Bundle.open(exporting(run, tmp_path / "out", force=True)())
    assert bundle.manifest.lineage.gate.forced


def test_where_a_sound_run_comes_from_stays_with_its_bundle(tmp_path):
    lineage = Lineage(method="continued", parent="big@1", options={"epochs": 3})
    run = replace(tiny_run(tmp_path / "tiny"), lineage=lineage)

    assert Bundle.open(exporting(run, tmp_path)()).manifest.lineage == lineage


def test_int8_is_two_graphs_and_says_how_they_were_made(tmp_path):
    run = small(tiny_run(tmp_path / "tiny"))
    rows = np.arange(256)
    calibration = run.calibration.take(rows % run.calibration.rows)
    run = replace(run, calibration=calibration, calibration_rows=rows + 1000)

    export = exporting(run, tmp_path, precisions=("int8",), force=True)
    bundle = Bundle.open(export())

    variants = bundle.manifest.precisions
    assert set(variants) == {"fp32", "int8-cpu", "int8-trt"}
    made = {name: variants[name].quantisation for name in ("int8-cpu", "int8-trt")}
    assert {name: (q.activations, q.kept_precision) for name, q in made.items()} == {
        "int8-cpu": ("u8", "fp32"),
        "int8-trt": ("s8", "fp16"),
    }
    rows, reference = bundle.golden
    for name in made:
        assert variants[name].tolerance >= 0.02
        assert variants[name].gate.figures.max_difference > 0
        scores = plain_scores(bundle.graph(name).read_bytes(), rows)
        assert np.abs(scores - reference).max() <= variants[name].tolerance
    # What is left of the TensorRT graph in higher precision is half, which ends somewhere.
    assert variants["int8-trt"].gate.thresholds.max_activation == 65504
    assert variants["int8-cpu"].gate.thresholds.max_activation is None


def test_calibration_rows_that_the_gate_measures_on_are_refused(tmp_path):
    run = tiny_run(tmp_path / "tiny")
    run = replace(run, calibration_rows=run.held_out_rows)

    with pytest.raises(InputError, match="calibration rows are held-out rows too"):
        exporting(run, tmp_path / "out", precisions=("int8-cpu",))()
    assert not (tmp_path / "out").exists()


def exporting(run: TrainedRun, root: Path, **options: object) -> Callable[[], Path]:
    return lambda: export_run(run, root, name="tiny", created=TODAY, **options)  # type: ignore[arg-type]


def test_int8_means_both_of_its_graphs_and_fp32_is_always_first():
    assert precisions_of(("int8", "fp16", "fp16")) == ("fp32", "fp16", "int8-cpu", "int8-trt")
    assert precisions_of((), ("int8", "fp16")) == ("fp32", *ROW_PRECISIONS)
    assert precisions_of(("fp32-rows-int8",), ("int8",)) == ("fp32", "fp32-rows-int8")


@pytest.mark.parametrize(
    ("asked", "rows", "message"),
    [
        (("fp8",), (), "no precision 'fp8'; there are fp32, fp16, bf16, int8-cpu"),
        ((), ("int4",), "no 'int4' rows, only fp16 and int8"),
    ],
)
def test_a_precision_that_is_not_known_is_named(asked, rows, message):
    with pytest.raises(InputError, match=message):
        precisions_of(asked, rows)
