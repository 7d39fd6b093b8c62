"""``podium bench --story``: what is refused before anything is started."""

from pathlib import Path

import pytest

from service.cli import run
from tests.support.bundles import write_tiny_bundle


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """The one line on standard error of a command that must fail."""
    assert run(["bench", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("option", ["--rows=10", "--engines=openvino", "--seconds=3", "--device=0"])
def test_options_of_the_engines_are_not_the_storys(capsys, option):
    said = refused(capsys, "--story", option, code=2)

    assert f"--story does not take {option.partition('=')[0]}" in said


@pytest.mark.parametrize("option", ["--quick", "--peer-python=python", "--workers=2"])
def test_options_of_the_story_need_it(capsys, option):
    assert f"--story is needed for {option.partition('=')[0]}" in refused(capsys, option, code=2)


def test_an_interpreter_that_is_none_is_refused(capsys):
    write_tiny_bundle(Path("bundles"))

    said = refused(
        capsys, "tiny", "--bundles", "bundles", "--story", "--peer-python", "nowhere/py", code=1
    )

    assert said == "podium: nowhere/py: does not run: No such file or directory\n"


def test_the_plot_is_an_svg(capsys):
    assert ".svg" in refused(capsys, "--story", "--plot", "story.png", code=2)
