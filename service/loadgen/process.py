"""``podium serve`` as a process of its own, for demonstrations and measurements."""

import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from service.errors import StartupError

_ADDRESS = re.compile(r"\bAPI\s+(http://\S+)/schema\b")
_KEPT_LINES = 50


class ServiceProcess:
    """A running service; see `serving`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._url: str | None = None
        self._announced = threading.Event()
        assert process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[str]) -> None:
        """Keep the pipe empty, for a full one would stop the service; find the address in it."""
        with stderr:
            for line in stderr:
                self._last_lines.append(line.rstrip())
                if found := _ADDRESS.search(line):
                    self._url = found.group(1)
                    self._announced.set()
        self._announced.set()  # it has ended

    def url(self, *, longest_s: float) -> str:
        """Wait for the service to listen; returns ``http://host:port``.

        Raises:
            StartupError: it ended, with its own last line, or takes too long.
        """
        if not self._announced.wait(longest_s):
            raise StartupError(f"podium serve did not listen within {longest_s:g} s")
        if self._url is None:
            raise StartupError(self.last_line() or "podium serve ended without a word")
        return self._url

    @property
    def pid(self) -> int:
        return self._process.pid

    def last_line(self) -> str:
        """The newest line that the service wrote for people, without its prefix."""
        lines = [line for line in self._last_lines if line and not line.startswith("{")]
        return lines[-1].removeprefix("podium: ") if lines else ""

    def wait(self) -> int:
        """Wait until the service ends by itself; returns its exit code."""
        return self._process.wait()

    def stop(self, *, longest_s: float = 30.0) -> int:
        """Let the service drain and end; returns its exit code, negative if it had to be killed."""
        self._process.terminate()
        try:
            code = self._process.wait(longest_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        return code


@contextmanager
def serving(arguments: Sequence[str]) -> Iterator[ServiceProcess]:
    """Run ``podium serve`` with some arguments; it is stopped on the way out."""
    process = subprocess.Popen(  # noqa: S603 - this very program, with our own arguments
        [sys.executable, "-m", "service", "serve", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C in a terminal reaches us alone; we then stop the service in order.
        start_new_session=True,
    )
    service = ServiceProcess(process)
    try:
        yield service
    finally:
        service.stop()
