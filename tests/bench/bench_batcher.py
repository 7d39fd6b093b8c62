"""What batching costs, and what it brings over calling the engine for every request.

    python -m tests.bench batcher [--seconds 2] [--bundle DIRECTORY]

Four tables: the pure queue per job; the turn of a batch whose engine costs nothing, best and
median of many; then, for each bundle, requests of 10 and
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
from ranking_models.schema import Encoder, FeatureBatch, Float32
from service.batching.batcher import Batcher
from service.batching.jobs import ScoreJob
from service.batching.queue import BatchQueue
from service.clock import SystemClock
from service.engines import Engine, EngineInfo
from service.engines.chain import EngineChain
from service.engines.loading import EngineLoader
from service.engines.rows import CandidateRows, CandidateTables
from service.settings import BatchPolicy, EngineSettings
from service.telemetry import BatchRecord
from tests.support.bundles import write_tiny_bundle

CALLERS = 64
BATCH_ROWS = 400
POLICY = BatchPolicy(max_batch_rows=BATCH_ROWS, preferred_batch_rows=BATCH_ROWS)
JOBS = 100_000
DEMO = Path(ranking_models.__file__).parent / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each run")
    parser.add_argument("--bundle", type=Path, help="a bundle to measure besides tiny and demo")
    options = parser.parse_args()
    print(machine())
    bench_queue()
    uvloop.run(bench_turns())
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
        a_batch = BATCH_ROWS // rows
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


class FreeEngine:
    """Scores that were there before anybody asked."""

    info = EngineInfo(
        name="free", precision="fp32", model="bench", version="00000000", max_batch_rows=BATCH_ROWS
    )

    def __init__(self) -> None:
        self._scores = np.random.default_rng(0).random(BATCH_ROWS, dtype=np.float32)

    def score(self, batch: FeatureBatch) -> Float32:
        return self._scores[: batch.rows].copy()

    def score_candidates(self, rows: CandidateRows) -> Float32:
        return self._scores[: rows.rows].copy()

    def close(self) -> None:
        pass


async def bench_turns() -> None:
    """What a batch costs besides its engine: from `submit` to the last answer."""
    print("\nthe turn of a batch, without its engine: us, best / median")
    print("  jobs  rows a job           submit             turn     all, a job")
    with tempfile.TemporaryDirectory() as directory:
        tables = CandidateTables.of(Bundle.open(write_tiny_bundle(Path(directory))))
    for jobs, rows in ((1, 100), (4, 100), (40, 10)):
        batch = [candidates(tables, user, rows) for user in range(jobs)]
        submit, turn = await turns(batch, 20_000 // jobs)
        each = [(one + other) / jobs for one, other in zip(submit, turn, strict=True)]
        print(f"  {jobs:4}  {rows:10}  {_spread(submit)}  {_spread(turn)}  {_spread(each)}")


def candidates(tables: CandidateTables, user: int, rows: int) -> CandidateRows:
    """The rows of a request, of a user like no other."""
    users, contexts = (
        Encoder(tables.schema.of(source)).encode_rows([{}]) for source in ("user", "context")
    )
    users.ids[:] = user
    return CandidateRows(
        tables=tables,
        users=users,
        contexts=contexts,
        request_of_row=np.zeros(rows, np.int32),
        items=np.arange(rows, dtype=np.int32) % tables.items.rows,
    )


async def turns(batch: list[CandidateRows], times: int) -> tuple[list[float], list[float]]:
    """Seconds of submitting a batch and of its turn, so many times."""
    clock, loop = SystemClock(), asyncio.get_running_loop()
    records, answered = list[BatchRecord](), list[float]()

    def then(_: object) -> None:
        answered.append(time.perf_counter())
        if len(answered) == len(batch):
            done.set_result(None)

    batcher = Batcher([EngineChain([FreeEngine()], clock)], POLICY, clock, on_batch=records.append)
    submit, turn = list[float](), list[float]()
    for _ in range(times):
        done = loop.create_future()
        started = time.perf_counter()
        for rows in batch:
            batcher.submit(rows, deadline=clock.now() + 1, then=then)
        submitted = time.perf_counter()
        await done
        turn.append(answered[-1] - submitted)
        submit.append(submitted - started)
        answered.clear()
        records.clear()
    await batcher.stop()
    return submit, turn


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{1e6 * ordered[0]:6.1f} / {1e6 * ordered[len(ordered) // 2]:6.1f}"


def bench_bundle(bundle: Bundle, seconds: float) -> None:
    loader = EngineLoader(EngineSettings(calibrate=False), Path("no plans"), SystemClock())
    (engine,) = loader.load("onnxruntime-cpu", bundle, "fp32", 1).engines
    chain = EngineChain([engine], SystemClock())
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
    full = _repeated(request, BATCH_ROWS)
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
