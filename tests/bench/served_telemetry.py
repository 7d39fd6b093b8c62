"""Telemetry over HTTP: real services with tracing off, on, and with collectors that are not well.

One service process each, and all of them up at the same time. Load goes to one
after the other, in short turns, round after round; a service's CPU time of a
turn includes the sending of its spans. Compared are turns of the same round.
"""

import asyncio
import contextlib
import os
import re
import socket
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from service.loadgen.load import closed_loop, rank_bodies
from service.loadgen.process import serving
from tests.bench.bench_rank import demo_bundle
from tests.bench.collector import collecting

ROUNDS = 9
CALLERS = 4
"""They share batches, as those of a service under load do: a sampled request must not cost the
unsampled ones beside it what they save together."""
CANDIDATES = 20
START_S = 60.0
LONGEST_S = 60.0
SENT_AFTER_S = 1.3
"""By then the spans of a turn are on their way: they leave every second."""
SLOW_S, HUNG_S = 3.0, 3600.0
OFF, TENTH, ALL = "off", "10 %", "100 %"
DEAD, SLOW, HUNG = "100 %, dead collector", "100 %, slow collector", "100 %, hung collector"
KINDS = {"off": "cache off", "exact": "cache on, all missed"}


class Service(Struct, frozen=True):
    """A running service."""

    name: str
    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, in nanoseconds' resolution."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def dropped(self) -> int:
        """Spans that it lost, and says so."""
        with urllib.request.urlopen(f"{self.url}/metrics") as page:
            text = page.read().decode()
        lost = re.findall(r"^podium_telemetry_dropped_total\S* (\S+)$", text, re.MULTILINE)
        return int(sum(map(float, lost)))


class Turn(Struct, frozen=True):
    """What one turn of load met."""

    cpu_us: float
    """Of the service, per request."""
    p99_ms: float


def print_tables(requests: int) -> None:
    """Measure and print; takes about three minutes."""
    for cache, title in KINDS.items():
        with services(cache, (OFF, TENTH, ALL)) as running:
            turns = measured(running, requests)
        print(f"\n{'over HTTP, ' + title:<34}{'CPU us/request':>16}{'to off':>10}{'p99 ms':>10}")
        for name, of_one in turns.items():
            ratio = statistics.median(
                one.cpu_us / off.cpu_us for one, off in zip(of_one, turns[OFF], strict=True)
            )
            spent = statistics.median(one.cpu_us for one in of_one)
            p99 = statistics.median(one.p99_ms for one in of_one)
            print(f"{'tracing ' + name:<34}{spent:>16.1f}{ratio - 1:>+10.1%}{p99:>10.2f}")
    with services("off", (ALL, DEAD, SLOW, HUNG)) as running:
        turns = measured(running, requests)
        lost = {one.name: one.dropped() for one in running}
    print(f"\n{'over HTTP, cache off':<34}{'p99 ms':>16}{'to 100 %':>10}{'dropped':>10}")
    for name, of_one in turns.items():
        pairs = zip(of_one, turns[ALL], strict=True)
        more = statistics.median(one.p99_ms - well.p99_ms for one, well in pairs)
        p99 = statistics.median(one.p99_ms for one in of_one)
        print(f"{'tracing ' + name:<34}{p99:>16.2f}{more:>+10.2f}{lost[name]:>10}")
    print("no request failed")


def measured(running: list[Service], requests: int) -> dict[str, list[Turn]]:
    """The turns of each service, in order."""
    bodies = rank_bodies(
        demo_bundle(), count=(ROUNDS + 1) * requests, candidates=CANDIDATES, seed=7
    )
    for service in running:
        turn(service, bodies[:requests])
    turns: dict[str, list[Turn]] = {service.name: [] for service in running}
    for number in range(1, ROUNDS + 1):
        # Another one goes first each time.
        first = number % len(running)
        for service in running[first:] + running[:first]:
            mine = bodies[number * requests : (number + 1) * requests]
            turns[service.name].append(turn(service, mine))
    return turns


def turn(service: Service, bodies: list[bytes]) -> Turn:
    """One turn of load.

    Raises:
        RuntimeError: a request failed.
    """
    before = service.cpu_s()
    report = asyncio.run(
        closed_loop(service.url, bodies, callers=CALLERS, requests=len(bodies), longest_s=LONGEST_S)
    )
    if report.statuses != {200: len(bodies)}:
        raise RuntimeError(f"{service.name}: {report.statuses} {report.failures}")
    time.sleep(SENT_AFTER_S)
    spent_us = (service.cpu_s() - before) / len(bodies) * 1e6
    return Turn(spent_us, 1000 * report.latency_s(0.99))


@contextlib.contextmanager
def services(cache: str, names: tuple[str, ...]) -> Iterator[list[Service]]:
    """Services side by side, each with its own settings and collector."""
    with contextlib.ExitStack() as stack:
        running = []
        for name in names:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-bench-")))
            (home / "podium.toml").write_text(
                f'state_directory = "{home / "state"}"\n'
                "[server]\nport = 0\nworkers = 1\n"
                f"[telemetry]\nsample_ratio = {0.1 if name == TENTH else 1.0}\n"
                f'[deployments.ranker]\nmodel = "marketplace"\ncache = "{cache}"\n'
            )
            collector = stack.enter_context(_collector(name))
            with _variables(collector):
                process = stack.enter_context(serving(["--config", str(home / "podium.toml")]))
                url = process.url(longest_s=START_S)
            running.append(Service(name, url, process.pid))
        yield running


@contextlib.contextmanager
def _collector(name: str) -> Iterator[str | None]:
    """The address of a collector as the name says; None: there is to be none."""
    if name == OFF:
        yield None
    elif name == DEAD:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    else:
        with collecting({SLOW: SLOW_S, HUNG: HUNG_S}.get(name, 0.0)) as address:
            yield address


@contextlib.contextmanager
def _variables(collector: str | None) -> Iterator[None]:
    """The environment that a service starts with."""
    given = {} if collector is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            del os.environ[name]
