"""``podium export --triton-repository`` of a bundle that there is."""

import json
from pathlib import Path

import pytest

from ranking_models.bundle import Bundle
from service.cli import run
from tests.support.bundles import write_tiny_bundle

SETTINGS = """
[deployments.ranker]
model = "tiny"
[batching]
max_batch_rows = 128
preferred_batch_rows = 32
max_queue_delay_s = 0.003
instances = 3
execution = "thread"
"""


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.chdir(tmp_path)
    return Bundle.open(write_tiny_bundle(Path("bundles")))


def exported(*arguments: str) -> int:
    return run(["export", "--bundle", "tiny", *arguments])


def test_it_is_one_line_per_model(bundle, capsys):
    assert exported("--triton-repository", "models") == 0

    name = f"tiny-{bundle.manifest.version}-fp32"
    assert capsys.readouterr().out == (
        f"wrote models/{name} for Triton's onnxruntime backend, batches of at most 4,096 rows\n"
    )
    assert (Path("models") / name / "1" / "model.onnx").is_file()


def test_batches_are_those_of_the_settings(bundle, capsys):
    Path("podium.toml").write_text(SETTINGS)

    assert exported("--triton-repository", "models", "--triton-settings", "podium.toml") == 0

    (config,) = Path("models").rglob("config.pbtxt")
    text = config.read_text()
    assert "max_batch_size: 128\n" in text
    assert "preferred_batch_size: [32]\n  max_queue_delay_microseconds: 3000\n" in text
    assert "kind: KIND_CPU\n  count: 3\n" in text


def test_options_go_before_settings(bundle, capsys):
    Path("podium.toml").write_text(SETTINGS)
    options = ["--triton-settings", "podium.toml", "--triton-instances", "2", "--triton-gpu"]

    assert exported("--triton-repository", "models", *options, "--no-triton-cache", "--json") == 0

    (model,) = json.loads(capsys.readouterr().out)["triton"]
    text = Path(model["path"], "config.pbtxt").read_text()
    assert "kind: KIND_GPU\n  count: 2\n" in text
    assert "response_cache" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--triton-gpu"], "need --triton-repository"),
        (["--triton-repository", "m", "--split"], "write what the bundle has"),
        (["--triton-repository", "m", "--precision", "bf16"], "Triton has no bf16"),
        (["--triton-repository", "m", "--precision", "fp16"], "has no precision 'fp16'"),
        (["--triton-repository", "m", "--precision", "fp32,fp16"], "has no precision 'fp16'"),
        (["--triton-repository", "m", "--triton-plan", "no"], "no/manifest.json: cannot be read"),
        (
            ["--triton-repository", "m", "--triton-plan", "p", "--precision", "int8"],
            "--triton-plan is of one precision",
        ),
        (["--triton-repository", "m", "--triton-settings", "no.toml"], "no.toml"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(bundle, capsys, arguments, words):
    assert exported(*arguments) != 0

    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not Path("m").exists()


def test_a_model_that_is_there_is_left_alone(bundle, capsys):
    exported("--triton-repository", "models")

    assert exported("--triton-repository", "models") == 1

    assert "is there already" in capsys.readouterr().err
