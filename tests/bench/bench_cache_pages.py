"""Item pages of a catalogue of a million items: warmed, replayed, and what that is worth.

``python -m tests.bench cache-pages`` writes a bundle with 1,000,000 items and
100 candidates beside each (`tests/support/big_catalogue.py`), serves it with one worker and
an embedded Valkey, and measures in one run:

* warming: ``podium cache warm --top 100000`` on the idle service;
* a replay: item pages by Zipf's law, exponent 1.07, over all million items, as the cache
  stands after warming. Nothing expires; a stale answer counts as a hit;
* cold and warm in turns: pages that hardly anybody has asked for, each computed and then
  kept; and pages of the warmed ones alone, by the same law.

Load generator, service and Valkey share the machine.
"""

import argparse
import asyncio
import contextlib
import io
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from service.cli import run as podium
from service.loadgen.connection import Connection, Target
from service.loadgen.process import serving
from service.warming.values import CacheView
from tests.bench.bench_rank import processor
from tests.support.big_catalogue import write_big_bundle

ITEMS, WARMED, EXPONENT = 1_000_000, 100_000, 1.07
START_S = 120.0
MAX_MEMORY_MB = 100
TURNS = 4
"""Of cold and warm load."""
SETTINGS = f"""
[server]
workers = 1
[models]
directory = "bundles"
[deployments.ranker]
model = "big"
[cache]
ttl_s = 86400
max_memory_mb = {MAX_MEMORY_MB}
"""


class _CacheOf(Struct):
    result: str
    level: str | None = None


class _Reply(Struct):
    """What matters of a page."""

    cache: _CacheOf


class Measured(Struct, frozen=True, kw_only=True):
    """One kind of load."""

    name: str
    results: dict[str, int]
    in_process: int
    """Found in the worker itself."""
    latencies_s: npt.NDArray[np.float64]
    elapsed_s: float
    cpu_s: float
    """Of the service; it says more than the throughput where others use the machine too."""

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """Per request."""
        return 1e6 * self.cpu_s / len(self.latencies_s)

    def share(self, *results: str) -> float:
        return sum(self.results.get(name, 0) for name in results) / len(self.latencies_s)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--requests", type=int, default=40_000, help="of the replay")
    arguments.add_argument("--items", type=int, default=ITEMS)
    arguments.add_argument("--warmed", type=int, default=WARMED)
    arguments.add_argument("--callers", type=int, default=8)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as scratch:
        home = Path(scratch)
        bundle = Bundle.open(write_big_bundle(home / "bundles", items=given.items))
        (home / "podium.toml").write_text(SETTINGS)
        options = [
            "--config",
            str(home / "podium.toml"),
            "--port",
            "0",
            "--state-directory",
            scratch,
        ]
        began = time.monotonic()
        with serving(options) as service:
            url = service.url(longest_s=START_S)
            print(heading(given.items, time.monotonic() - began))
            measure(url, service.pid, bundle, given.requests, given.warmed, given.callers)


def measure(url: str, pid: int, bundle: Bundle, requests: int, warmed: int, callers: int) -> None:
    """Print what cold, warming, replay and warm load met."""
    ids = bundle.item_ids[bundle.popularity]
    random = np.random.default_rng(1)
    cold_ids = ids[-max(1000, requests // 8) :]
    load(url, "warm-up", cold_ids[:500], callers, pid)  # code paths, statistics
    warming = warm(url, warmed)
    replay_places = zipf(len(ids), requests, random)
    replay = load(url, "replay", ids[replay_places], callers, pid)
    warm_ids = ids[zipf(warmed, requests, random)]
    # In turns, as a machine that others use too is not as fast in one minute as in the next.
    turns = [
        (load(url, "cold", few, callers, pid), load(url, "warm", many, callers, pid))
        for few, many in zip(
            np.array_split(cold_ids[500:], TURNS), np.array_split(warm_ids, TURNS), strict=True
        )
    ]
    cold, warm_load = (together(kind) for kind in zip(*turns, strict=True))
    print("| load | requests/s | p50 ms | p99 ms | CPU us | hits | of them stale | in process |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for one in (cold, replay, warm_load):
        print(line(one), flush=True)
    print(f"\n{warming}")
    top = ids[:warmed]
    ideal = float(np.isin(ids[replay_places], top).mean())
    print(
        f"replay: {100 * replay.share('hit', 'stale'):.1f} % from the cache (the {warmed:,} most "
        f"popular pages are {100 * ideal:.1f} % of it); warm is {warm_load.per_s / cold.per_s:.1f} "
        f"times cold by throughput, {cold.cpu_us / warm_load.cpu_us:.1f} by CPU"
    )
    view = msgspec.json.decode(httpx.get(f"{url}/v1/cache?count=true").content, type=CacheView)
    assert view.server is not None
    assert view.keys is not None
    used = view.server.used_memory_bytes
    print(
        f"cache server: {view.keys.slates:,} slates, {used / 1e6:.1f} MB, "
        f"{used / max(1, view.keys.slates):.0f} B per slate all in all, "
        f"{view.server.evicted:,} evicted"
    )


def together(parts: Sequence[Measured]) -> Measured:
    """Loads of one kind as one."""
    results: Counter[str] = Counter()
    for part in parts:
        results.update(part.results)
    return Measured(
        name=parts[0].name,
        results=dict(results),
        in_process=sum(part.in_process for part in parts),
        latencies_s=np.concatenate([part.latencies_s for part in parts]),
        elapsed_s=sum(part.elapsed_s for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
    )


def zipf(items: int, draws: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Places from 0 on, drawn with probability proportional to 1 / (place + 1) ** EXPONENT."""
    cumulated = np.cumsum(np.arange(1, items + 1, dtype=np.float64) ** -EXPONENT)
    return np.searchsorted(cumulated, random.random(draws) * cumulated[-1])


def warm(url: str, top: int) -> str:
    """``podium cache warm`` in its own words.

    Raises:
        RuntimeError: it failed.
    """
    said = io.StringIO()
    command = ["cache", "warm", "--top", str(top), "--rate", "1000000", "--url", url]
    with contextlib.redirect_stdout(said):
        code = podium(command)
    if code:
        raise RuntimeError(f"not warmed: {said.getvalue()}")
    return f"`podium cache warm`: {said.getvalue().strip()}"


def load(url: str, name: str, items: Sequence[str], callers: int, pid: int) -> Measured:
    """Ask for pages, each caller one after the other."""
    before_s = cpu_s(pid)
    met = asyncio.run(_load(Target.of(url), name, items, callers))
    return msgspec.structs.replace(met, cpu_s=cpu_s(pid) - before_s)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _load(target: Target, name: str, items: Sequence[str], callers: int) -> Measured:
    requests = (_page(target, item) for item in items)
    decode = msgspec.json.Decoder(_Reply).decode
    results: Counter[str] = Counter()
    levels: Counter[str | None] = Counter()
    latencies: list[float] = []

    async def call() -> None:
        connection = Connection(target)
        for request in requests:
            began = time.perf_counter()
            answer = await connection.send(request, timeout_s=10.0)
            latencies.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"not measured: {answer.status} {answer.body!r}")
            cache = decode(answer.body).cache
            results[cache.result] += 1
            levels[cache.level] += 1
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return Measured(
        name=name,
        results=dict(results),
        in_process=levels["process"],
        latencies_s=np.array(latencies),
        elapsed_s=time.perf_counter() - began,
        cpu_s=0.0,
    )


def _page(target: Target, item: str) -> bytes:
    return (
        f"GET /v1/items/{item}/recommendations?timeout_ms=1000 HTTP/1.1\r\n"
        f"host: {target.host}:{target.port}\r\n\r\n"
    ).encode()


def heading(items: int, start_s: float) -> str:
    return (
        f"{items:,} items, 100 candidates beside each, Zipf {EXPONENT}; up in {start_s:.1f} s; "
        f"{processor()}, {os.cpu_count()} CPUs; Python {platform.python_version()}; "
        f"{datetime.now(UTC):%Y-%m-%d}; `python -m tests.bench cache-pages`\n"
    )


def line(one: Measured) -> str:
    p50, p99 = 1000 * np.quantile(one.latencies_s, (0.5, 0.99))
    return (
        f"| {one.name} | {one.per_s:,.0f} | {p50:.2f} | {p99:.2f} | {one.cpu_us:,.0f} "
        f"| {100 * one.share('hit', 'stale'):.1f} % | {100 * one.share('stale'):.1f} % "
        f"| {100 * one.in_process / len(one.latencies_s):.1f} % |"
    )


if __name__ == "__main__":
    main()
