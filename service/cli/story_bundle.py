"""The model of ``podium bench --story`` when none is named: a ranker of its own, made once."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import typer

NEEDED = ("torch", "onnx", "onnxscript", "pyarrow", "onnxruntime")
"""By whoever trains and exports."""
KEPT = "story"
"""The folder beside the one of compiled plans."""


class Progress(Protocol):
    """Is told what is done, and how far it is, 0..1."""

    def begin(self, what: str) -> None: ...

    def share(self, done: float) -> None: ...


class Told(NamedTuple):
    """Which bundle the story is told of, and why, where that is not what one would expect."""

    path: Path
    note: str


def storys_bundle(demonstration: Path, root: Path) -> Told:
    """The story's ranker: kept, or made now; without the training stack the demonstration.

    Raises:
        InputError: it cannot be made, or the folder cannot be written.
    """
    from ranking_models.kept_bundle import find_kept, make_kept
    from ranking_models.recipes import STORY
    from service.cli.bench_progress import drawn_progress

    if (kept := find_kept(STORY, root)) is not None:
        return Told(kept.path, "")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        return Told(demonstration, _why(missing))
    typer.echo(
        f"making the story's ranker, once: about a minute on two cores; kept in {root}", err=True
    )
    with drawn_progress(sys.stderr) as progress:
        return Told(make_kept(STORY, root, _maker(progress)).path, "")


def _why(missing: list[str]) -> str:
    return (
        "of the demonstration's small model, whose scores cost less than the HTTP around them: "
        f"the story's own ranker has to be made once, and {', '.join(missing)} cannot be imported "
        "here; pip install 'podium[train,cpu]' and run it again"
    )


def _maker(progress: Progress) -> Callable[[Path], object]:
    from datetime import UTC, datetime

    from ranking_models.demonstration import make_bundle
    from ranking_models.recipes import STORY
    from service.clock import SystemClock

    def make(folder: Path) -> Path:
        return make_bundle(
            STORY,
            folder,
            created=datetime.fromtimestamp(SystemClock().wall(), UTC),
            progress=_Training(progress),
            exporting=_Exporting(progress),
        )

    return make


class _Training:
    """Hears of training, and tells a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps, self._done = 1, 0

    def begin(self, phase: str, epochs: int, steps: int, done: int = 0) -> None:
        self._steps, self._done = epochs * steps, done
        self._progress.begin(f"training: {phase}")

    def step(self, epoch: int, loss: float) -> None:
        self._done += 1
        self._progress.share(self._done / self._steps)

    def validated(self, epoch: int, log_loss: float, auc: float) -> None:
        """Is no step."""


class _Exporting:
    """Hears of the export, and tells a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, what: str) -> None:
        self._progress.begin(f"exporting: {what}")

    def step(self, done: int, total: int) -> None:
        self._progress.share(done / total)
