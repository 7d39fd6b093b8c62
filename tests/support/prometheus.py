"""A real Prometheus on loopback, from Debian's package, for what is to be asked of one."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

READY_S = 30.0


class Prometheus:
    """One that runs; see `prometheus`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def query(self, expression: str) -> list[Any]:
        """The series of an instant query, now.

        Raises:
            AssertionError: Prometheus does not understand it.
        """
        return list(self._get("/api/v1/query", query=expression)["result"])

    def values(self, label: str, series: str) -> list[str]:
        """The values of a label, of all series that match."""
        return list(self._get(f"/api/v1/label/{label}/values", **{"match[]": series}))

    def exemplars(self, expression: str) -> list[Any]:
        """Of the last minutes."""
        now = time.time()
        return list(
            self._get("/api/v1/query_exemplars", query=expression, start=now - 300, end=now)
        )

    def close(self) -> None:
        self._client.close()

    def wait_until_ready(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        ends_at = time.monotonic() + READY_S
        while time.monotonic() < ends_at and process.poll() is None:
            try:
                if self._client.get("/-/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"Prometheus does not run:\n{log.read_text()[-2000:]}")

    def _get(self, path: str, **parameters: Any) -> Any:
        # By POST, for expressions are long; label values know only GET.
        answer = (
            self._client.get(path, params=parameters)
            if path.startswith("/api/v1/label/")
            else self._client.post(path, data=parameters)
        )
        told = answer.json()
        assert told["status"] == "success", f"{told.get('error')}: {parameters}"
        return told["data"]


@contextmanager
def prometheus(program: Path, configuration: Any, rules: Path) -> Iterator[Prometheus]:
    """One for a block of code, with data of its own.

    Args:
        program: The executable.
        configuration: What prometheus.yml says; JSON is YAML as well. Files of rules in it are
            relative to the folder `rules` is copied to.
        rules: A folder of files of rules.
    """
    home = Path(tempfile.mkdtemp(prefix="podium-prometheus-"))
    shutil.copytree(rules, home / "rules")
    (home / "prometheus.yml").write_text(json.dumps(configuration))
    port, log = _free_port(), home / "log"
    command = [
        str(program),
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    one = Prometheus(f"http://127.0.0.1:{port}")
    try:
        one.wait_until_ready(process, log)
        yield one
    finally:
        one.close()
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
