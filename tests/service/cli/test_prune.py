"""``podium prune``: what people see, what is written, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ranking_models.architectures import DCNv2
from ranking_models.run import load_run, save_run
from service.cli import run
from tests.support.logs import small_tables, write_log

TRAIN = [
    "train", "--data", "log", "--out", "large", "--hidden", "8", "--embedding-dim", "4",
    "--cross-layers", "1", "--dropout", "0.1", "--learning-rate", "0.02", "--batch-size", "32",
    "--epochs", "12",
]  # fmt: skip
PRUNE = ["prune", "--run", "large", "--data", "log", "--out", "half"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_log(folder / "log", small_tables())
        assert run(TRAIN) == 0
    return folder


@pytest.fixture(autouse=True)
def there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the log and the run, for one test."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The last line on standard error of a command that must fail."""
    assert run(list(arguments)) == code
    assert not Path("half").exists()
    last: str = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("podium: ")
    return last


def ruin() -> None:
    """Make the run one whose order depends on every one of its hidden units."""
    large, rng = load_run(Path("large")), np.random.default_rng(3)
    weights = {name: array.copy() for name, array in large.weights.items()}
    for name in ("body.mlp.layers.0.weight", "body.embedding.table.weight", "body.head.weight"):
        weights[name] = rng.normal(0, 2, weights[name].shape).astype(np.float32)
    save_run(replace(large, weights=weights), force=True)


def test_half_of_the_units_go_and_the_gate_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PRUNE, "--epochs", "6"]) == 0

    made, large = load_run(Path("half")), load_run(Path("large"))
    assert made.architecture == DCNv2(embedding_dim=4, cross_layers=1, hidden=(4,), dropout=0.1)
    assert made.lineage is not None
    assert made.lineage.gate is not None
    assert made.lineage.gate.passed
    assert not made.lineage.gate.forced
    printed = capsys.readouterr()
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    counts = [sum(w.size for w in r.weights.values()) for r in (large, made)]
    assert lines[:5] == [
        "large half",
        f"parameters {counts[0]:,} {counts[1]:,}",
        "mlp.layers.0.weight 8 x 22 4 x 22",
        "head.weight 1 x 30 1 x 26",
        f"AUC {large.quality.auc:.4f} {made.quality.auc:.4f}",
    ]
    assert any(line.startswith("gate passed on 24 held-out rows of 12 users") for line in lines)
    baseline = made.lineage.gate.figures.baseline_auc
    assert f"AUC {made.quality.auc:.5f}, logistic regression {baseline:.5f}" in lines
    assert lines[-2:] == ["wrote half (dcn-v2)", "next: podium export --run half"]
    assert printed.err == ""


def test_sizes_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--hidden", "3", "--embedding-dim", "3", "--epochs", "4", "--mix", "0.5"]
    assert run([*PRUNE, *arguments, "--force"]) == 0

    made = load_run(Path("half"))
    assert made.architecture == DCNv2(embedding_dim=3, cross_layers=1, hidden=(3,), dropout=0.1)
    assert made.lineage is not None
    assert made.lineage.options == {
        "epochs": 4, "mix": 0.5, "unshown": 1.0, "hidden": "3", "embedding_dim": "3",
    }  # fmt: skip


def test_a_run_that_ranks_differently_is_not_written_unless_forced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ruin()
    ruinous = [*PRUNE, "--share", "0.9", "--epochs", "0"]

    assert "half does not pass its gate: " in refused(capsys, *ruinous)

    assert run([*ruinous, "--force"]) == 0
    printed = capsys.readouterr().out
    assert "  gate FAILED on " in printed
    assert "    failed: " in printed
    assert printed.endswith("next: podium export --run half --force\n")
    lineage = load_run(Path("half")).lineage
    assert lineage is not None
    assert lineage.gate is not None
    assert lineage.gate.forced
    assert run(["export", "--run", "half", "--out", "bundles"]) == 1
    assert "half, pruned from large, does not pass its gate" in capsys.readouterr().err


def test_another_log_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_log(Path("log"), small_tables(seed=1))

    assert "is not the log that large was trained on" in refused(capsys, *PRUNE)


def test_a_run_that_is_there_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PRUNE[:-1], "large"]) == 1
    assert "large: there is a run already" in capsys.readouterr().err


def test_a_share_and_sizes_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    both = [*PRUNE, "--share", "0.5", "--hidden", "4"]

    assert "either --share, or the sizes" in refused(capsys, *both, code=2)


def test_layers_cannot_grow(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--hidden: 9 is more than the run's 8" in refused(capsys, *PRUNE, "--hidden", "9")
