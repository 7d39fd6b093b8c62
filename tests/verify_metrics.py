"""``make verify``: metrics as a real Prometheus sees them, under what real callers do.

    python -m tests.verify_metrics

Prometheus and promtool are Debian's (``apt-get install prometheus``); without
them this says so and passes.

A service of two workers is scraped while it ranks. Exemplars must come back
out of Prometheus with the trace ids that were sent, figures of all workers
must be exactly the requests that were made, also after a worker was killed,
and 100,000 paths, surfaces and ids that nobody sent before must add no series.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import names
from tests.support.collector import Collector
from tests.support.server import EXPERIMENTS, SETTINGS, Server, serving

TWO_WORKERS = SETTINGS.replace("workers = 1", "workers = 2")
TRITON = f"{TWO_WORKERS}\n[telemetry]\ntriton_names = true\n"
LIMIT_S = 60.0
EXEMPLARS = 5
FLOOD = 100_000
CONNECTIONS, PIPELINED = 8, 50
SCRAPERS, SCRAPES = 20, 10
SCRAPING = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: podium
    static_configs: [{{targets: ["{target}"]}}]
"""


def main() -> int:
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        _say("a real Prometheus: not on this machine; `apt-get install prometheus` has it")
        return 0
    collector = Collector()
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with serving(settings=TWO_WORKERS, experiments=EXPERIMENTS, environ=environ) as server:
        with prometheus(server.base_url) as ask:
            _exemplars_come_back(server, ask)
            _figures_are_exact(server, ask)
        _promtool_has_no_complaint(server)
        _every_name_is_exported(server)
        _a_storm_of_scrapes_costs_no_ranking(server)
        _a_flood_adds_no_series(server)
        code, written = server.stop()
    collector.close()
    if code != 0:
        raise AssertionError(f"the service ended with {code}: {written[-2000:]}")
    _log_is_json(written)
    with serving(settings=TRITON) as server:
        _triton_names(server)
    return 0


# --- what is proven --------------------------------------------------------------------


def _exemplars_come_back(server: Server, ask: Callable[..., Any]) -> None:
    sent: set[str] = set()
    now = time.time()
    for metric in (names.M_REQUEST_SECONDS, names.M_HTTP_DURATION):
        for _ in range(EXEMPLARS):
            trace = secrets.token_hex(16)
            headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
            body = {"candidates": ["i1", "i2"], "user": {"id": trace}, "timeout_ms": 10_000}
            reply = httpx.post(
                f"{server.base_url}/v1/rank", json=body, headers=headers, timeout=LIMIT_S
            )
            _require(reply.status_code == 200, f"a ranking was answered with {reply.status_code}")
            sent.add(trace)
            # One after the other: a bucket keeps its newest.
            _until(lambda t=trace, m=metric: t in _traces(ask, m, now), f"exemplar {trace}")
        others = _traces(ask, metric, now) - sent
        _require(not others, f"{metric} has exemplars of traces that nobody sent: {others}")
    _say(f"Prometheus gives back the exemplars of {len(sent)} traces, each with its trace id")


def _traces(ask: Callable[..., Any], metric: str, since: float) -> set[str]:
    found = ask("query_exemplars", query=f"{metric}_bucket", start=since, end=time.time() + 5)
    return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}


def _figures_are_exact(server: Server, ask: Callable[..., Any]) -> None:
    before = int(_sum(server, "podium_requests_total"))
    _rank(server, 200)
    _require(_sum(server, "podium_requests_total") == before + 200, "requests were not all counted")
    seconds = _sum(server, "podium_request_seconds_count")
    _require(seconds == before + 200, f"{seconds} durations of {before + 200} requests")
    victim, *_ = _workers(server)
    os.kill(victim, signal.SIGKILL)
    _until(lambda: _sum(server, "podium_worker_restarts_total") == 1, "the end of a worker")
    _until(lambda: _sum(server, "podium_workers") == 2, "its successor")
    _require(_sum(server, "podium_requests_total") == before + 200, "a killed worker took counts")
    _rank(server, 100)
    total = before + 300
    _require(_sum(server, "podium_requests_total") == total, "the successor does not count")

    def in_prometheus() -> float:
        (found,) = ask("query", query="sum(podium_requests_total)")["result"]
        return float(found["value"][1])

    _until(lambda: in_prometheus() == total, f"{total} requests in Prometheus")
    _say(f"two workers, one of them killed: {total} requests made, {total} counted by Prometheus")


def _promtool_has_no_complaint(server: Server) -> None:
    page = _page(server)
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    said = found.stdout + found.stderr
    _require(found.returncode == 0 and not said.strip(), f"promtool check metrics: {said}")
    _say(f"promtool check metrics: nothing to say about {_series(page)} series")


def _every_name_is_exported(server: Server) -> None:
    # What is there with a GPU only is proven with a fake of its driver, in the tests.
    wanted = {v for n, v in vars(names).items() if n.startswith("M_") and "gpu" not in v}
    page = _page(server)
    shown = {family.name for family in text_string_to_metric_families(page)}
    missing = wanted - shown
    _require(not missing, f"names that no metric has: {sorted(missing)}")
    samples = [s for f in text_string_to_metric_families(page) for s in f.samples]
    of_gpus = {sample.name for sample in samples if "gpu" in sample.name}
    if not Path("/dev/nvidiactl").exists():
        _require(not of_gpus, f"figures of a GPU that is not there: {of_gpus}")
    _say(f"all {len(wanted)} names are on the page, and no series of a GPU where there is none")


def _a_storm_of_scrapes_costs_no_ranking(server: Server) -> None:
    def scrape(_: int) -> None:
        with httpx.Client(base_url=server.base_url, timeout=LIMIT_S) as client:
            for _ in range(SCRAPES):
                _require(client.get("/metrics").status_code == 200, "a scrape failed")

    before = _sum(server, "podium_requests_total")
    with ThreadPoolExecutor(SCRAPERS) as pool:
        scraped = [pool.submit(scrape, n) for n in range(SCRAPERS)]
        _rank(server, 100)
        for one in scraped:
            one.result()
    _require(_sum(server, "podium_requests_total") == before + 100, "a ranking was lost")
    _say(f"{SCRAPERS * SCRAPES} scrapes at once: 100 of 100 rankings were answered")


def _a_flood_adds_no_series(server: Server) -> None:
    _flood(server, "before", CONNECTIONS * PIPELINED)
    before = _series(_page(server))
    began = time.monotonic()
    _flood(server, "after", FLOOD)
    after = _series(_page(server))
    _require(after == before, f"{before} series before the flood, {after} after it")
    _say(
        f"{FLOOD:,} paths, surfaces and ids that are new, in {time.monotonic() - began:.0f} s: "
        f"{before} series before, {after} after"
    )


def _triton_names(server: Server) -> None:
    _rank(server, 40)
    page = _page(server)
    answered = _total(page, "nv_inference_request_success")
    _require(answered == 40, f"nv_inference_request_success is {answered} after 40 rankings")
    _require(_total(page, "nv_inference_exec_count") <= 40, "more executions than requests")
    cached = _total(page, "nv_cache_num_hits_per_model")
    _require(cached == _total(page, "podium_cache_total", result="hit"), "cache hits differ")
    rows = _total(page, "podium_rows_scored_total")
    _require(_total(page, "nv_inference_count") == rows, "rows differ")
    with prometheus(server.base_url) as ask:
        found = ask("query", query="sum(nv_inference_request_success)")["result"]
        _require(float(found[0]["value"][1]) == 40, "Prometheus reads Triton's names otherwise")
    _say("telemetry.triton_names: nv_inference_* and nv_cache_* tell the same as our own names")


def _log_is_json(written: str) -> None:
    lines = written.splitlines()
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            raise AssertionError(f"a line of the log is no JSON: {line}") from None
        _require({"time", "level", "logger", "message"} <= set(found), f"not a log line: {line}")
    _say(f"all {len(lines)} lines that the service wrote are JSON objects")


# --- how -------------------------------------------------------------------------------


@contextlib.contextmanager
def prometheus(target: str) -> Iterator[Callable[..., Any]]:
    """A Prometheus that scrapes the service; asked by path and parameters, it answers ``data``."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="podium-prometheus-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(SCRAPING.format(target=target.removeprefix("http://")))
        flags = ("--enable-feature=exemplar-storage", "--log.level=error")
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"),
                *(f"--web.listen-address=127.0.0.1:{port}", *flags),
            ],
            stdout=subprocess.DEVNULL,
        )

        def ask(path: str, **parameters: Any) -> Any:
            reply = httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=parameters)
            return reply.raise_for_status().json()["data"]

        def is_up() -> bool:
            try:
                return bool(ask("query", query="up == 1")["result"])
            except httpx.HTTPError:
                return False

        try:
            _until(is_up, "Prometheus with its first scrape")
            yield ask
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def _rank(server: Server, times: int) -> None:
    """Each over a connection of its own, so that both workers get some."""
    url = f"{server.base_url}/v1/rank"
    for n in range(times):
        body = {"candidates": ["i1", "i2"], "user": {"id": f"u{n % 50}"}, "timeout_ms": 10_000}
        reply = httpx.post(url, json=body, timeout=LIMIT_S)
        _require(reply.status_code == 200, f"a ranking was answered with {reply.status_code}")


def _flood(server: Server, tag: str, requests: int) -> None:
    """Requests of three kinds, none of which was ever made before."""
    port = int(server.base_url.rpartition(":")[2])

    def send(connection: int) -> None:
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as line:
            reader = line.makefile("rb")
            for first in range(connection * PIPELINED, requests, CONNECTIONS * PIPELINED):
                ids = range(first, min(first + PIPELINED, requests))
                line.sendall(b"".join(_odd_request(f"{tag}{n}", n) for n in ids))
                for _ in ids:
                    _read_reply(reader)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(send, n) for n in range(CONNECTIONS)]:
            done.result()


def _odd_request(word: str, n: int) -> bytes:
    match n % 3:
        case 0:
            return f"GET /{word}/{word} HTTP/1.1\r\nHost: podium\r\n\r\n".encode()
        case 1:
            path = f"/v1/items/{word}/recommendations?user_id={word}"
            return f"GET {path} HTTP/1.1\r\nHost: podium\r\n\r\n".encode()
    asked = {
        "candidates": [f"i{n % 40}"],
        "surface": word,
        "user": {"id": word},
        "request_id": word,
        "timeout_ms": 10_000,
    }
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/rank HTTP/1.1\r\nHost: podium\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _read_reply(reader: Any) -> None:
    status = reader.readline()
    _require(status.startswith(b"HTTP/1.1 "), f"no reply but {status!r}")
    length = 0
    while (line := reader.readline().strip().lower()) != b"":
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    reader.read(length)


def _workers(server: Server) -> list[int]:
    """Process ids of the workers."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if (
                    parent == server.process.pid
                    and b"serving.worker" in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
    return found


def _page(server: Server) -> str:
    """Over a connection of its own: one that is kept ends with its worker."""
    return httpx.get(f"{server.base_url}/metrics", timeout=LIMIT_S).text


def _sum(server: Server, name: str) -> float:
    return _total(_page(server), name)


def _total(page: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _series(page: str) -> int:
    return sum(not line.startswith(("#", "process_")) for line in page.splitlines())


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        _require(time.monotonic() < deadline, f"{what}: not within {LIMIT_S:g} s")
        time.sleep(0.1)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
