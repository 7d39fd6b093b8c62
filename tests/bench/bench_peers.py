"""Podium beside what a user would pick instead, on the same work and machine.

    python -m tests.bench peers [--quick] [--peers mosec fastapi] [--json FILE]

Every server runs two workers on the same ONNX graph, one ONNX Runtime thread
each, and is given the same requests (`tests.bench.workload`); its replies are
compared with direct ONNX Runtime before anything is timed. Runs are
interleaved, figures are medians over the rounds. The load generator shares the
cores. Podium is started by ``podium serve``, with the cache off.

Peers are installed from their locks into environments of their own, under this
environment's folder ``bench``; one that cannot be is left out, and why is said.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from tests.bench.collector import collecting
from tests.bench.measuring import Run, check, measure
from tests.bench.peers.environments import NotHere, environment
from tests.bench.servers import PEERS, WORKERS, Server, last_words, running_peer, running_podium
from tests.bench.workload import NAME, Work, benchmark_bundle, work

BEST = "mosec"
"""The fastest peer found: what Podium is compared with."""
CONNECTIONS = (1, 8, 32, 64)
OPEN_CONNECTIONS = 512
OPEN_SHARE = 0.8
"""Of the fastest peer's maximum: the rate of the open loop."""
LONE_PER_S = 50.0
OVERLOAD = 2.0
OVERLOAD_TIMEOUT_MS = 100
DISTURBED_CORES = 0.2
"""More than this used by others, and figures of different minutes do not compare."""

SETTINGS = """\
allow_degraded = false
[server]
port = {{port}}
workers = {workers}
[models]
directory = "{models}"
[engine]
split = "{split}"
[deployments.ranker]
model = "{model}"
cache = "off"
"""
EXPERIMENT = """\
[deployments.other]
model = "{model}"
cache = "off"
[surfaces]
default = "ranker"
[experiments]
file = "{file}"
[telemetry]
sample_ratio = 0.1
"""
HALF_AND_HALF = """\
[[experiment]]
key = "benchmark"
unit = "user"
[[experiment.variant]]
name = "ranker"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "other"
share_bp = 5000
deployment = "other"
"""


class Plan(Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each run."""
    connections: Sequence[int]

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 20 or not 0.5 <= self.seconds <= 30:
            raise ValueError("1 to 20 rounds of 0.5 to 30 seconds")


FULL = Plan(rounds=3, seconds=3.0, connections=CONNECTIONS)
QUICK = Plan(rounds=2, seconds=1.0, connections=(1, 64))


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="mosec only, under 3 minutes")
    arguments.add_argument("--peers", nargs="*", choices=[kind.name for kind in PEERS])
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--seconds", type=float, help="length of each run")
    arguments.add_argument("--json", type=Path, help="where every run's figures go")
    options = arguments.parse_args()
    plan = QUICK if options.quick else FULL
    given = {n: v for n in ("rounds", "seconds") if (v := getattr(options, n)) is not None}
    plan = msgspec.structs.replace(plan, **given)
    peers = options.peers
    if peers is None:
        peers = [BEST] if options.quick else [kind.name for kind in PEERS]
    home = Path(sys.prefix) / "bench"
    print(heading(plan), flush=True)
    bundle = benchmark_bundle(home / "bundles")
    works = [work(bundle, candidates=candidates) for candidates in (100, 10)]
    with servers(peers, bundle, home, works[0].bodies[0]) as running:
        bench = Bench(running, works, plan)
        bench.run()
    file = options.json or home / f"peers-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(bench.record())))
    print(f"\nevery run: {file}")


@contextlib.contextmanager
def servers(
    peers: Sequence[str], bundle: Bundle, home: Path, first_body: bytes
) -> Iterator[list[Server]]:
    """All of them at once: what is idle costs next to nothing, and runs can be interleaved."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-bench-")))
        collector = stack.enter_context(collecting())
        (scratch / "experiments.toml").write_text(HALF_AND_HALF)
        running: list[Server] = []

        def add(name: str, starting: contextlib.AbstractContextManager[Server]) -> None:
            server = stack.enter_context(starting)
            try:
                server.until_ready(first_body)
            except RuntimeError as error:
                print(f"not measured: {error}; it said: {last_words(name, scratch)}", flush=True)
                server.stop()
            else:
                running.append(server)

        for kind in PEERS:
            if kind.name in peers:
                try:
                    executables = environment(kind.name, home / "peers")
                except NotHere as reason:
                    print(f"not measured: {kind.name}: {reason}", flush=True)
                    continue
                add(kind.name, running_peer(kind, executables, bundle.path, scratch))
        for name, split, whole in (
            ("podium, whole graph", "off", False),
            ("podium, exact split", "on", False),
            ("podium, split, experiment, 10 % traced", "on", True),
        ):
            settings = SETTINGS.format(
                workers=WORKERS, models=bundle.path.parents[1], split=split, model=NAME
            )
            environ = {}
            if whole:
                settings += EXPERIMENT.format(model=NAME, file=scratch / "experiments.toml")
                environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
            add(name, running_podium(name, settings, scratch, environ))
        yield running


class Bench:
    """All phases, interleaved over the servers; prints each phase when it is done."""

    def __init__(self, running: list[Server], works: Sequence[Work], plan: Plan) -> None:
        self._running, self._works, self._plan = running, works, plan
        self._runs: list[Run] = []
        self._memory: dict[str, dict[int, float]] = {}

    def run(self) -> None:
        for server in list(self._running):
            self._check(server)
        if not self._running:
            raise SystemExit("no server gives right replies: nothing to measure")
        for given in self._works:
            self._closed(given)
        self._memory = {server.name: server.pss_mb() for server in self._running}
        self._print_memory()
        for given in self._works:
            self._open(given)
        self._lone(self._works[0])
        self._overload(self._works[0])
        self._print_noise()

    def record(self) -> dict[str, object]:
        """Everything, for a file."""
        return {
            "made": datetime.now(UTC).isoformat(),
            "machine": machine(),
            "plan": self._plan,
            "memory_mb_by_process": self._memory,
            "runs": self._runs,
        }

    def _check(self, server: Server) -> None:
        try:
            worst = max(check(server, given) for given in self._works)
        except RuntimeError as wrong:
            print(f"not measured: {wrong}", flush=True)
            self._running.remove(server)
        else:
            print(f"{server.name}: replies agree with ONNX Runtime within {worst:.1e}", flush=True)

    def _closed(self, given: Work) -> None:
        for number in range(self._plan.rounds):
            for connections in self._plan.connections:
                for server in self._turn(number):
                    self._measure(server, given, phase="closed", connections=connections)
        head = [*(f"{c} conn." for c in self._plan.connections), "best", f"x {BEST}", "CPU us"]
        rows = []
        for server in self._running:
            each = [self._median("per_s", server, given, "closed", c) for c in self._connections()]
            best = self._best(server.name, given)
            peer = self._best(BEST, given)
            cpu = self._median("cpu_us", server, given, "closed", self._connections()[-1])
            ratio = f"{best / peer:.2f}" if peer else "-"
            rows.append([server.name, *(f"{v:,.0f}" for v in each), f"{best:,.0f}", ratio])
            rows[-1].append(f"{cpu:,.0f}")
        table(f"{given.name}, closed loop, requests/s", head, rows)

    def _open(self, given: Work) -> None:
        peer = self._best(BEST, given)
        if not peer:
            print(f"\n{given.name}, open loop: not measured without {BEST}", flush=True)
            return
        rate = OPEN_SHARE * peer
        able = [server for server in self._running if self._best(server.name, given) > rate]
        for number in range(self._plan.rounds):
            for server in (s for s in self._turn(number) if s in able):
                self._measure(
                    *(server, given),
                    phase="open",
                    connections=OPEN_CONNECTIONS,
                    rate_per_s=rate,
                    seed=number,
                )
        rows = [
            [server.name, *self._latency(server, given, "open")]
            if server in able
            else [server.name, "over its maximum", "-", "-"]
            for server in self._running
        ]
        head = ["p50 ms", "p99 ms", "generator late, p99 ms"]
        table(f"{given.name}, open loop at {rate:,.0f} requests/s (80 % of {BEST})", head, rows)

    def _lone(self, given: Work) -> None:
        for number in range(self._plan.rounds):
            for server in self._turn(number):
                self._measure(
                    *(server, given),
                    phase="lone",
                    connections=4,
                    rate_per_s=LONE_PER_S,
                    seed=number,
                )
        rows = [[s.name, *self._latency(s, given, "lone")] for s in self._running]
        head = ["p50 ms", "p99 ms", "generator late, p99 ms"]
        table(f"{given.name}, a lone request ({LONE_PER_S:.0f} a second)", head, rows)

    def _overload(self, given: Work) -> None:
        hurried = given._replace(bodies=[_hurried(body) for body in given.bodies])
        for number in range(self._plan.rounds):
            for server in self._turn(number):
                self._measure(
                    *(server, hurried),
                    phase="overload",
                    connections=2 * OPEN_CONNECTIONS,
                    rate_per_s=OVERLOAD * self._best(server.name, given),
                    seed=number,
                    within_s=OVERLOAD_TIMEOUT_MS / 1000,
                )
        rows = []
        for server in self._running:
            good = self._median("in_time_per_s", server, given, "overload")
            runs = self._of(server.name, given, "overload")
            refused = [r.refused_p50_ms for r in runs if r.refused_p50_ms is not None]
            late = [r.refused_p99_ms for r in runs if r.refused_p99_ms is not None]
            rows.append([server.name, f"{good:,.0f}"])
            rows[-1].append(f"{100 * good / self._best(server.name, given):.0f} %")
            rows[-1] += [f"{statistics.median(v):.1f}" if v else "none" for v in (refused, late)]
        head = ["in time/s", "of its maximum", "refused p50 ms", "refused p99 ms"]
        title = f"{given.name}, open loop at twice each server's own maximum"
        table(f"{title}, {OVERLOAD_TIMEOUT_MS} ms to answer", head, rows)

    def _print_memory(self) -> None:
        rows = []
        for server in self._running:
            each = sorted(self._memory[server.name].values(), reverse=True)
            rows.append([server.name, f"{sum(each):,.0f}", f"{each[0]:,.0f}", str(len(each))])
        table("memory after the load, PSS MB", ["all processes", "largest", "processes"], rows)

    def _print_noise(self) -> None:
        """Figures from a busy machine are comparisons at best; say so."""
        others = sorted(run.other_cores for run in self._runs)
        middle, most = statistics.median(others), others[-1]
        print(f"\nother work used {middle:.2f} cores in the median run, at most {most:.2f}", end="")
        print(": the figures are disturbed" if middle > DISTURBED_CORES else "")

    def _measure(self, server: Server, given: Work, **how: object) -> None:
        self._runs.append(measure(server, given, seconds=self._plan.seconds, **how))  # type: ignore[arg-type]

    def _turn(self, number: int) -> list[Server]:
        """The servers, another one first every round."""
        first = number % len(self._running)
        return self._running[first:] + self._running[:first]

    def _connections(self) -> Sequence[int]:
        return self._plan.connections

    def _of(self, server: str, given: Work, phase: str, connections: int = 0) -> list[Run]:
        return [
            run
            for run in self._runs
            if (run.server, run.work, run.phase) == (server, given.name, phase)
            and connections in (0, run.connections)
        ]

    def _median(
        self, figure: str, server: Server, given: Work, phase: str, connections: int = 0
    ) -> float:
        runs = self._of(server.name, given, phase, connections)
        return statistics.median(getattr(run, figure) for run in runs)

    def _best(self, server: str, given: Work) -> float:
        """The largest median over the numbers of connections; 0 for one that does not run."""
        runs = {c: self._of(server, given, "closed", c) for c in self._connections()}
        medians = [statistics.median(r.per_s for r in found) for found in runs.values() if found]
        return max(medians, default=0.0)

    def _latency(self, server: Server, given: Work, phase: str) -> list[str]:
        figures = ("p50_ms", "p99_ms", "late_p99_ms")
        return [f"{self._median(figure, server, given, phase):.2f}" for figure in figures]


def _hurried(body: bytes) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(body), "timeout_ms": OVERLOAD_TIMEOUT_MS})


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table; the first column is the server."""
    print(f"\n{title}\n\n| server | {' | '.join(head)} |\n|---|{'--:|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def heading(plan: Plan) -> str:
    about = machine()
    return "\n".join(
        [
            f"{about['processor']}, {about['cpus']} CPUs, {about['system']}; "
            f"load {os.getloadavg()[0]:.2f} before the start",
            ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; medians of {plan.rounds} interleaved rounds "
            f"of {plan.seconds:g} s; {WORKERS} workers; `make bench`",
        ]
    )


def machine() -> dict[str, object]:
    names = ("onnxruntime", "numpy", "uvicorn", "uvloop", "msgspec")
    return {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "versions": {"Python": platform.python_version()} | {n: version(n) for n in names},
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return found[0] if found else platform.machine()


if __name__ == "__main__":
    main()
