"""The processes of a step: started as a user would start them, asked, and stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from service.errors import StartupError
from service.loadgen.generator import Load, Met, send
from service.profiling.story.traffic import Stream

START_S = 120.0
STOP_S = 20.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "SSL_CERT_FILE", "VIRTUAL_ENV")
"""Nothing else of our environment may configure a step, such as PODIUM_* or OTEL_*."""

_STATE, _PARENT, _SESSION, _USER, _SYSTEM, _STARTED = 0, 1, 3, 11, 12, 19
"""Where a process' `stat` says these, behind its name."""


class Command(Struct, frozen=True, kw_only=True):
    """How a step is started; ``{port}`` stands for its port in arguments and settings."""

    arguments: Sequence[str]
    environ: Mapping[str, str] = {}
    settings: str = ""
    """Written to ``podium.toml`` in the folder where it is started."""


class Server:
    """A running step: where it is, and what its processes have used."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.port = port
        self._process, self._log = process, log

    def until_ready(self, stream: Stream) -> None:
        """Wait for the first answer to the first request of a stream.

        Raises:
            StartupError: it ended, or takes too long; with its own last line.
        """
        first = stream._replace(order=stream.order[:1])
        give_up_at = time.monotonic() + START_S
        while time.monotonic() < give_up_at:
            if (code := self._process.poll()) is not None:
                raise StartupError(f"it ended with {code} before it answered: {self._last_line()}")
            # Uvicorn starts workers that fail again and again, and never says that it has failed.
            if "Traceback" in self._log.read_text(errors="replace"):
                raise StartupError(f"it failed: {self._last_line()}")
            if self._listens():
                with contextlib.suppress(StartupError):
                    if self.ask(first, seconds=5.0, connections=1, once=True).statuses.get(200):
                        return
            time.sleep(0.1)
        raise StartupError(f"it did not answer within {START_S:g} s: {self._last_line()}")

    def ask(
        self,
        stream: Stream,
        *,
        seconds: float,
        connections: int,
        rate_per_s: float | None = None,
        seed: int = 1,
        once: bool = False,
        keep_replies: bool = False,
    ) -> Met:
        """Send it load; see `Load`.

        Raises:
            StartupError: it does not listen any more.
        """
        return send(
            Load(
                port=self.port,
                requests=[request.encode() for request in stream.requests],
                pages=stream.pages,
                order=stream.order,
                seconds=seconds,
                connections=connections,
                rate_per_s=rate_per_s,
                seed=seed,
                once=once,
                keep_replies=keep_replies,
            )
        )

    def cpu_s(self) -> float:
        """CPU seconds of its processes so far, dead ones excluded."""
        ticks = sum(int(f[_USER]) + int(f[_SYSTEM]) for f in self._family().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Let it end in order; whatever then is left of its processes is killed."""
        if self._process.returncode is not None and not self._family():
            return
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        now = _processes()
        for pid, fields in family.items():
            if pid in now and now[pid][_STARTED] == fields[_STARTED]:  # still the same process
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _family(self) -> dict[int, list[str]]:
        """Its session and all that it started, by pid, with what `stat` says of them."""
        there, first = _processes(), self._process.pid
        family = {first} | {pid for pid, f in there.items() if int(f[_SESSION]) == first}
        while more := {pid for pid, f in there.items() if int(f[_PARENT]) in family} - family:
            family |= more
        return {pid: there[pid] for pid in family if pid in there}

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _last_line(self) -> str:
        """The newest line that it wrote for people."""
        lines = self._log.read_text(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith("{")]
        return said[-1].removeprefix("podium: ") if said else "it said nothing"


@contextlib.contextmanager
def running(command: Command, home: Path) -> Iterator[Server]:
    """A step on a free port of loopback, with a folder of its own; stopped on the way out."""
    home.mkdir(parents=True)
    port = _free_port()
    if command.settings:
        (home / "podium.toml").write_text(command.settings.replace("{port}", str(port)))
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own programs, with our own arguments
            [part.replace("{port}", str(port)) for part in command.arguments],
            cwd=home,
            env={k: v for k in _PASSED_ON if (v := os.environ.get(k))} | dict(command.environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal reaches us alone; we then stop it in order.
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        yield server
    finally:
        with _undisturbed():
            server.stop()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until this is done, so that nothing is left behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def busy_s() -> float:
    """CPU seconds that the machine has worked since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _processes() -> dict[int, list[str]]:
    """Every process that has not ended, with what its `stat` says behind its name."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                text = (folder / "stat").read_text(errors="replace")
                fields = text.rpartition(")")[2].split()
                if fields[_STATE] != "Z":
                    found[int(folder.name)] = fields
    return found
