"""``make verify``: the engine `triton` against a real Triton server, on a CPU.

    python -m tests.verify_triton PEERS

PEERS is the folder of the benchmark's environments, in which PyTriton is
installed from its lock if it is not there yet. Its wheel holds NVIDIA's server
binary, which needs Debian's Python 3.11; elsewhere this says so and passes.

The server gets the demonstration's model. The engine is loaded as the service
loads it, so that the golden rows prove it; then batches of many sizes must
score as ONNX Runtime scores them, a batch larger than the server takes is cut
by the service, and a server that has ended is a failure in time, not a hang.
Then the repository that `podium export` writes: `tests.verify_triton_repository`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import ranking_models
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch
from ranking_models.triton.border import model_name
from service.clock import SystemClock
from service.engines import Engine
from service.engines.loading import TRITON, EngineLoader
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings
from tests.bench.peers.environments import NotHere, environment
from tests.verify_triton_repository import verify_repository

MODEL_SCRIPT = Path(__file__).parent / "support" / "pytriton_model.py"
DEMONSTRATION = Path(ranking_models.__file__).parent / "demo"
MOST_ROWS = 512
READY_S, END_S = 60.0, 20.0
SIZES = (1, 7, 100, 400, MOST_ROWS)
ROUNDING = 1e-5


def main(peers: str) -> int:
    try:
        executables = environment("pytriton", Path(peers).absolute())
    except NotHere as reason:
        _say(f"a real Triton server: not for this machine: {reason}")
        return 0
    bundle = Bundle.open(find_bundle(DEMONSTRATION, "marketplace"))
    address = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory(prefix="podium-triton-") as folder:
        loader = EngineLoader(EngineSettings(triton_url=address), Path(folder), SystemClock())
        with _serving(executables / "python", bundle, address, Path(folder)):
            (engine,) = loader.load(TRITON, bundle, "fp32", 1).engines
            _compare(engine, bundle)
            _refuse_unknown(loader, bundle)
            engine.close()  # Triton waits for open connections before it ends
        _fail_without_server(engine, bundle)
    _say(f"a real Triton server: {len(SIZES)} batch sizes as ONNX Runtime scores them")
    with tempfile.TemporaryDirectory(prefix="podium-triton-") as repository:
        verify_repository(
            executables, bundle, Path(repository), _free_port(), _wait_until_ready, _say
        )
    return 0


def _compare(engine: Engine, bundle: Bundle) -> None:
    if engine.info.max_batch_rows != MOST_ROWS:
        raise AssertionError(f"the server takes {MOST_ROWS} rows, the engine says {engine.info}")
    reference = onnx_runtime_scorer(bundle.graph("fp32"))
    for rows in SIZES:
        batch = _rows(bundle, rows)
        difference = float(np.abs(engine.score(batch) - reference(batch)).max())
        if not difference <= ROUNDING:
            raise AssertionError(f"{rows} rows are off by {difference:.1e}")
    try:
        engine.score(_rows(bundle, MOST_ROWS + 1))
    except EngineFailed as refusal:
        _say(f"a batch that is too large: {refusal}")
    else:
        raise AssertionError("the server took more rows than it says")


def _refuse_unknown(loader: EngineLoader, bundle: Bundle) -> None:
    try:
        loader.load(TRITON, bundle, "fp16", 1)
    except StartupError as refusal:
        _say(f"a model that the server has not: {refusal}")
    else:
        raise AssertionError("a model was loaded that the server has not")


def _fail_without_server(engine: Engine, bundle: Bundle) -> None:
    started = time.monotonic()
    try:
        engine.score(_rows(bundle, 10))
    except EngineFailed as failure:
        _say(f"a server that has ended, after {time.monotonic() - started:.2f} s: {failure}")
    else:
        raise AssertionError("a server that has ended gave scores")


def _rows(bundle: Bundle, count: int) -> FeatureBatch:
    rows, _ = bundle.golden
    return rows.take(np.arange(count) % rows.rows)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _serving(python: Path, bundle: Bundle, address: str, folder: Path) -> Iterator[None]:
    model, port = model_name(bundle.manifest, "fp32"), address.rpartition(":")[2]
    command = [str(python), str(MODEL_SCRIPT), str(bundle.graph("fp32").resolve())]
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(
            [*command, model, port, str(MOST_ROWS)],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as server,
    ):
        try:
            _wait_until_ready(f"http://{address}/v2/models/{model}/ready", server, log.name)
            yield
        finally:
            _end(server)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Let PyTriton end its Triton; what is left of both is killed, for it would go on serving."""
    server.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: str) -> None:
    ends_at = time.monotonic() + READY_S
    while time.monotonic() < ends_at and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.2)
    last = "\n".join(Path(log).read_text().splitlines()[-5:])
    raise AssertionError(f"Triton was not ready within {READY_S:g} s:\n{last}")


def _free_port() -> int:
    """Of two in a row: the server wants the next one for gRPC."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
