"""What one worker can ask of all of them: figures, and changes that every replica must make."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Handler = Callable[[bytes], Awaitable[bytes]]

ASK_LIMIT_S = 60.0
"""Enough for a model to be loaded."""


class Fleet(Protocol):
    """All workers of this service, the one that asks among them."""

    def on(self, command: str, handler: Handler) -> None:
        """Say how this worker answers a command."""
        ...

    async def ask(
        self, command: str, payload: bytes = b"", *, limit_s: float = ASK_LIMIT_S
    ) -> list[bytes]:
        """Every worker's answer, our own first.

        A worker that died meanwhile, failed, or took longer than `limit_s` has
        none; one that is being started is not asked.

        Raises:
            Whatever our own handler raises. Another worker's failure is its own to report.
        """
        ...


class Alone:
    """The fleet of a service that runs in one process."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def on(self, command: str, handler: Handler) -> None:
        self._handlers[command] = handler

    async def ask(
        self,
        command: str,
        payload: bytes = b"",
        *,
        limit_s: float = ASK_LIMIT_S,
    ) -> list[bytes]:
        return [await self._handlers[command](payload)]
