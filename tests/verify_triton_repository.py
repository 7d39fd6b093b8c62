"""``make verify``: a model repository of `podium export`, read and served by a real Triton.

Part of `tests.verify_triton`, which has the server. That server has no ONNX
Runtime backend, so the repository is proven in three steps: Triton's own
message classes read every field of ``config.pbtxt``; the server takes the
repository as it is and misses that backend, and nothing else; and served by the
Python backend with the same graph and the same configuration but for the
backend's name, it is warmed up, batched, cached, and gives the engine `triton`
the scores of ONNX Runtime. What is left is ONNX Runtime's backend itself.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch
from service.clock import SystemClock
from service.engines.loading import TRITON, EngineLoader
from service.settings import EngineSettings
from tests.support.tritonserver import TritonServer

SUPPORT = Path(__file__).parent / "support"
MOST_ROWS, PREFERRED_ROWS = 512, 256
SETTINGS = f"""
[deployments.ranker]
model = "marketplace"
[batching]
max_batch_rows = {MOST_ROWS}
preferred_batch_rows = {PREFERRED_ROWS}
max_queue_delay_s = 0.02
"""
ROUNDING = 1e-6
CALLERS = 24
READ = """
import sys, tritonclient.grpc.model_config_pb2 as messages
from google.protobuf import json_format, text_format
config = text_format.Parse(open(sys.argv[1]).read(), messages.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
"""


def verify_repository(
    executables: Path,
    bundle: Bundle,
    folder: Path,
    port: int,
    wait_until_ready: Callable[[str, "subprocess.Popen[bytes]", str], None],
    say: Callable[[str], None],
) -> None:
    """Every promise about the repository that can be proven without ONNX Runtime's backend.

    Raises:
        AssertionError: one of them is broken.
    """
    model = _exported(bundle, folder)
    _check_fields(executables, model)
    say("config.pbtxt: Triton's own message classes read every field")
    triton = TritonServer(executables, folder)
    _check_refusal(triton.refusal(model.parent, port))
    say("the repository as it is: Triton misses the backend 'onnxruntime', and nothing else")
    variant = _for_python(model, folder / "variant")
    address = f"127.0.0.1:{port}"
    with triton.running(variant, port, folder / "log") as server:
        wait_until_ready(f"http://{address}/v2/health/ready", server, str(folder / "log"))
        _check_warmup(triton.seen, bundle)
        say(f"warm-up: golden rows, in batches of 1, {PREFERRED_ROWS} and {MOST_ROWS}")
        with tritonclient.http.InferenceServerClient(address, concurrency=CALLERS) as client:
            _check_engine(address, bundle, folder)
            say('engines = ["triton"]: loaded from the repository, scores as ONNX Runtime\'s')
            _check_batching(client, model.name, bundle, triton.seen)
            say(f"dynamic batching: {CALLERS} callers share batches")
            _check_cache(client, model.name, bundle)
            say("response cache: a repeated request is answered from it")
            labels = _labels(client, model.name, bundle)
            _require(labels.endswith(":click"), f"the class of a score is {labels}")
            say("labels: Triton's classification calls the score a click")
    say("not proven here: Triton's ONNX Runtime and TensorRT backends, which its wheel lacks")


def _exported(bundle: Bundle, folder: Path) -> Path:
    """The model's folder, written by the command."""
    (folder / "podium.toml").write_text(SETTINGS)
    podium = [sys.executable, "-m", "service", "export", "--bundle", str(bundle.path), "--json"]
    where = ["--triton-repository", str(folder / "repository")]
    how = ["--triton-settings", str(folder / "podium.toml")]
    done = subprocess.run([*podium, *where, *how], capture_output=True, text=True, check=True)
    (model,) = json.loads(done.stdout)["triton"]
    return Path(model["path"])


def _check_fields(executables: Path, model: Path) -> None:
    done = subprocess.run(
        [str(executables / "python"), "-c", READ, str(model / "config.pbtxt")],
        capture_output=True,
        text=True,
        check=True,
    )
    config: dict[str, Any] = json.loads(done.stdout)
    _require(config["name"] == model.name, f"the name is {config['name']}")
    _require(config["max_batch_size"] == MOST_ROWS, f"the batch is {config['max_batch_size']}")
    batching = {"preferred_batch_size": [PREFERRED_ROWS], "max_queue_delay_microseconds": "20000"}
    _require(config["dynamic_batching"] == batching, f"batching is {config['dynamic_batching']}")
    group = [{"kind": "KIND_CPU", "count": 1}]
    _require(config["instance_group"] == group, f"instances are {config['instance_group']}")
    _require(config["response_cache"] == {"enable": True}, "there is no response cache")
    _require(len(config["model_warmup"]) == 3, f"warm-ups are {config['model_warmup']}")


def _check_refusal(log: str) -> None:
    missing = "unable to find backend library for backend 'onnxruntime'"
    states = [line for line in log.splitlines() if "UNAVAILABLE" in line]
    _require(bool(states) and all(missing in line for line in states), log[-2000:])


def _for_python(model: Path, repository: Path) -> Path:
    """The same model for the Python backend."""
    copy = repository / model.name
    shutil.copytree(model, copy)
    shutil.copy(SUPPORT / "triton_python_model.py", copy / "1" / "model.py")
    text = (copy / "config.pbtxt").read_text()
    for ours, theirs in (('"onnxruntime"', '"python"'), ('"model.onnx"', '"model.py"')):
        _require(text.count(ours) == 1, f"{ours} is there {text.count(ours)} times")
        text = text.replace(ours, theirs)
    (copy / "config.pbtxt").write_text(text)
    return repository


def _batches(seen: Path) -> list[tuple[int, dict[str, Any]]]:
    return [tuple(json.loads(line)) for line in seen.read_text().splitlines()]


def _check_warmup(seen: Path, bundle: Bundle) -> None:
    batches, golden = _batches(seen), bundle.golden[0]
    sizes = [size for size, _ in batches]
    _require(sizes == [1, PREFERRED_ROWS, MOST_ROWS], f"it was warmed up with {sizes} requests")
    for row, (_, inputs) in enumerate(batches):
        for name, values in golden.take(slice(row, row + 1)).inputs().items():
            same = np.array_equal(np.array(inputs[name], values.dtype), values)
            _require(same, f"warm-up {row} had another {name} than golden row {row}")


def _check_engine(address: str, bundle: Bundle, folder: Path) -> None:
    loader = EngineLoader(EngineSettings(triton_url=address), folder, SystemClock())
    (engine,) = loader.load(TRITON, bundle, "fp32", 1).engines
    reference = onnx_runtime_scorer(bundle.graph("fp32"))
    _require(engine.info.max_batch_rows == MOST_ROWS, f"the engine says {engine.info}")
    for rows in (1, 100, MOST_ROWS):
        batch = bundle.golden[0].take(np.arange(rows) % bundle.golden[0].rows)
        difference = float(np.abs(engine.score(batch) - reference(batch)).max())
        _require(difference <= ROUNDING, f"{rows} rows are off by {difference:.1e}")
    engine.close()


def _check_batching(client: Any, model: str, bundle: Bundle, seen: Path) -> None:
    before = len(_batches(seen))
    # Different rows: equal ones would be answered by the cache.
    asked = [bundle.golden[0].take(slice(row, row + 2)) for row in range(CALLERS)]
    for pending in [client.async_infer(model, _inputs(rows)) for rows in asked]:
        pending.get_result()
    sizes = [size for size, _ in _batches(seen)[before:]]
    _require(sum(sizes) == CALLERS, f"{CALLERS} requests came in batches of {sizes}")
    _require(len(sizes) < CALLERS, f"every request was a batch of its own: {sizes}")


def _check_cache(client: Any, model: str, bundle: Bundle) -> None:
    rows = bundle.golden[0].take(slice(40, 60))
    first, hits = _infer(client, model, rows), _hits(client, model)
    again = _infer(client, model, rows)
    _require(_hits(client, model) == hits + 1, "the repeated request was computed again")
    same = np.array_equal(first.as_numpy("score"), again.as_numpy("score"))
    _require(same, "the cached answer is another one")


def _hits(client: Any, model: str) -> int:
    (stats,) = client.get_inference_statistics(model)["model_stats"]
    return int(stats["inference_stats"]["cache_hit"]["count"])


def _labels(client: Any, model: str, bundle: Bundle) -> str:
    """The class of one row, as Triton's classification extension gives it."""
    wanted = [tritonclient.http.InferRequestedOutput("score", class_count=1)]
    result = _infer(client, model, bundle.golden[0].take(slice(0, 1)), outputs=wanted)
    return str(result.as_numpy("score").ravel()[0].decode())


def _infer(client: Any, model: str, rows: FeatureBatch, **options: Any) -> Any:
    return client.infer(model, _inputs(rows), **options)


def _inputs(rows: FeatureBatch) -> list[Any]:
    inputs = []
    for name, values in rows.inputs().items():
        kind = "FP32" if name == "dense" else "INT32"
        tensor = tritonclient.http.InferInput(name, list(values.shape), kind)
        inputs.append(tensor.set_data_from_numpy(np.ascontiguousarray(values)))
    return inputs


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
