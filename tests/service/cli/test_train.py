"""``podium train`` and ``podium data fetch``: what people see, and exit codes."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    DeepFM,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
)
from ranking_models.fitting import FitOptions
from ranking_models.run import load_run
from service.cli import run
from service.cli.training_progress import drawn_progress
from tests.support.logs import small_tables, with_cell, write_log

QUICK = ["--epochs", "2", "--hidden", "8", "--embedding-dim", "4", "--batch-size", "64"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log", small_tables())
    return Path("log")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line on standard error of a command that must fail."""
    assert run(list(arguments)) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_log_becomes_a_run_named_after_its_data(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--data", "log", *QUICK]) == 0

    quality = load_run(Path("runs/small-log")).quality
    printed = capsys.readouterr()
    assert printed.out == (
        "wrote runs/small-log (dcn-v2, 2 epochs)\n"
        "  tested on  last tenth of each user's rows by time: 24 rows of 12 users\n"
        f"  AUC        {quality.auc:.4f}\n"
        f"  log loss   {quality.log_loss:.4f}\n"
        f"  gAUC       {quality.gauc:.4f}\n"
        f"  NDCG@10    {quality.ndcg_at_10:.4f}\n"
        "next: podium export --run runs/small-log\n"
    )
    assert printed.err == ""  # no progress bar where there is no terminal


def test_every_option_reaches_the_run(log: Path) -> None:
    files = [f"--{name}={log / name}.csv" for name in ("interactions", "items", "users")]
    options = {
        "architecture": "deepfm", "embedding-dim": "3", "hidden": "7,5", "dropout": "0.25",
        "learning-rate": "0.01", "weight-decay": "0.5", "batch-size": "50", "epochs": "1",
        "patience": "2", "seed": "9", "split": "global", "release-on": "all",
        "out": "elsewhere/model",
    }  # fmt: skip

    arguments = [f"--{key}={value}" for key, value in options.items()]
    assert run(["train", *files, f"--schema={log}/schema.toml", *arguments]) == 0

    made = load_run(Path("elsewhere/model"))
    assert made.name == "model"
    assert made.architecture == DeepFM(embedding_dim=3, hidden=(7, 5), dropout=0.25)
    used = made.training.options
    assert (used.learning_rate, used.weight_decay, used.batch_size) == (0.01, 0.5, 50)
    assert (used.epochs, used.patience, used.seed) == (1, 2, 9)
    assert (made.training.split, made.training.release_on) == ("global", "all")


def test_options_that_are_left_out_are_the_defaults_of_fitting(log: Path) -> None:
    assert run(["train", "--data", "log", "--epochs", "1"]) == 0

    made = load_run(Path("runs/small-log"))
    assert made.training.options == FitOptions(epochs=1)
    assert (made.training.split, made.training.release_on) == ("user", "rest")
    assert made.architecture == DCNv2(
        embedding_dim=16, cross_layers=2, hidden=(128, 64), dropout=0.4
    )


@pytest.mark.parametrize(
    ("arguments", "architecture"),
    [
        (["logistic-regression"], LogisticRegression()),
        (["wide-and-deep", "--hidden=8"], WideAndDeep(embedding_dim=16, hidden=(8,), dropout=0.4)),
        (
            ["dcn-v2", "--hidden=none", "--cross-rank=3", "--cross-experts=2"],
            DCNv2(
                embedding_dim=16,
                cross_layers=2,
                hidden=(),
                dropout=0.4,
                cross_rank=3,
                cross_experts=2,
            ),
        ),
        (
            ["dlrm", "--bottom=5,4", "--hidden=8"],
            DLRM(embedding_dim=16, bottom=(5, 4), hidden=(8,), dropout=0.4),
        ),
        (
            ["two-tower", "--output-dim=6", "--hidden=8"],
            TwoTower(embedding_dim=16, hidden=(8,), output_dim=6, dropout=0.4),
        ),
    ],
)
def test_every_architecture_is_trained_from_the_options_that_it_reads(
    log: Path, arguments: list[str], architecture: Architecture
) -> None:
    assert run(["train", "--data", "log", "--epochs=1", "--architecture", *arguments]) == 0

    assert load_run(Path("runs/small-log")).architecture == architecture


def test_the_same_seed_gives_the_same_files(log: Path) -> None:
    for name in ("a", "b"):
        assert run(["train", "--data", "log", *QUICK, "--out", f"runs/{name}"]) == 0

    for file in Path("runs/a").iterdir():
        assert file.read_bytes() == (Path("runs/b") / file.name).read_bytes()


def test_a_training_that_was_killed_is_resumed_to_the_same_bytes(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--data", "log", *QUICK, "--out", "runs/whole"]) == 0
    cut = ["train", "--data", "log", *QUICK, "--out", "runs/cut", "--checkpoint-every", "0"]
    # The third checkpoint is the last thing that the process does.
    killing = (
        "import os, signal, sys\n"
        "from ranking_models.checkpoint import Checkpoints\n"
        "keep, kept = Checkpoints.keep, []\n"
        "def fatal(self, *state):\n"
        "    keep(self, *state)\n"
        "    kept.append(1)\n"
        "    if len(kept) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoints.keep = fatal\n"
        "from service.cli import run\n"
        "run(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", killing, *cut], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not Path("runs/cut").exists()
    capsys.readouterr()

    assert "was cut short; go on with --resume" in refused(capsys, *cut)
    assert run([*cut, "--resume"]) == 0

    for file in Path("runs/whole").iterdir():
        assert file.read_bytes() == (Path("runs/cut") / file.name).read_bytes()
    assert sorted(path.name for path in Path("runs").iterdir()) == ["cut", "whole"]


def test_training_goes_on_from_a_bundle_and_with_its_network_alone(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--data", "log", *QUICK, "--out", "runs/first"]) == 0
    assert run(["export", "--run", "runs/first"]) == 0
    further = ["train", "--data", "log", "--epochs", "1", "--from-bundle", "first"]

    assert run([*further, "--out", "runs/second"]) == 0

    second = load_run(Path("runs/second"))
    assert second.architecture == load_run(Path("runs/first")).architecture
    assert second.lineage is not None
    assert second.lineage.parent.startswith("first@")
    capsys.readouterr()
    other = refused(capsys, *further, "--architecture", "dlrm", code=2)
    assert "--architecture is dlrm and the bundle's is dcn-v2" in other
    assert "--hidden: the bundle has (8,)" in refused(capsys, *further, "--hidden", "9", code=2)


def test_a_run_is_replaced_by_force_alone_and_before_any_work(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--data", "log", *QUICK, "--out", "runs/a"]) == 0
    capsys.readouterr()

    again = ["train", "--data", "nowhere", "--out", "runs/a"]
    assert "there is a run already" in refused(capsys, *again)
    assert run(["train", "--data", "log", *QUICK, "--out", "runs/a", "--force"]) == 0


def test_a_wrong_cell_is_one_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(log, with_cell(small_tables(), "items", 4, {"price": "cheap"}))

    assert refused(capsys, "train", "--data", "log") == (
        "podium: log/items.csv: column 'price', data row 4: 'cheap' is not a number\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name a log: --data DIR, or --interactions FILE and --schema FILE"),
        (["--data", "log", "--items", "x.csv"], "--data names all files"),
        (["--data", "log", "--architecture", "deepfm", "--cross-layers", "2"], "is for dcn-v2"),
        (
            ["--data", "log", "--architecture", "logistic-regression", "--hidden", "8"],
            "--hidden is for wide-and-deep, deepfm, dcn-v2, dlrm, two-tower; "
            "logistic-regression does not read it",
        ),
        (["--data", "log", "--bottom", "8"], "--bottom is for dlrm; dcn-v2 does not read it"),
        (["--data", "log", "--cross-experts", "2"], "cross_experts needs a cross_rank"),
        (["--data", "log", "--hidden", "128,"], "'128,' is not a list of widths"),
        (["--data", "log", "--dropout", "1"], "less than or equal to 0.95"),
        (["--data", "log", "--architecture", "transformer"], "'transformer' is not one of"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert reason in refused(capsys, "train", *arguments, code=2)


def test_data_whose_name_makes_no_folder_needs_out(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = log / "schema.toml"
    schema.write_text(schema.read_text().replace("small log", "日本"), "utf-8")

    assert "give --out" in refused(capsys, "train", "--data", "log")


def test_data_that_is_there_is_a_success_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ml"
    out.mkdir()
    for name in ("interactions.parquet", "items.parquet", "users.parquet", "schema.toml"):
        (out / name).touch()

    assert run(["data", "fetch", "movielens-100k", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} is there already; --force fetches it again\n"


def test_an_unknown_data_set_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'movielens-100k'" in refused(capsys, "data", "fetch", "netflix", code=2)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_loss_auc_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()

    with drawn_progress(terminal) as progress:
        progress.begin("best epoch", 40, 3)
        for _ in range(3):
            progress.step(1, 0.61)
        progress.validated(1, 0.5958, 0.7012)
        progress.step(2, 0.5512)
        progress.begin("final epoch", 1, 3)
        progress.step(1, 0.5432)

    seen = terminal.getvalue()
    for text in ("best epoch 2/40", "loss 0.5512, validated 0.5958, AUC 0.7012", "final epoch 1/1"):
        assert text in seen


def test_a_resumed_training_counts_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()

    with drawn_progress(terminal) as progress:
        progress.begin("final epoch", 4, 5, 19)
        progress.step(4, 0.5)
        bar = progress._progress.tasks[0]

    assert (bar.completed, bar.total) == (20, 20)


def test_a_file_sees_no_bars() -> None:
    stream = io.StringIO()

    with drawn_progress(stream) as progress:
        progress.begin("best epoch", 40, 3)
        progress.step(1, 0.61)

    assert stream.getvalue() == ""
