"""``podium export``: what people see, and exit codes."""

import io
from pathlib import Path

import pytest
from msgspec.structs import replace

from ranking_models.bundle import list_bundles, read_manifest
from ranking_models.run import TrainedRun, save_run
from service.cli import run
from service.cli.export_progress import drawn_export
from tests.support.runs import tiny_run


@pytest.fixture
def saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, networks_exported_once: None
) -> TrainedRun:
    monkeypatch.chdir(tmp_path)
    made = tiny_run(Path("runs/tiny"))
    save_run(made)
    return made


def save_overflowing(made: TrainedRun) -> None:
    """Sound in fp32; beyond fp16 between the first two layers of its MLP."""
    weights = dict(made.weights)
    for name in ("weight", "bias"):
        weights[f"body.mlp.layers.0.{name}"] = 3e4 * weights[f"body.mlp.layers.0.{name}"]
    weights["body.mlp.layers.3.weight"] = weights["body.mlp.layers.3.weight"] / 3e4
    save_run(replace(made, weights=weights), force=True)


def test_without_options_it_is_one_line(saved: TrainedRun, capsys: pytest.CaptureFixture[str]):
    assert run(["export", "--run", "runs/tiny"]) == 0

    printed = capsys.readouterr()
    (made,) = list_bundles(Path("bundles"))
    assert printed.out == (
        f"wrote {made.path}, proven against PyTorch; serve it as tiny@{made.version}\n"
    )
    assert printed.err == ""


def test_precisions_come_with_their_figures_and_verdicts(
    saved: TrainedRun, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--precision", "fp16,fp32", "--embedding-rows", "fp16", "--name", "small"]
    assert run(["export", "--run", "runs/tiny", *arguments, "--out", "made"]) == 0

    printed = capsys.readouterr()
    (made,) = list_bundles(Path("made"))
    variants = read_manifest(made.path).precisions
    lines = printed.out.splitlines()
    assert printed.err == ""  # no progress where there is no terminal
    assert [line.split()[0] for line in lines[:4]] == [
        "precision",
        "fp32",
        "fp16",
        "fp32-rows-fp16",
    ]
    assert [line.split()[-1] for line in lines[:4]] == ["gate", "reference", "passed", "passed"]
    figures = variants["fp16"].gate.figures  # type: ignore[union-attr]
    assert f"{figures.max_difference:.1e}" in lines[2]
    assert f"{figures.top10_overlap:.4f}" in lines[2]
    assert f"{(made.path / 'ranker.fp16.onnx').stat().st_size:,}" in lines[2]
    assert lines[4].endswith(f"serve it as small@{made.version}")


def test_a_failed_gate_is_a_line_per_threshold_and_nothing_is_written(
    saved: TrainedRun, capsys: pytest.CaptureFixture[str]
):
    save_overflowing(saved)

    assert run(["export", "--run", "runs/tiny", "--precision", "fp16"]) == 1

    printed = capsys.readouterr()
    assert not Path("bundles").exists()
    *failures, last = printed.err.splitlines()
    assert len(failures) >= 1
    assert all(line.startswith("  fp16: ") for line in failures)
    assert "the largest value inside the graph" in printed.err
    assert last.startswith("podium: ")
    assert "nothing was written" in last
    assert "FAILED" in printed.out


def test_force_writes_it_and_says_so(saved: TrainedRun, capsys: pytest.CaptureFixture[str]):
    save_overflowing(saved)

    assert run(["export", "--run", "runs/tiny", "--precision", "fp16", "--force"]) == 0

    assert "FAILED, forced" in capsys.readouterr().out
    (made,) = list_bundles(Path("bundles"))
    assert read_manifest(made.path).precisions["fp16"].gate.forced  # type: ignore[union-attr]


def test_a_bundle_gets_more_precisions_as_a_new_version(
    saved: TrainedRun, capsys: pytest.CaptureFixture[str]
):
    """From its graph alone: no network is needed, so imported models get them too."""
    assert run(["export", "--run", "runs/tiny"]) == 0
    (old,) = list_bundles(Path("bundles"))

    more = ["--bundle", "tiny", "--run", "runs/tiny", "--precision", "fp16"]
    assert run(["export", *more]) == 0

    (new,) = [ref for ref in list_bundles(Path("bundles")) if ref != old]
    manifest = read_manifest(new.path)
    assert set(manifest.precisions) == {"fp32", "fp16"}
    assert manifest.precisions["fp16"].gate.passed  # type: ignore[union-attr]
    fp32 = "ranker.fp32.onnx"
    assert (new.path / fp32).read_bytes() == (old.path / fp32).read_bytes()
    assert f"wrote {new.path}, proven against fp32" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "log"],
        ["--run", "runs/tiny", "--data", "log"],
        ["--bundle", "tiny"],
        ["--bundle", "tiny", "--run", "runs/tiny", "--data", "log"],
        ["--bundle", "tiny", "--run", "runs/tiny", "--name", "other"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(
    saved: TrainedRun, capsys: pytest.CaptureFixture[str], arguments: list[str]
):
    assert run(["export", *arguments]) == 2

    assert "see podium export --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--precision", "fp8"], "--precision: there is no precision 'fp8'"),
        (["--embedding-rows", "int4"], "--embedding-rows: there are no 'int4' rows"),
        (["--run", "nowhere"], "nowhere: there is no run here"),
    ],
)
def test_what_is_not_there_is_one_line(
    saved: TrainedRun, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    assert run(["export", "--run", "runs/tiny", *arguments]) == 1

    printed = capsys.readouterr()
    assert printed.err.startswith(f"podium: {reason}")
    assert printed.err.count("\n") == 1
    assert not Path("bundles").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_drawn_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        with drawn_export(stream) as progress:
            progress.begin("building fp16")
            progress.begin("measuring fp16")
            progress.step(10, 20)
        assert ("measuring fp16" in stream.getvalue()) == drawn
