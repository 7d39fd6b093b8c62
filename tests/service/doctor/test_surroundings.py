"""The address, the disk, the clock and the collector: what is well, and how to mend what is not."""

import resource
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.doctor.surroundings import (
    BUILT_AFTER,
    address_finding,
    clock_finding,
    collector_findings,
    disk_finding,
)
from service.settings import (
    DeploymentSettings,
    EventSettings,
    LoadedSettings,
    ServerSettings,
    Settings,
)
from service.testing import FakeClock


@contextmanager
def answering(status, body=b"", seen=None):
    """An HTTP server that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if seen is not None:
                seen.append(dict(self.headers))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def collector(variables):
    (found,) = collector_findings(variables)
    return found


def test_a_free_address_is_fine_and_stays_free():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    for _ in range(2):
        assert address_finding(ServerSettings(port=port)).state == "ok"


def test_an_address_that_something_else_has_is_a_problem():
    with answering(404) as port:
        found = address_finding(ServerSettings(port=port))

    assert (found.state, found.subject) == ("problem", "address")
    assert f"127.0.0.1:{port}" in found.found
    assert found.advice.startswith("end what uses it, or choose another with --port")


@pytest.mark.parametrize("status", ["ready", "draining"])
def test_an_address_that_podium_has_is_fine(status):
    with answering(200, b'{"status": "%s", "components": {}}' % status.encode()) as port:
        found = address_finding(ServerSettings(port=port))

    assert (found.state, found.found) == ("ok", f"a Podium runs at 127.0.0.1:{port}")


@pytest.mark.parametrize(("spool_mb", "state"), [(1, "ok"), (1_000_000, "problem")])
def test_the_disk_has_room_for_the_spool(tmp_path, spool_mb, state):
    settings = Settings(
        deployments={"only": DeploymentSettings(model="tiny")},
        events=EventSettings(max_spool_mb=spool_mb),
        state_directory="state",
    )

    assert disk_finding(LoadedSettings(settings=settings, directory=tmp_path)).state == state


def test_a_clock_that_is_years_behind_is_a_problem():
    assert clock_finding(FakeClock(wall=BUILT_AFTER - 1)).state == "problem"
    assert clock_finding(FakeClock(wall=BUILT_AFTER + 1)).state in {"ok", "note"}


def test_without_a_collector_nothing_is_wrong():
    assert collector({}).state == "ok"
    assert (
        collector({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "x"}).state == "ok"
    )


def test_a_collector_that_takes_traces_is_fine_and_is_shown_the_headers():
    seen = []
    with answering(200, seen=seen) as port:
        found = collector(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_EXPORTER_OTLP_HEADERS": "x-team=ranking",
            }
        )

    assert (found.state, found.found) == ("ok", f"http://127.0.0.1:{port}/v1/traces takes traces")
    assert seen[0]["x-team"] == "ranking"


@pytest.mark.parametrize(
    ("status", "said", "advice"),
    [
        (404, "answers 404 to traces", "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT"),
        (401, "does not let us in", "correct OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_a_collector_that_does_not_take_them_is_a_problem(status, said, advice):
    with answering(status) as port:
        found = collector({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}/x"})

    assert (found.state, found.advice) == ("problem", advice)
    assert said in found.found


def test_a_collector_that_is_away_is_a_problem():
    found = collector({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})

    assert found.state == "problem"
    assert "cannot be reached" in found.found


def test_a_variable_that_cannot_be_is_a_problem_and_named():
    found = collector({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})

    assert found.state == "problem"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in found.found


def test_few_open_files_are_told_by_the_limit_that_is_set():
    from service.doctor.machine import open_files

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert open_files(100).advice.startswith("raise it to 4096")
    assert open_files(soft).found in {f"at most {soft}", "no limit"} or soft < 4096
