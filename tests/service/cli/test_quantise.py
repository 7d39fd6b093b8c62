"""``podium quantise``: a bundle gets INT8 graphs, or one line that says why not."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.bundle import Bundle, find_bundle
from ranking_models.export.to_bundle import export_run
from ranking_models.run import TrainedRun, save_run
from service.cli import run
from tests.support.bundles import run_graph
from tests.support.runs import tiny_run


def with_calibration(trained: TrainedRun, rows: int) -> TrainedRun:
    return replace(
        trained,
        calibration=trained.held_out.take(np.arange(rows) % trained.held_out.rows),
        calibration_rows=1000 + np.arange(rows),
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fp32 bundle of `tiny_run`: exporting takes seconds."""
    root = tmp_path_factory.mktemp("bundles")
    trained = tiny_run(Path("runs/tiny"))
    export_run(trained, root, name="tiny", created=datetime(2026, 1, 1, tzinfo=UTC))
    return root


@pytest.fixture
def exported(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainedRun:
    """A run in ``runs/tiny`` and its fp32 bundle in ``bundles``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundles, "bundles")
    trained = with_calibration(tiny_run(Path("runs/tiny")), 300)
    save_run(trained)
    return trained


def failed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line on standard error of a command that must fail."""
    assert run(["quantise", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_bundle_gets_both_graphs_and_keeps_what_it_had(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = find_bundle(Path("bundles"), "tiny")
    assert run(["quantise", "--bundle", "tiny", "--run", "runs/tiny", "--force"]) == 0

    after = Bundle.open(find_bundle(Path("bundles"), "tiny"))
    assert after.path != before
    assert set(after.manifest.precisions) == {"fp32", "int8-cpu", "int8-trt"}
    assert after.manifest.lineage == Bundle.open(before).manifest.lineage
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "int8-cpu: u8 activations, ranges by " in printed.out
    assert "cross.layers.0" in printed.out
    golden, scores = after.golden
    for precision in ("int8-cpu", "int8-trt"):
        variant = after.manifest.precisions[precision]
        assert variant.quantisation is not None
        assert variant.quantisation.calibration_rows == 300
        assert variant.gate is not None
        found = run_graph(after.graph(precision).read_bytes(), golden)
        assert np.abs(found - scores).max() <= variant.tolerance


def test_one_target_can_go_to_a_folder_of_its_own(exported: TrainedRun) -> None:
    arguments = ["--bundle", "tiny", "--run", "runs/tiny", "--target", "cpu", "--out", "other"]
    assert run(["quantise", *arguments, "--force"]) == 0

    assert len(list(Path("bundles/tiny").iterdir())) == 1
    manifest = Bundle.open(find_bundle(Path("other"), "tiny")).manifest
    assert set(manifest.precisions) == {"fp32", "int8-cpu"}


def test_a_run_of_another_model_is_refused(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {name: values * 1.5 for name, values in exported.weights.items()}
    save_run(replace(exported, directory=Path("runs/other"), name="other", weights=weights))

    line = failed(capsys, "--bundle", "tiny", "--run", "runs/other")

    assert "runs/other: is not the run of tiny@" in line
    assert "golden rows differ" in line


def test_too_few_calibration_rows_leave_the_bundle_as_it_was(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(with_calibration(exported, 40), force=True)

    line = failed(capsys, "--bundle", "tiny", "--run", "runs/tiny")

    assert "at least 256 calibration rows, there are 40" in line
    assert len(list(Path("bundles/tiny").iterdir())) == 1


def test_rows_come_from_a_run_or_a_log_and_not_from_both(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for sources in ([], ["--run", "runs/tiny", "--data", "log"]):
        line = failed(capsys, "--bundle", "tiny", *sources, code=2)
        assert "either --run DIR or --data DIR" in line


def test_an_unknown_target_is_named(
    exported: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failed(capsys, "--bundle", "tiny", "--run", "runs/tiny", "--target", "cpu,gpu", code=2)
    assert "'gpu'" in line
