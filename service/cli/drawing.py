"""Whether progress is drawn: on a terminal that can draw, and nowhere else."""

from typing import TextIO

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def drawn(stream: TextIO, *columns: ProgressColumn, transient: bool = False) -> Progress:
    """Bars on a stream: without colours where NO_COLOR is set, none where TERM is dumb."""
    console = Console(file=stream)  # which reads NO_COLOR and TERM
    return Progress(*columns, console=console, disable=not draws(stream), transient=transient)


def draws(stream: TextIO) -> bool:
    """Whether a bar can be drawn there; FORCE_COLOR makes no terminal of a file."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal
