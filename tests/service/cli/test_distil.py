"""``podium distil``: any architecture learns from a run, or is refused."""

import shutil
from pathlib import Path

import pytest

from ranking_models.architectures import LogisticRegression, WideAndDeep
from ranking_models.run import load_run
from service.cli import run
from tests.support.logs import small_tables, write_log

FIT = ["--learning-rate", "0.02", "--batch-size", "32"]
TRAIN = [
    "train", "--data", "log", "--out", "large", "--architecture", "wide-and-deep", "--hidden", "8",
    "--embedding-dim", "4", "--dropout", "0.1", "--epochs", "12", *FIT,
]  # fmt: skip
DISTIL = ["distil", "--run", "large", "--data", "log", "--out", "small", *FIT]


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
    assert not Path("small").exists()
    last: str = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("podium: ")
    return last


def test_a_small_network_learns_from_a_large_one(capsys: pytest.CaptureFixture[str]) -> None:
    student = ["--architecture", "wide-and-deep", "--hidden", "4", "--embedding-dim", "2"]
    assert run([*DISTIL, *student, "--epochs", "20"]) == 0

    made, large = load_run(Path("small")), load_run(Path("large"))
    assert made.architecture == WideAndDeep(embedding_dim=2, hidden=(4,), dropout=0.0)
    assert made.schema == large.schema
    assert made.lineage is not None
    assert made.lineage.gate is not None
    assert made.lineage.gate.passed
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "large small"
    assert "mlp.layers.0.weight 8 x 22 4 x 12" in lines
    assert lines[-2:] == ["wrote small (wide-and-deep)", "next: podium export --run small"]


def test_every_option_reaches_the_run() -> None:
    options = {
        "architecture": "logistic-regression", "temperature": "2.5", "mix": "0.25",
        "unshown": "0.5", "weight-decay": "0.5", "epochs": "1", "patience": "2", "seed": "9",
    }  # fmt: skip
    assert run([*DISTIL, *(f"--{key}={value}" for key, value in options.items()), "--force"]) == 0

    made = load_run(Path("small"))
    assert made.architecture == LogisticRegression()
    assert made.lineage is not None
    assert made.lineage.options == {"temperature": 2.5, "mix": 0.25, "unshown": 0.5, "epochs": 1}
    used = made.training.options
    assert (used.learning_rate, used.weight_decay, used.batch_size) == (0.02, 0.5, 32)
    assert (used.epochs, used.patience, used.seed) == (1, 2, 9)


def test_a_student_ruined_by_its_learning_rate_is_not_written_unless_forced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ruinous = [*DISTIL, "--architecture", "dcn-v2", "--learning-rate", "0.9", "--epochs", "1"]

    assert "small does not pass its gate: " in refused(capsys, *ruinous)

    assert run([*ruinous, "--force"]) == 0
    lineage = load_run(Path("small")).lineage
    assert lineage is not None
    assert lineage.gate is not None
    assert lineage.gate.forced


def test_another_log_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_log(Path("log"), small_tables(seed=1))

    last = refused(capsys, *DISTIL, "--architecture", "deepfm")

    assert "is not the log that large was trained on" in last


def test_an_option_that_the_student_does_not_read_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*DISTIL, "--architecture", "logistic-regression", "--hidden", "4"]

    assert "--hidden is for " in refused(capsys, *arguments, code=2)
