"""``podium bench --story``: what is refused before anything is started."""

from pathlib import Path

import pytest

from ranking_models.errors import InputError
from service.cli import run
from service.cli.story_bundle import Told
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


@pytest.fixture
def _told_in_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The story's own ranker is kept in ``kept``, and a story is the line that refuses it."""

    def storys_bundle(demonstration: Path, root: Path) -> Told:
        assert demonstration.parent.name == "marketplace"
        assert root == Path("state/podium/story").absolute()
        return Told(write_tiny_bundle(Path("kept"), name="its-own"), "and why")

    def tell_story(bundle, options, *, progress, clock):
        raise InputError(f"of {bundle.manifest.name}{options.note and f', {options.note}'}")

    monkeypatch.setattr("service.cli.story_bundle.storys_bundle", storys_bundle)
    monkeypatch.setattr("service.profiling.story.tell_story", tell_story)


@pytest.mark.usefixtures("_told_in_a_word")
def test_without_a_name_it_is_told_of_a_ranker_of_its_own(capsys):
    assert refused(capsys, "--story", code=1) == "podium: of its-own, and why\n"


@pytest.mark.usefixtures("_told_in_a_word")
def test_a_model_that_is_named_is_the_one_it_is_told_of(capsys):
    write_tiny_bundle(Path("bundles"))

    assert refused(capsys, "tiny", "--story", code=1) == "podium: of tiny\n"
    assert refused(capsys, "--bundles", "bundles", "--story", code=1) == "podium: of tiny\n"


@pytest.mark.usefixtures("_told_in_a_word")
def test_the_demonstration_is_named_like_any_model(capsys):
    assert refused(capsys, "marketplace", "--story", code=1) == "podium: of marketplace\n"

    write_tiny_bundle(Path("bundles"), name="marketplace")
    with_its_own = Path("bundles/marketplace").iterdir()
    version = next(with_its_own).name
    assert f"there is no bundle marketplace@{version}x" in refused(
        capsys, f"marketplace@{version}x", "--story", code=1
    )


@pytest.mark.usefixtures("_told_in_a_word")
def test_an_interpreter_that_is_none_is_refused_before_a_ranker_is_made(capsys):
    said = refused(capsys, "--story", "--peer-python", "nowhere/py", code=1)

    assert "nowhere/py: does not run" in said
    assert not Path("kept").exists()
