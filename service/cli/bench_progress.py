"""The progress of ``podium bench``: on a terminal, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.drawing import drawn


@contextmanager
def drawn_progress(stream: TextIO) -> Iterator["BenchBar"]:
    """A bar for every step, on a stream, drawn if it is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeRemainingColumn(compact=True),
    )
    # What was measured stays; the bars do not.
    with drawn(stream, *columns, transient=True) as progress:
        yield BenchBar(progress)


class BenchBar:
    """A `service.profiling.Progress` that draws."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, what: str) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, visible=False)
        self._progress.add_task(what, total=1.0)

    def share(self, done: float) -> None:
        self._progress.update(self._progress.task_ids[-1], completed=done)
