"""What one ranking request costs, over HTTP, as the README's table.

``python -m tests.bench rank`` starts ``podium serve`` with the demonstration's model and an
embedded Valkey, sends ranking requests with 100 candidates each over
keep-alive connections, and prints a Markdown table. Load generator, service
and Valkey share the machine. With the cache ``off`` an engine scores all 100
candidates of every request; with ``exact`` the requests repeat, so that after
the warm-up every slate comes from the cache.
"""

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from ranking_models.bundle import Bundle, find_bundle
from service.deployments import bundle_directory
from service.loadgen.load import LoadReport, closed_loop, rank_bodies
from service.loadgen.process import serving
from service.settings import demo_settings_file, load_settings

CANDIDATES = 100
BODIES = 500
CALLERS = (1, 16)
WARM_UP_REQUESTS = 2 * BODIES
START_S = 60.0
LONGEST_S = 120.0
"""Of one row of the table; a machine that needs it is too slow to measure on."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    cache: str
    callers: int
    report: LoadReport


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--requests", type=int, default=5_000, help="per row of the table")
    requests = arguments.parse_args().requests
    print(heading(requests))
    for row in measure(requests):
        print(line(row), flush=True)


def measure(requests: int) -> Iterator[Row]:
    """Serve with each cache mode and load it with each number of callers."""
    bodies = rank_bodies(demo_bundle(), count=BODIES, candidates=CANDIDATES, seed=1)
    for cache in ("off", "exact"):
        with tempfile.TemporaryDirectory(prefix="podium-bench-") as scratch:
            config = write_settings(Path(scratch), cache)
            options = ["--config", str(config), "--port", "0", "--state-directory", scratch]
            with serving(options) as service:
                url = service.url(longest_s=START_S)
                load(url, bodies, callers=max(CALLERS), requests=WARM_UP_REQUESTS)
                for callers in CALLERS:
                    report = load(url, bodies, callers=callers, requests=requests)
                    yield Row(cache=cache, callers=callers, report=report)


def load(url: str, bodies: list[bytes], *, callers: int, requests: int) -> LoadReport:
    """Run a closed loop; a figure from a run with failures would be worth nothing.

    Raises:
        RuntimeError: a request failed, or the time was not enough.
    """
    report = asyncio.run(
        closed_loop(url, bodies, callers=callers, requests=requests, longest_s=LONGEST_S)
    )
    if report.statuses != {200: requests}:
        raise RuntimeError(f"not measured: {report.statuses} {report.failures}")
    return report


def demo_bundle() -> Bundle:
    directory = bundle_directory(load_settings(demo_settings_file(), environ={}))
    return Bundle.open(find_bundle(directory, "marketplace"))


def write_settings(directory: Path, cache: str) -> Path:
    """The demonstration's ranker alone: its experiment would send half to popularity."""
    file = directory / "podium.toml"
    file.write_text(f'[deployments.ranker]\nmodel = "marketplace"\ncache = "{cache}"\n')
    return file


def heading(requests: int) -> str:
    """Where, with what and when; and the head of the table."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "numpy", "litestar"))
    return "\n".join(
        [
            f"{CANDIDATES} candidates per request, {requests:,} requests per row, closed loop, "
            "one service process.",
            f"{processor()}, {os.cpu_count()} CPUs, {platform.system()}; "
            f"Python {platform.python_version()}, {versions}; "
            f"{datetime.now(UTC):%Y-%m-%d}; `python -m tests.bench rank`",
            "",
            "| cache | callers | requests/s | p50 ms | p99 ms |",
            "|---|--:|--:|--:|--:|",
        ]
    )


def line(row: Row) -> str:
    p50, p99 = (1000 * row.report.latency_s(quantile) for quantile in (0.5, 0.99))
    return (
        f"| {row.cache} | {row.callers} | {row.report.answered_per_s:,.0f} "
        f"| {p50:.2f} | {p99:.2f} |"
    )


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
