"""The stores, seen from a process that does not run them."""

from collections.abc import Callable
from typing import Protocol

from service.stores.embedded import EmbeddedStores
from service.stores.server import ServerStatus


class Stores(Protocol):
    """Where cache and events live, and how the servers are that Podium runs for them."""

    @property
    def cache_url(self) -> str: ...

    @property
    def events_url(self) -> str: ...

    def status(self) -> tuple[ServerStatus, ...]:
        """The embedded servers; none if the settings name both."""
        ...


class AttachedStores:
    """A worker's view of the servers that its parent runs."""

    def __init__(self, stores: EmbeddedStores, down: Callable[[], int]) -> None:
        """Describe them.

        Args:
            stores: Made from the same settings as the parent's, and never started.
            down: Which of them are being restarted, one bit each: the parent's `down_bits`.
        """
        self.cache_url, self.events_url = stores.cache_url, stores.events_url
        self._names = tuple(server.name for server in stores.status())
        self._down = down

    def status(self) -> tuple[ServerStatus, ...]:
        bits = self._down()
        return tuple(
            ServerStatus(name=name, state="down" if bits & 1 << place else "attached")
            for place, name in enumerate(self._names)
        )


def down_bits(stores: Stores) -> int:
    """Which embedded servers are being restarted, one bit each."""
    return sum(1 << place for place, server in enumerate(stores.status()) if server.state == "down")
