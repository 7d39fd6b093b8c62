"""The progress bar of ``podium train``: on a terminal, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.cli.drawing import drawn


@contextmanager
def drawn_progress(stream: TextIO) -> Iterator["ProgressBars"]:
    """Bars on a stream, drawn if it is a terminal."""
    columns = (
        TextColumn("{task.description} {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(bar_width=14),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with drawn(stream, *columns) as progress:
        yield ProgressBars(progress)


class ProgressBars:
    """Draws each round of training as one bar; the ETA is that of its last epoch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None
        self._validation = ""

    def begin(self, phase: str, epochs: int, steps: int, done: int = 0) -> None:
        self._end_bar()
        self._validation = ""
        self._bar = self._progress.add_task(
            phase, total=epochs * steps, completed=done, epoch=1, epochs=epochs, figures=""
        )

    def step(self, epoch: int, loss: float) -> None:
        assert self._bar is not None
        self._progress.update(
            self._bar, advance=1, epoch=epoch, figures=f"loss {loss:.4f}{self._validation}"
        )

    def validated(self, epoch: int, log_loss: float, auc: float) -> None:
        self._validation = f", validated {log_loss:.4f}, AUC {auc:.4f}"

    def _end_bar(self) -> None:
        """Early stopping ends a round before its last step."""
        if self._bar is not None:
            done = self._progress.tasks[self._bar].completed
            self._progress.update(self._bar, total=done)
