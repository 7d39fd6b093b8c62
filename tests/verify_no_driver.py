"""``make verify``: the service with everything for a GPU installed, on a machine without a driver.

    .venv-verify/no-driver/bin/python -m tests.verify_no_driver

Run by the Python of an environment that has the real onnxruntime-gpu,
cuda-bindings and pynvml in place of onnxruntime (``deploy/locks/no-driver.txt``).
Left alone, that ONNX Runtime computes on the CPU and says nothing. Podium must
start, answer from the last engine of its chain, be ready, and name the reason
of each engine that is not there. On a machine with a driver it says so and passes.
"""

import contextlib
import importlib
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

import ranking_models
from ranking_models.bundle import Bundle, find_bundle
from service.engines.onnx_runtime_cuda import PROVIDER, open_session
from service.errors import EngineFailed
from service.loadgen.process import serving

DEMONSTRATION = Path(ranking_models.__file__).parent / "demo"
MODEL = "marketplace"
DRIVER = Path("/dev/nvidiactl")
START_S = 60.0
SETTINGS = f"""
state_directory = "state"
[server]
port = 0
workers = 1
[deployments.ranker]
model = "{MODEL}"
engines = ["tensorrt", "onnxruntime-cuda", "onnxruntime-cpu"]
[surfaces]
default = "ranker"
"""


def main() -> int:
    if DRIVER.exists() or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        _say("not for this machine, which has one or for which there are no packages")
        return 0
    bundle = Bundle.open(find_bundle(DEMONSTRATION, MODEL))
    _monitoring_refuses()
    _session_refuses(bundle.graph("fp32"))
    with tempfile.TemporaryDirectory(prefix="podium-no-driver-") as folder:
        settings = Path(folder) / "podium.toml"
        settings.write_text(SETTINGS)
        with (
            serving(["--config", str(settings)]) as service,
            httpx.Client(base_url=service.url(longest_s=START_S), trust_env=False) as client,
        ):
            _is_ready(client)
            _answers_from_the_cpu(client, bundle)
            _says_why(client)
    return 0


def _monitoring_refuses() -> None:
    """NVIDIA's monitoring imports without a driver and fails when it is asked."""
    pynvml: Any = importlib.import_module("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _say(f"pynvml: {error}")
    else:
        raise AssertionError("pynvml found a driver, and there is none")


def _session_refuses(graph: Path) -> None:
    """Past the question whether there is a GPU: the runtime itself must not fall back."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    if PROVIDER not in onnxruntime.get_available_providers():
        raise AssertionError(f"this is not onnxruntime-gpu: it has no {PROVIDER}")
    onnxruntime.set_default_logger_severity(4)
    with contextlib.redirect_stdout(None):
        silent = onnxruntime.InferenceSession(graph, providers=[PROVIDER]).get_providers()
    if silent != ["CPUExecutionProvider"]:
        raise AssertionError(f"left alone, onnxruntime-gpu runs {silent}")
    try:
        with contextlib.redirect_stdout(None):
            open_session(graph, device=0, limit_bytes=1 << 30)
    except EngineFailed as refusal:
        _say(f"a session for the GPU: {refusal}")
    else:
        raise AssertionError("a session for the GPU was opened, and there is none")


def _is_ready(client: httpx.Client) -> None:
    reply = client.get("/health/ready")
    if reply.status_code != httpx.codes.OK:
        raise AssertionError(f"not ready: {reply.status_code} {reply.text}")


def _answers_from_the_cpu(client: httpx.Client, bundle: Bundle) -> None:
    body = {
        "user": {"id": str(bundle.user_ids[0])},
        "candidates": [str(item) for item in bundle.item_ids[:50]],
        "k": 10,
    }
    reply = client.post("/v1/rank", json=body)
    slate = reply.json()
    if reply.status_code != httpx.codes.OK or len(slate["items"]) != 10:
        raise AssertionError(f"no slate: {reply.status_code} {reply.text}")
    if "onnxruntime-cpu" not in reply.text:
        raise AssertionError(f"answered by something else: {reply.text}")


def _says_why(client: httpx.Client) -> None:
    engines = _engines(client)
    for name in ("tensorrt", "onnxruntime-cuda"):
        engine = engines[name]
        if engine["status"] != "refused" or "driver" not in str(engine):
            raise AssertionError(f"{name} does not say that there is no driver: {engine}")
        _say(f"{name}: {engine['last_error']}")
    if engines["onnxruntime-cpu"]["status"] != "ready":
        raise AssertionError(f"onnxruntime-cpu is not ready: {engines['onnxruntime-cpu']}")
    _say("the service is ready and answers from onnxruntime-cpu")


def _engines(client: httpx.Client) -> dict[str, Any]:
    """By name, as soon as none of them is on its way any more."""
    ends_at = time.monotonic() + START_S
    while True:
        (deployment,) = client.get("/v1/models").json()["deployments"]
        engines = {engine["name"]: engine for engine in deployment["engines"]}
        if all(engine["status"] != "loading" for engine in engines.values()):
            return engines
        if time.monotonic() > ends_at:
            raise AssertionError(f"engines are still on their way: {engines}")
        time.sleep(0.1)


def _say(line: str) -> None:
    sys.stdout.write(f"without a driver: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
