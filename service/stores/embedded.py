"""The zero-setup stores: a cache and an event server of our own, in the state directory."""

import os
import stat
import tempfile
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import StartupError
from service.settings import LoadedSettings, RedisSettings
from service.stores.server import EmbeddedServer, ServerStatus

_SOCKET_PATH_LIMIT = 103
"""Bytes; 107 on Linux, 103 on macOS."""


class EmbeddedStores:
    """Where cache and events live: servers that the settings name, else ones run here.

    The embedded cache server keeps nothing on disk and evicts what is used
    least; the event server has on disk what it acknowledged, and never evicts.
    """

    def __init__(self, directory: Path, *, redis: RedisSettings, max_memory_mb: int) -> None:
        """Prepare; nothing is touched before `start`.

        Args:
            directory: The state directory; sockets and data go to `valkey` in it.
            redis: With `url`, nothing is embedded; with `events_url` only the cache is.
            max_memory_mb: For the embedded cache server.
        """
        data = directory.absolute() / "valkey"
        self._state, self._data, self._sockets = directory, data, _socket_directory(data)
        cache = self._server(
            "cache", {"maxmemory": f"{max_memory_mb}mb", "maxmemory-policy": "allkeys-lfu"}
        )
        events = self._server(
            "events",
            {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"},
        )
        self.cache_url = redis.url or cache.url
        """What `cache_client` takes."""
        self.events_url = redis.events_url or redis.url or events.url
        """What `events_client` takes."""
        in_use = (self.cache_url, self.events_url)
        self._servers = [server for server in (cache, events) if server.url in in_use]

    def status(self) -> tuple[ServerStatus, ...]:
        """The embedded servers; none if the settings name both."""
        return tuple(server.status() for server in self._servers)

    async def start(self) -> None:
        """Return when every embedded server answers.

        Must run on the thread that will live longest: the servers die with it.

        Raises:
            StartupError: a server cannot run here; the message says what to do.
        """
        if not self._servers:
            return
        _make(self._state)
        _make_private(self._data)
        _make_private(self._sockets)
        try:
            for server in self._servers:
                await server.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the servers that this process runs; others attached to them take over."""
        for server in self._servers:
            await server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _server(self, name: str, options: dict[str, str]) -> EmbeddedServer:
        socket = self._sockets / f"{name}.sock"
        return EmbeddedServer(name, directory=self._data, socket=socket, options=options)


def embedded_stores(loaded: LoadedSettings) -> EmbeddedStores:
    """The stores that these settings want; nothing is touched yet."""
    settings = loaded.settings
    return EmbeddedStores(
        loaded.state_directory, redis=settings.redis, max_memory_mb=settings.cache.max_memory_mb
    )


def _socket_directory(data: Path) -> Path:
    """Where sockets go: beside the data, unless their path would be too long for the kernel."""
    if len(os.fsencode(data / "events.sock")) <= _SOCKET_PATH_LIMIT:
        return data
    # The same for every process with this state directory, so that they meet.
    digest = blake2b(os.fsencode(data), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"podium-{os.geteuid()}-{digest}"


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise StartupError(
            f"the directory {directory} cannot be made ({problem.strerror}): "
            "set state_directory to one that can"
        ) from problem


def _make_private(directory: Path) -> None:
    """Make a directory that only we can enter; in a shared place it may be a trap."""
    _make(directory)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StartupError(
            f"{directory} is not a directory of ours: set state_directory to another place"
        )
    directory.chmod(0o700)
