"""OpenVINO beside ONNX Runtime: precisions, and what steady shapes bring.

    python -m tests.bench openvino [--bundles DIRECTORY]

The benchmark's model (see ``tests/bench/workload.py``) on one thread, in
microseconds of CPU per row: median and 10th percentile. ``mixed`` is another
number of rows at every call. All of them take turns, so that noise hits them
alike; the last column is the largest difference to ONNX Runtime's scores.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.openvino import Computes, OpenVinoGraph, why_absent
from ranking_models.schema import FeatureBatch, Float32
from tests.bench.workload import benchmark_bundle

BUNDLES = Path(sys.prefix) / "bench" / "bundles"
WORK = {
    "10": (10,),
    "100": (100,),
    "400": (400,),
    "1000": (1000,),
    "mixed 20 to 400": tuple(range(20, 401, 20)),
}
TURNS = 120
Scorer = Callable[[FeatureBatch], Float32]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bundles", type=Path, default=BUNDLES, help="where the model is kept")
    if reason := why_absent("f32"):
        print(f"not on this machine: {reason}")
        return
    bundle = benchmark_bundle(arguments.parse_args().bundles)
    rivals = rivals_of(bundle)
    print(f"us of CPU per row, median (10th percentile) of {TURNS} calls, one thread")
    for name, sizes in WORK.items():
        compare(name, sizes, rivals, bundle.golden[0])


def rivals_of(bundle: Bundle) -> dict[str, Scorer]:
    file = bundle.graph("fp32")
    rivals: dict[str, Scorer] = {"ONNX Runtime fp32": onnx_runtime_scorer(file)}
    precisions: tuple[Computes, ...] = ("f32", "bf16")
    for computes in precisions:
        if reason := why_absent(computes):
            print(f"without OpenVINO {computes}: {reason}")
            continue
        rivals[f"OpenVINO {computes}, any shape"] = any_shape(file, computes)
        rivals[f"OpenVINO {computes}, buckets"] = OpenVinoGraph(file, computes=computes)
    return rivals


def any_shape(file: Path, computes: Computes) -> Scorer:
    """What the engine was chosen over: one graph that takes every number of rows, unpadded."""
    core: Any = importlib.import_module("openvino").Core()
    options = {
        "INFERENCE_PRECISION_HINT": computes,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(core.read_model(file), "CPU", options)
    request, names = compiled.create_infer_request(), [port.any_name for port in compiled.inputs]

    def score(batch: FeatureBatch) -> Float32:
        given = batch.inputs()
        feed = {name: given[name] for name in names}
        scores: Float32 = request.infer(feed, share_inputs=True, share_outputs=True)[0].copy()
        return scores

    return score


def compare(
    what: str, sizes: tuple[int, ...], rivals: dict[str, Scorer], golden: FeatureBatch
) -> None:
    random = np.random.default_rng(0)
    took: dict[str, list[float]] = {name: [] for name in rivals}
    off = dict.fromkeys(rivals, 0.0)
    for _ in range(TURNS):
        rows = int(random.choice(sizes))
        batch = golden.take(random.integers(golden.rows, size=rows))
        scores = {}
        for name, score in rivals.items():
            started = time.process_time()
            scores[name] = score(batch)
            took[name].append((time.process_time() - started) / rows * 1e6)
        for name in rivals:
            difference = np.abs(scores[name] - scores["ONNX Runtime fp32"]).max()
            off[name] = max(off[name], float(difference))
    print(f"\n{what} rows")
    for name, each in took.items():
        median, low = np.quantile(each, [0.5, 0.1])
        print(f"  {name:28} {median:7.2f} ({low:.2f})   {off[name]:.0e}")


if __name__ == "__main__":
    main()
