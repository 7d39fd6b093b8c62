"""What batching costs, and what it brings over calling the engine for every request.

    python -m tests.bench.bench_batcher [--seconds 2] [--bundle DIRECTORY]

Three tables: the pure queue per job; then, for each bundle, requests of 10 and
of 100 rows in a closed loop of 64 callers through the batcher (execution
inline), against a direct ONNX Runtime call per request and against direct
calls of full batches, which is the most that this engine can do.
"""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import uvloop

import ranking_models
from ranking_models.bundle import Bundle, list_bundles
from ranking_models.schema import FeatureBatch
from service.batching.batcher import Batcher
from service.batching.lanes import ScoreJob
from service.batching.queue import BatchQueue
from service.clock import SystemClock
from service.engines import Engine
from service.engines.chain import EngineChain
from service.engines.loading import load_chain
from service.settings import BatchPolicy, EngineSettings
from tests.support.bundles import write_tiny_bundle

CALLERS = 64
POLICY = BatchPolicy()
JOBS = 100_000
DEMO = Path(ranking_models.__file__).parent / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each run")
    parser.add_argument("--bundle", type=Path, help="a bundle to measure besides tiny and demo")
    options = parser.parse_args()
    print(machine())
    bench_queue()
    with tempfile.TemporaryDirectory() as directory:
        bundles = [write_tiny_bundle(Path(directory))]
        bundles += [ref.path for ref in list_bundles(DEMO)] if DEMO.is_dir() else []
        bundles += [options.bundle] if options.bundle else []
        for path in bundles:
            bench_bundle(Bundle.open(path), options.seconds)


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in _lines("/proc/cpuinfo")
            if "model name" in line
        ),
        platform.processor(),
    )
    versions = (f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "uvloop"))
    return (
        f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f} before the start\n"
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def bench_queue() -> None:
    """Offer jobs as an event loop would, a few at a time, and take what is due."""
    print(f"\nqueue alone, {JOBS:,} jobs\n  rows a job  jobs a batch  us of CPU a job")
    for rows in (10, 100):
        a_batch = POLICY.max_batch_rows // rows
        queue, now = BatchQueue(POLICY), 0.0
        started = time.process_time()
        for _ in range(JOBS // a_batch):
            for _ in range(a_batch):
                queue.offer(ScoreJob(rows=rows, arrived_at=now, deadline=now + 0.05))
            batch = queue.take(now).batch
            assert batch is not None
            now += 0.001
            queue.finished(batch, now)
            queue.wake_at()
        took = time.process_time() - started
        print(f"  {rows:10}  {a_batch:12}  {1e6 * took / JOBS:15.2f}")


def bench_bundle(bundle: Bundle, seconds: float) -> None:
    chain = load_chain(bundle, "fp32", ["onnxruntime-cpu"], EngineSettings(), SystemClock())
    (engine,) = chain.engines
    print(f"\n{bundle.manifest.name}@{bundle.manifest.version}, one engine thread")
    print("  rows a request  how                    requests/s  us of CPU a request")
    for rows in (10, 100):
        request = _repeated(bundle.golden[0], rows)
        runs: dict[str, Callable[[], int]] = {
            "through the batcher": partial(through_the_batcher, chain, request, seconds),
            "a call for each": partial(direct, engine, request, seconds),
            "calls of full batches": partial(in_full_batches, engine, request, seconds),
        }
        for name, run in runs.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            requests = run()
            took, cpu = time.perf_counter() - started, time.process_time() - cpu_started
            print(f"  {rows:14}  {name:21}  {requests / took:10,.0f}  {1e6 * cpu / requests:19.1f}")


def through_the_batcher(chain: EngineChain, request: FeatureBatch, seconds: float) -> int:
    return uvloop.run(closed_loop(chain, request, seconds))


async def closed_loop(chain: EngineChain, request: FeatureBatch, seconds: float) -> int:
    """How many requests a closed loop of callers gets done in the time."""
    clock = SystemClock()
    batcher = Batcher([chain], POLICY, clock)
    ends_at = clock.now() + seconds

    async def caller() -> int:
        done = 0
        while clock.now() < ends_at:
            await batcher.score(request, deadline=clock.now() + 1)
            done += 1
        return done

    done = sum(await asyncio.gather(*[caller() for _ in range(CALLERS)]))
    await batcher.stop()
    return done


def direct(engine: Engine, batch: FeatureBatch, seconds: float) -> int:
    """How many calls of the engine are done in the time."""
    calls, ends_at = 0, time.perf_counter() + seconds
    while time.perf_counter() < ends_at:
        engine.score(batch)
        calls += 1
    return calls


def in_full_batches(engine: Engine, request: FeatureBatch, seconds: float) -> int:
    full = _repeated(request, POLICY.max_batch_rows)
    return direct(engine, full, seconds) * full.rows // request.rows


def _repeated(rows: FeatureBatch, count: int) -> FeatureBatch:
    return rows.take(np.arange(count) % rows.rows)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
