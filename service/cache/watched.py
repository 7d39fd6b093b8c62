"""Who measures calls to the cache servers: for telemetry."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Watching(Protocol):
    """Who measures a call."""

    def failed(self, error: Exception) -> None:
        """It came back, with this instead of a reply or among the replies."""
        ...


Watched = Callable[[str, int], AbstractContextManager[Watching]]
"""Makes a context around each call: the operation, and its number of commands."""


class _Nobody:
    def failed(self, error: Exception) -> None:
        """Nobody measures it."""


_NOBODY = nullcontext(_Nobody())


def unwatched(operation: str, commands: int) -> AbstractContextManager[Watching]:
    return _NOBODY
