"""A real ``podium serve`` process for tests: own settings, own state directory, free port."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.bundles import write_tiny_bundle

START_LIMIT_S = 60.0
"""Far above the two seconds that a start takes: only a broken start waits this long."""

SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 1
[models]
directory = "bundles"
[deployments.ranker]
model = "tiny"
[deployments.uncached]
model = "tiny"
cache = "off"
[deployments.popularity]
model = "tiny"
engines = ["popularity"]
[surfaces]
default = "ranker"
uncached = "uncached"
popular = "popularity"
"""

EXPERIMENTS = """
[[experiment]]
key = "model"
unit = "user_or_session"
[[experiment.variant]]
name = "ranker"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "popularity"
share_bp = 5000
deployment = "popularity"
"""


class Server:
    """One podium process; `home` holds its settings, bundles and state."""

    def __init__(self, home: Path, process: "subprocess.Popen[str]") -> None:
        self.home = home
        self.process = process
        self.lines: list[str] = []
        """What it wrote to standard error so far."""
        self.welcome = ""
        """What it tells a person at the start; to a pipe it is one line of the log."""
        self._address: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        address = self._address.get(timeout=START_LIMIT_S)
        if address is None:
            code, errors = self.wait()
            raise AssertionError(f"podium ended with {code} before it served: {errors}")
        self.base_url = address
        self.client = httpx.Client(base_url=address, timeout=30)

    def rank(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/rank", json={"timeout_ms": 10_000, **body})

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what it wrote."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> tuple[int, str]:
        """The exit code and everything that it wrote, once it has ended."""
        code = self.process.wait(timeout=START_LIMIT_S)
        self._reader.join()
        return code, "".join(self.lines)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.client.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)
                if '"logger":"service"' in line:
                    self.welcome = json.loads(line)["message"]
                if found := re.search(r"(http://\S+)/dashboard", line):
                    self._address.put(found.group(1))
        self._address.put(None)


def make_home(*, settings: str = SETTINGS, experiments: str | None = None) -> Path:
    """A directory with settings, a tiny bundle and, if given, experiments."""
    # pytest's tmp_path can be longer than the 107 bytes a socket path may have.
    home = Path(tempfile.mkdtemp(prefix="podium-e2e-"))
    write_tiny_bundle(home / "bundles")
    if experiments is not None:
        (home / "experiments.toml").write_text(experiments)
        settings += '[experiments]\nfile = "experiments.toml"\n'
    (home / "podium.toml").write_text(settings)
    return home


@contextmanager
def launched(
    home: Path,
    *flags: str,
    environ: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "service"),
) -> Iterator[Server]:
    """A server for a block of code, from the moment that it prints its address."""
    command = [sys.executable, *program, "serve", "--config", str(home / "podium.toml")]
    process = subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    server = Server(home, process)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def serving(
    *,
    settings: str = SETTINGS,
    experiments: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server with a home of its own."""
    home = make_home(settings=settings, experiments=experiments)
    try:
        with launched(home, environ=environ) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)
