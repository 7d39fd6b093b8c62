"""Every server of the comparison, each started as its user would start it."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

PEERS_CODE = Path(__file__).parent / "peers"
WORKERS = 2
START_S = 90.0
STOP_S = 15.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "SSL_CERT_FILE")
"""Nothing else of our environment may configure a server, such as PODIUM_* or OTEL_*."""

Slate = list[tuple[str, float]]


def same(body: bytes) -> bytes:
    return body


def slate_of(reply: bytes) -> Slate:
    return [(item["id"], item["score"]) for item in json.loads(reply)["items"]]


def triton_body(body: bytes) -> bytes:
    """The request as one BYTES element of KServe v2 JSON."""
    tensor = {"name": "request", "shape": [1, 1], "datatype": "BYTES", "data": [body.decode()]}
    return msgspec.json.encode({"inputs": [tensor]})


def triton_slate(reply: bytes) -> Slate:
    return slate_of(json.loads(reply)["outputs"][0]["data"][0].encode())


class Kind(NamedTuple):
    """How a server is started and spoken to."""

    name: str
    command: Callable[[Path, int], list[str]]
    """From the folder of its executables, and the port."""
    path: str = "/v1/rank"
    body: Callable[[bytes], bytes] = same
    slate: Callable[[bytes], Slate] = slate_of


PEERS = (
    Kind(
        "mosec",
        lambda at, port: [
            *(f"{at}/python", "mosec_server.py", "--address", "127.0.0.1", "--port", str(port)),
        ],
        path="/inference",
    ),
    Kind(
        "litestar",
        lambda at, port: [
            *(f"{at}/granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws"),
            *("--log-level", "warning", "--workers", str(WORKERS), "--port", str(port)),
            "litestar_app:app",
        ],
    ),
    Kind(
        "fastapi",
        lambda at, port: [
            *(f"{at}/uvicorn", "--workers", str(WORKERS), "--port", str(port)),
            *("--log-level", "warning", "--no-access-log", "fastapi_app:app"),
        ],
    ),
    Kind(
        "pytriton",
        lambda at, port: [f"{at}/python", "pytriton_server.py"],
        path="/v2/models/ranker/infer",
        body=triton_body,
        slate=triton_slate,
    ),
    Kind("litserve", lambda at, port: [f"{at}/python", "litserve_server.py"]),
)


class Server:
    """A running server: where it is, and what its processes have used."""

    def __init__(self, kind: Kind, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.kind, self.port = kind, port
        self._process = process

    @property
    def name(self) -> str:
        return self.kind.name

    def post(self, body: bytes, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """One request, in one piece, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            headers = {"content-type": "application/json"}
            connection.request("POST", self.kind.path, self.kind.body(body), headers)
            reply = connection.getresponse()
            return reply.status, reply.read()

    def until_ready(self, body: bytes) -> None:
        """Wait for the first answer.

        Raises:
            RuntimeError: the server ended, or takes too long.
        """
        give_up_at = time.monotonic() + START_S
        said: object = "nothing"
        while time.monotonic() < give_up_at:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}")
            try:
                said = self.post(body)
                if said[0] == 200:
                    return
            except (OSError, http.client.HTTPException) as error:
                said = error
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not answer within {START_S:g} s: {said}")

    def cpu_s(self) -> float:
        """CPU seconds of its processes so far, dead ones excluded."""
        ticks = sum(int(f[11]) + int(f[12]) for f in self._processes().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss_mb(self) -> dict[int, float]:
        """Memory of each process, shared pages divided among those that share them; by pid.

        Stores are left out: a Valkey is no worker's.
        """
        found = {}
        for pid in self._processes():
            if "valkey" in _command_line(pid):
                continue
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                found[pid] = sum(int(line.split()[1]) for line in lines if line[:4] == "Pss:") / 1e3
        return found

    def stop(self) -> None:
        """Let it end in order; whatever then is left of its session is killed."""
        family = self._processes()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        began = {pid: fields[19] for pid, fields in _stats().items()}
        for pid, fields in family.items():
            if began.get(pid) == fields[19]:  # still the same process
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _processes(self) -> dict[int, list[str]]:
        """It and all that it started, by pid, with what `stat` says of them."""
        stats, family = _stats(), {self._process.pid}
        while more := {pid for pid, f in stats.items() if int(f[1]) in family} - family:
            family |= more
        return {pid: stats[pid] for pid in family if pid in stats}


@contextlib.contextmanager
def running_peer(kind: Kind, executables: Path, bundle: Path, scratch: Path) -> Iterator[Server]:
    """A peer, on the bundle's whole graph."""
    port = _free_port()
    environ = {"BENCH_BUNDLE": str(bundle), "BENCH_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = kind.command(executables, port)
    with _running(kind, command, port, scratch, environ, cwd=PEERS_CODE) as server:
        yield server


def podium(name: str) -> Kind:
    return Kind(name, lambda at, port: [f"{at}/podium", "serve", "--config", "podium.toml"])


@contextlib.contextmanager
def running_podium(
    name: str, settings: str, scratch: Path, environ: dict[str, str] | None = None
) -> Iterator[Server]:
    """``podium serve`` with some settings, to which address and state directory are added."""
    port = _free_port()
    home = scratch / name.replace(" ", "-")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    text = f'state_directory = "state"\n{settings.format(port=port)}'
    (home / "podium.toml").write_text(text)
    kind = podium(name)
    command = kind.command(Path(sys.executable).parent, port)
    with _running(kind, command, port, scratch, environ or {}, cwd=home) as server:
        yield server


@contextlib.contextmanager
def _running(
    kind: Kind, command: list[str], port: int, scratch: Path, environ: dict[str, str], *, cwd: Path
) -> Iterator[Server]:
    log = scratch / f"{kind.name.replace(' ', '-')}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={k: v for k, v in os.environ.items() if k in _PASSED_ON} | environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(kind, process, port)
    try:
        yield server
    finally:
        server.stop()


def last_words(name: str, scratch: Path) -> str:
    """The last lines that a server wrote for people."""
    log = scratch / f"{name.replace(' ', '-')}.log"
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip() and not line.startswith("{")]
    return " / ".join(said[-3:]) or "nothing"


def _free_port() -> int:
    """A port with two free ones behind it, which PyTriton takes."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for number in (port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except (OSError, OverflowError):
                continue
            return port
    raise RuntimeError("no three free ports in a row")


def _stats() -> dict[int, list[str]]:
    """Every process with what its `stat` says behind its name."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                text = (folder / "stat").read_text()
                found[int(folder.name)] = text.rpartition(")")[2].split()
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
