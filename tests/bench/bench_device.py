"""The service side must never be the limit of a GPU: requests for a simulated device.

    python -m tests.bench device [--quick] [--workers 2] [--instances 2]

The device (`tests.bench.simulated_device`) works on one call at a time, 0.5 ms
and 1 us per row, at most 1,024 rows: 6,700 rank-100 requests a second. It costs
no CPU, so that two cores have only the service and the load generator to run.
``podium serve`` runs with the cache off and its engine ``tensorrt`` replaced by
the device.

Open loop at several rates, and at saturation: what was answered, as a share of
what the best schedule answers that knows all arrivals (full batches, rows of a
request split freely, never idle while rows wait).
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.bench_peers import Plan, heading, table
from tests.bench.measuring import Run, measure
from tests.bench.servers import WORKERS, last_words, running_podium
from tests.bench.simulated_device import (
    CALL_S,
    DEVICE_FILE,
    MOST_ROWS,
    ROW_S,
    Used,
    new_device,
    used,
)
from tests.bench.workload import NAME, benchmark_bundle, work

CANDIDATES = 100
CONNECTIONS = 512
RATES_PER_S = (1_000, 3_000, 5_000)
SATURATION_PER_S = 7_500
AIM_PER_S, AIM_P99_MS = 5_000, 35
SITE = Path(__file__).parent / "device_site"
SETTINGS = """\
allow_degraded = false
[server]
port = {{port}}
workers = {workers}
[models]
directory = "{models}"
[deployments.ranker]
model = "{model}"
engines = ["tensorrt"]
cache = "off"
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--workers", type=int, default=WORKERS)
    arguments.add_argument("--instances", type=int, help="batches at a time of each worker")
    options = arguments.parse_args()
    plan = Plan(
        rounds=1 if options.quick else 3,
        seconds=2.0 if options.quick else 4.0,
        connections=(CONNECTIONS,),
    )
    print(heading(plan), flush=True)
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as folder:
        measure_all(Path(folder), plan, options.workers, options.instances)


def measure_all(scratch: Path, plan: Plan, workers: int, instances: int | None) -> None:
    bundle = benchmark_bundle(Path(sys.prefix) / "bench" / "bundles")
    given = work(bundle, candidates=CANDIDATES)
    device = scratch / "device"
    new_device(device)
    settings = SETTINGS.format(workers=workers, models=bundle.path.parents[1], model=NAME)
    if instances is not None:
        settings += f"[batching]\ninstances = {instances}\n"
    root = Path(__file__).parents[2]
    environ = {DEVICE_FILE: str(device), "PYTHONPATH": f"{SITE}:{root}"}
    with running_podium("podium", settings, scratch, environ) as server:
        try:
            server.until_ready(given.bodies[0])
        except RuntimeError as error:
            raise SystemExit(f"{error}; it said: {last_words('podium', scratch)}") from None
        rows = []
        for rate in (*RATES_PER_S, SATURATION_PER_S):
            found = []
            for number in range(plan.rounds):
                before = used(device)
                run = measure(
                    server,
                    given,
                    phase="device",
                    seconds=plan.seconds,
                    connections=CONNECTIONS,
                    rate_per_s=rate,
                    seed=number,
                )
                after = used(device)
                found.append(
                    (
                        run,
                        Used(*(b - a for a, b in zip(before, after, strict=True))),
                        run.per_s / best_per_s(rate, plan.seconds, seed=number),
                    )
                )
            rows.append(line(rate, plan.seconds, found))
    table(
        f"rank-{CANDIDATES}, open loop, simulated device, {workers} workers "
        f"(aim: {AIM_PER_S:,} requests/s with p99 <= {AIM_P99_MS} ms)",
        [
            "answered/s",
            "p50 ms",
            "p99 ms",
            "refused",
            "rows a call",
            "device busy",
            "of the best schedule",
            "CPU us",
            "other cores",
        ],
        rows,
    )


def line(rate: float, seconds: float, found: list[tuple[Run, Used, float]]) -> list[str]:
    """One rate: medians over the rounds."""
    runs = [run for run, _, _ in found]
    median = statistics.median
    refused = [sum(n for status, n in r.statuses.items() if status != 200) for r in runs]
    return [
        f"{rate:,} requests/s",
        f"{median(r.per_s for r in runs):,.0f}",
        f"{median(r.p50_ms for r in runs):.1f}",
        f"{median(r.p99_ms for r in runs):.1f}",
        f"{median(refused):,.0f}",
        f"{median(u.rows / max(1, u.calls) for _, u, _ in found):,.0f}",
        f"{median(100 * u.busy_s / seconds for _, u, _ in found):.0f} %",
        f"{median(100 * share for _, _, share in found):.1f} %",
        f"{median(r.cpu_us for r in runs):.0f}",
        f"{median(r.other_cores for r in runs):.2f}",
    ]


def best_per_s(rate_per_s: float, seconds: float, *, seed: int) -> float:
    """Requests a second that the best schedule completes within the arrivals' time.

    Whenever the device is free it takes all rows that wait, up to the most of a
    call; with fewer than fill a call it waits for no company. At saturation every
    call is full, and no schedule completes more rows by any time.
    """
    count = int(rate_per_s * seconds)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, count))
    now = done = 0.0
    ends_at = float(arrivals[-1])
    while True:
        waiting = CANDIDATES * np.searchsorted(arrivals, now, side="right") - done
        if waiting <= 0:
            at = int(done // CANDIDATES)
            if at >= count:
                break
            now = float(arrivals[at])
            continue
        rows = min(MOST_ROWS, waiting)
        now += CALL_S + rows * ROW_S
        if now > ends_at:
            break
        done += rows
    return done / CANDIDATES / ends_at


if __name__ == "__main__":
    main()
