"""``podium serve`` for a browser's test: an address that stays, and shoppers.

Runs in an environment without the project, so it uses the standard library alone.
"""

import hashlib
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADMIN, READER = "an-admin-key-of-the-test", "a-reading-key-of-the-test"
START_S, STOP_S = 90.0, 120.0
DRAIN_S = 60.0
"""What a reply that does not end would hold up the end of the service for."""

SETTINGS = """
state_directory = "state"
[server]
port = {port}
workers = 2
drain_timeout_s = {drain_s}
[deployments.ranker]
model = "marketplace"
engines = ["onnxruntime-cpu"]
[deployments.small]
model = "marketplace"
precision = "fp16"
engines = ["tensorrt", "onnxruntime-cpu"]
[deployments.popularity]
model = "marketplace"
engines = ["popularity"]
cache = "off"
[surfaces]
default = "ranker"
[experiments]
file = "experiments.toml"
price_per_hour = 0.4
"""
KEY = """
[[auth.keys]]
name = "{name}"
sha256 = "{sha256}"
scopes = [{scopes}]
"""
EXPERIMENTS = """
[[experiment]]
key = "rollout"
unit = "user_or_session"
[[experiment.variant]]
name = "popularity"
share_bp = 5000
deployment = "popularity"
[[experiment.variant]]
name = "model"
share_bp = 5000
deployment = "ranker"
[experiment.rollout]
stages_bp = [{first}, 2500, 5000, 10000]
"""


class PageService:
    """A service with two workers; it can be stopped and started again at the same address."""

    def __init__(self, python: Path, home: Path, *, keys: bool = False) -> None:
        home.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = SETTINGS.format(port=port, drain_s=DRAIN_S)
        if keys:
            settings += _key("operator", ADMIN, "admin", "read", "rank")
            settings += _key("reader", READER, "read")
        (home / "podium.toml").write_text(settings)
        # All units take part where shoppers fill the page, few where the traffic is moved.
        (home / "experiments.toml").write_text(EXPERIMENTS.format(first=1000 if keys else 2400))
        self.url = f"http://127.0.0.1:{port}"
        self._python, self._home, self._keys = python.absolute(), home, keys
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = self.podium("serve", "--config", "podium.toml")
        ends = time.monotonic() + START_S
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                self.get("/health/ready")
                return
            except urllib.error.HTTPError:
                return  # it answers, if not well yet
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self._home / "errors.log").read_text()[-1000:])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(STOP_S)

    def podium(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self._home / "errors.log").open("ab") as errors:
            return subprocess.Popen(
                [self._python, "-m", "service", *words],
                cwd=self._home,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def get(self, path: str) -> Any:
        return json.loads(self._read(path))

    def counted(self, metric: str) -> float:
        """The sum of all series of a counter."""
        page = self._read("/metrics").decode()
        return sum(float(found) for found in re.findall(rf"^{metric}{{.*}} (\S+)$", page, re.M))

    def _read(self, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {ADMIN}"} if self._keys else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            content: bytes = reply.read()
        return content


@contextmanager
def shopping(service: PageService) -> Iterator[None]:
    """Two simulated shoppers at a time, until the block ends."""
    shoppers = service.podium(
        "simulate", "--url", service.url, "--sessions", "100000", "--concurrency", "2"
    )
    try:
        yield
    finally:
        shoppers.kill()
        shoppers.wait()


def _key(name: str, key: str, *scopes: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return KEY.format(name=name, sha256=digest, scopes=", ".join(f'"{one}"' for one in scopes))
