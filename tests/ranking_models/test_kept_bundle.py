"""A bundle is made once: kept, verified, and nobody's half."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from ranking_models.errors import InputError
from ranking_models.kept_bundle import find_kept, make_kept
from ranking_models.recipes import Recipe
from tests.support.bundles import write_tiny_bundle

TINY = Recipe(name="tiny")
"""By name what `write_tiny_bundle` writes."""


class Maker:
    """Makes a tiny bundle and counts."""

    def __init__(self, ready: Path) -> None:
        self.made = 0
        self._ready = ready

    def __call__(self, folder: Path) -> Path:
        self.made += 1
        return shutil.copytree(self._ready, folder)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ready")
    write_tiny_bundle(root)
    return root


@pytest.fixture
def make(ready: Path) -> Maker:
    return Maker(ready)


def test_what_was_made_is_found_again_and_not_made_twice(tmp_path, make):
    assert find_kept(TINY, tmp_path) is None

    made = make_kept(TINY, tmp_path, make)

    assert made.path.is_relative_to(tmp_path / TINY.digest)
    kept = find_kept(TINY, tmp_path)
    assert kept is not None
    assert kept.path == made.path
    assert make_kept(TINY, tmp_path, make).path == made.path
    assert make.made == 1


def test_another_recipe_makes_another_bundle(tmp_path, make):
    make_kept(TINY, tmp_path, make)
    other = msgspec.structs.replace(TINY, sessions=TINY.sessions + 1)

    assert find_kept(other, tmp_path) is None
    make_kept(other, tmp_path, make)
    assert make.made == 2


def test_a_damaged_bundle_is_made_anew(tmp_path, make):
    graph = make_kept(TINY, tmp_path, make).path / "ranker.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])

    assert find_kept(TINY, tmp_path) is None
    assert make_kept(TINY, tmp_path, make).path.is_dir()
    assert make.made == 2


def test_a_making_that_fails_leaves_nothing_that_counts(tmp_path, make):
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise InputError("no space")

    with pytest.raises(InputError, match="no space"):
        make_kept(TINY, tmp_path, fail)

    assert find_kept(TINY, tmp_path) is None
    make_kept(TINY, tmp_path, make)
    assert find_kept(TINY, tmp_path) is not None
    assert not (tmp_path / TINY.digest / "half").exists()


def test_nobody_waits_for_one_that_was_killed_while_making(tmp_path, make):
    code = """
import os, signal, sys
from pathlib import Path
from ranking_models.kept_bundle import make_kept
from tests.ranking_models.test_kept_bundle import TINY
def die(folder):
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
make_kept(TINY, Path(sys.argv[1]), die)
"""
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=False,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert died.returncode == -signal.SIGKILL

    assert find_kept(TINY, tmp_path) is None
    make_kept(TINY, tmp_path, make)
    assert find_kept(TINY, tmp_path) is not None


def test_of_two_at_once_one_makes_it_and_the_other_takes_it(tmp_path, make):
    began, may_end = threading.Event(), threading.Event()
    found: list[Path] = []

    def slow(folder: Path) -> Path:
        began.set()
        assert may_end.wait(10)
        return make(folder)

    one = threading.Thread(target=lambda: found.append(make_kept(TINY, tmp_path, slow).path))
    other = threading.Thread(target=lambda: found.append(make_kept(TINY, tmp_path, make).path))
    one.start()
    assert began.wait(10)
    other.start()
    may_end.set()
    for thread in (one, other):
        thread.join(10)

    assert make.made == 1
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, make):
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="file: cannot be written: "):
        make_kept(TINY, tmp_path / "file", make)
