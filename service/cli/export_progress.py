"""The progress of ``podium export``: on a terminal, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.drawing import drawn


@contextmanager
def drawn_export(stream: TextIO) -> Iterator["ExportBars"]:
    """One bar per precision and step on a stream, drawn if it is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=14),
        TimeRemainingColumn(compact=True),
    )
    with drawn(stream, *columns) as progress:
        bars = ExportBars(progress)
        yield bars
        bars.end()


class ExportBars:
    """An `ExportProgress` that draws: a bar that pulses while a graph is built, and fills
    while it is measured."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, what: str) -> None:
        self.end()
        self._progress.add_task(what, total=None)

    def step(self, done: int, total: int) -> None:
        self._progress.update(self._progress.task_ids[-1], completed=done, total=total)

    def end(self) -> None:
        """What was begun is done."""
        for task in self._progress.tasks:
            self._progress.update(task.id, total=task.total or 1, completed=task.total or 1)
