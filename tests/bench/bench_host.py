"""What a call costs in the engine process that all workers share (`engine.process = "shared"`).

    python -m tests.bench host [--bundles DIRECTORY]

The benchmark's model (see ``tests/bench/workload.py``). A call of an engine that
computes nothing shows its way there and back, its rows gathered included; what
stands below it is the same call of ONNX Runtime, in this process and in the
other one, one after the other. Wall time in microseconds: median (10th percentile).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from service.clock import SystemClock
from service.engines import Engine
from service.engines.host.client import EngineClient
from service.engines.host.keeper import MODULE, Begin, engine_process
from service.engines.loading import ONNX_RUNTIME_CPU, EngineLoader
from service.engines.rows import CandidateEngine, CandidateRows, as_features, concatenated
from service.features import BundleFeatures
from service.messages import RankRequest
from service.settings import BatchPolicy, EngineSettings
from tests.bench import idle_engine
from tests.bench.workload import benchmark_bundle, work

BUNDLES = Path(sys.prefix) / "bench" / "bundles"
SIZES = (100, 400, 1024)
TURNS = 200
SETTINGS = EngineSettings(split="off", calibrate=False)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bundles", type=Path, default=BUNDLES, help="where the model is kept")
    bundle = benchmark_bundle(arguments.parse_args().bundles)
    requests = requests_of(bundle)
    loader = EngineLoader(SETTINGS, BUNDLES, SystemClock())
    own = loader.load(ONNX_RUNTIME_CPU, bundle, "fp32", 1).engines[0]
    with shared(bundle, idle_engine.MODULE) as idle, shared(bundle, MODULE) as there:
        for size in SIZES:
            given = [rows_of(requests, size, n) for n in range(TURNS)]
            ways = {
                "rows gathered here": as_features,
                "an engine that computes nothing": partial(scored, idle),
            }
            show(size, ways, given)
            ways = {
                "ONNX Runtime in this process": partial(scored, own),
                "ONNX Runtime in the engine process": partial(scored, there),
            }
            show(size, ways, given)


@contextmanager
def shared(bundle: Bundle, module: str) -> Iterator[Engine]:
    """An engine of an engine process."""
    begin = Begin(
        engine=SETTINGS,
        batching=BatchPolicy(),
        plans=str(BUNDLES),
        log_level="error",
        longest_end_s=1.0,
    )
    with (
        engine_process(begin, module) as way,
        closing(EngineClient(way, max_execution_s=SETTINGS.max_execution_s)) as client,
    ):
        loader = EngineLoader(SETTINGS, BUNDLES, SystemClock(), shared=client)
        yield loader.load_shared(ONNX_RUNTIME_CPU, bundle, "fp32", 1).engines[0]


def requests_of(bundle: Bundle) -> list[CandidateRows]:
    features = BundleFeatures(bundle)
    bodies = work(bundle, candidates=100, count=40).bodies
    asked = [msgspec.json.decode(body, type=RankRequest) for body in bodies]
    return [features.rows(features.encode(request)) for request in asked]


def rows_of(requests: list[CandidateRows], size: int, turn: int) -> CandidateRows:
    """As many rows of other requests every turn."""
    parts = [requests[(turn + n) % len(requests)] for n in range(-(-size // 100))]
    rows = concatenated(parts)
    assert isinstance(rows, CandidateRows)
    return rows.take(slice(0, size))


def scored(engine: Engine, rows: CandidateRows) -> object:
    if isinstance(engine, CandidateEngine):
        return engine.score_candidates(rows)
    return engine.score(as_features(rows))


def show(
    size: int,
    ways: Mapping[str, Callable[[CandidateRows], object]],
    given: list[CandidateRows],
) -> None:
    """Print what each takes; they take turns with every input."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for rows in given:
        for name, call in ways.items():
            started = time.perf_counter()
            call(rows)
            took[name].append(1e6 * (time.perf_counter() - started))
    for name, times in took.items():
        median, low = np.median(times), np.percentile(times, 10)
        print(f"{f'{size} rows: {name}':52}{median:9.1f} ({low:.1f})")
