"""``podium bench``: what people see, what is written, and what is refused."""

import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from service.cli import run
from service.cli.bench import ENGINES
from service.profiling import Profile
from service.settings import EngineName
from tests.support.bundles import write_tiny_bundle

QUICK = ["--engines", "onnxruntime-cpu", "--seconds", "0.2", "--rows", "10,50", "--threads", "1"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def tiny() -> str:
    """The version of a model in ``bundles``."""
    return write_tiny_bundle(Path("bundles")).name


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line on standard error of a command that must fail and leave nothing."""
    before = sorted(Path().rglob("*"))
    assert run(["bench", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return printed.err


def test_a_model_is_measured_and_settings_are_recommended(tiny, capsys):
    files = ["--out", "b.json", "--plot", "b.svg"]

    assert run(["bench", "tiny", *QUICK, *files, "--price", "0.10"]) == 0

    printed = capsys.readouterr()
    assert printed.out.startswith(f"tiny@{tiny} on ")
    assert "per million" in printed.out
    settings = tomllib.loads(printed.out.partition("# for podium serve --config\n")[2])
    assert settings["deployments"]["ranker"]["model"] == "tiny"
    assert settings["models"]["directory"] == str(Path("bundles").absolute())
    assert printed.err == "wrote b.json\nwrote b.svg\n"
    found = msgspec.json.decode(Path("b.json").read_bytes(), type=Profile)
    assert found.recommendation is not None
    assert tomllib.loads(found.recommendation.toml) == settings
    assert Path("b.svg").read_text().startswith("<svg ")


def test_without_a_name_it_is_the_demonstration(capsys):
    assert run(["bench", *QUICK, "--precisions", "fp32"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("marketplace@")
    assert "[models]" not in printed


def test_without_a_name_it_is_the_only_model_of_the_folder(tiny, capsys):
    assert run(["bench", "--bundles", "bundles", *QUICK]) == 0

    assert capsys.readouterr().out.startswith(f"tiny@{tiny} ")


def test_a_version_that_was_named_is_named_in_the_settings(tiny, capsys):
    assert run(["bench", f"tiny@{tiny}", *QUICK]) == 0

    assert f'model = "tiny@{tiny}"' in capsys.readouterr().out


def test_json_on_standard_output_stands_alone(tiny, capsys):
    assert run(["bench", "tiny", *QUICK, "--json"]) == 0

    printed = capsys.readouterr()
    assert msgspec.json.decode(printed.out, type=Profile).model == "tiny"
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rows", "10,x"], "--rows takes whole numbers from 1 to 100,000"),
        (["--rows", "0"], "--rows takes whole numbers"),
        (["--threads", "1;2"], "--threads takes whole numbers"),
        (["--threads", "9" * 5000], "--threads takes whole numbers"),
        (["--engines", "cuda"], "--engines takes onnxruntime-cpu, openvino, tensorrt"),
        (["--precisions", "fp32,,"], "--precisions takes names"),
        (["--price", "-1"], "--price"),
        (["--price", "nan"], "--price"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--split", "maybe"], "--split"),
        (["--plot", "b.png"], "--plot draws SVG: name a file that ends in .svg, not b.png"),
        (["--plot", "b.svg", "--out", "./b.svg"], "name two files"),
    ],
)
def test_wrong_options_are_one_line(tiny, capsys, arguments, says):
    assert says in refused(capsys, "tiny", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "there is no model nobody; there are: tiny@"),
        (["tiny@00000000"], "there is no bundle tiny@00000000"),
        (["tiny", "--bundles", "elsewhere"], "elsewhere holds no bundles"),
        (["--bundles", "elsewhere"], "elsewhere: name a model, there is none"),
        (["tiny", "--out", "missing/b.json"], "missing/b.json: cannot be written"),
        (["tiny", "--plot", "missing/b.svg"], "missing/b.svg: cannot be written"),
        (["tiny", "--precisions", "fp8"], "fp8: tiny@"),
        (["tiny", "--threads", "1000"], "1000 threads: more than the"),
        (["tiny", "--engines", "tensorrt"], "tensorrt: no GPU can be used"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tiny, capsys, arguments, says):
    assert says in refused(capsys, *arguments)


def test_several_models_have_to_be_told_apart(tiny, capsys):
    write_tiny_bundle(Path("bundles"), name="other")

    said = refused(capsys, "--bundles", "bundles")

    assert "bundles: name a model, there are other, tiny" in said


def test_every_engine_of_the_settings_that_scores_is_compared():
    assert {*ENGINES, "popularity"} == {*get_args(EngineName)}


def test_help_has_an_example(capsys):
    assert run(["bench", "--help"]) == 0

    assert "Example: podium bench movielens" in capsys.readouterr().out
