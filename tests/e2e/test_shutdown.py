"""SIGTERM: told to balancers, bounded whatever hangs, and a clean answer to who is cut off."""

import re
import shutil
import signal
import socket
import time

import httpx
import pytest

from tests.support import hanging
from tests.support.server import EXPERIMENTS, SETTINGS, launched, make_home, serving
from tests.support.valkey import wait_until

LIMIT_S = 30.0
HEAD = (
    b"POST /v1/rank HTTP/1.1\r\nHost: podium\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n"
)


def server_settings(text):
    return SETTINGS.replace("[server]\n", f"[server]\n{text}\n")


def test_balancers_have_time_to_see_that_the_server_drains():
    with serving(settings=server_settings("drain_notice_s = 2.5")) as server:
        server.process.send_signal(signal.SIGTERM)
        seen = until_gone(server)
        code, errors = server.wait()

    # Every look is a connection of its own, as a balancer's may be.
    assert {(503, "draining")} == set(seen[1:]), seen
    assert len(seen) > 2
    assert code == 0, errors


def test_rankings_go_on_during_the_notice():
    with serving(settings=server_settings("drain_notice_s = 30.0")) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.base_url}/health/ready").status_code == 503)

        # Longer than the server takes to notice that it should end.
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            answer = httpx.post(f"{server.base_url}/v1/rank", json={"candidates": ["i1", "i2"]})
            assert answer.status_code == 200

        # Who is at the terminal need not wait.
        server.process.send_signal(signal.SIGINT)
        code, errors = server.wait()
        assert code == 0, errors


def test_callers_leave_kept_connections_during_the_notice():
    """Or a request that is on its way while its connection is closed would be lost."""
    with serving(settings=server_settings("drain_notice_s = 30.0")) as server:
        before = [server.rank(candidates=["i1"]), server.client.get("/health/live")]
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.base_url}/health/ready").status_code == 503)

        # The one is answered by the express lane, the other by the application.
        after = [server.rank(candidates=["i1"]), server.client.get("/health/live")]

        assert [reply.headers.get("connection") for reply in before] == [None, None]
        assert [reply.headers.get("connection") for reply in after] == ["close", "close"]
        server.process.send_signal(signal.SIGINT)
        assert server.wait()[0] == 0


def test_ctrl_c_gives_no_notice():
    with serving(settings=server_settings("drain_notice_s = 3600")) as server:
        server.process.send_signal(signal.SIGINT)

        assert server.wait()[0] == 0


@pytest.mark.parametrize("body", [b"", b'{"candidates": ["i1"'])
def test_a_request_that_the_drain_limit_cuts_off_is_told_so(body):
    with serving(settings=server_settings("drain_timeout_s = 0.5")) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=30) as caller:
            caller.sendall(HEAD + body)
            wait_until(lambda: in_flight(server) == 1)
            server.process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: caller.recv(65_536), b""))
        code, errors = server.wait()

    head, _, problem = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), answer
    assert b"content-type: application/problem+json" in head.lower()
    assert b"retry-after: 1" in head.lower()
    assert b'"code":"not_ready"' in problem
    assert "Traceback" not in errors
    assert code == 0, errors


def test_an_engine_that_hangs_holds_up_neither_the_exit_nor_the_exposures():
    home = make_home(
        settings=server_settings("drain_timeout_s = 1.0")
        + '[batching]\nexecution = "thread"\nmax_queue_delay_s = 0.0\n',
        experiments=EXPERIMENTS,
    )
    try:
        with launched(home, program=("-P", hanging.__file__)) as server:
            reply = server.rank(user={"id": "u1"}, candidates=["i1", "i2"], timeout_ms=100)
            assert reply.json()["degraded"] == "popularity"
            began = time.monotonic()

            code, errors = server.stop()

            assert code == 0, errors
            assert time.monotonic() - began < 15
            assert "an engine hangs" in errors
            assert "Traceback" not in errors
        with launched(home) as server:
            wait_until(lambda: users(server) == 1, limit_s=LIMIT_S)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def until_gone(server):
    """What `/health/ready` says, look by look, until nobody answers any more."""
    seen = []
    while True:
        try:
            answer = httpx.get(f"{server.base_url}/health/ready", timeout=LIMIT_S)
        except httpx.TransportError:
            return seen
        seen.append((answer.status_code, answer.json()["status"]))


def port_of(server):
    return int(server.base_url.rpartition(":")[2])


def in_flight(server):
    """Requests that were begun and not answered, besides the one that asks."""
    page = server.client.get("/metrics").text
    return sum(
        float(n) for n in re.findall(r"http_server_active_requests{[^}]*POST[^}]*} (\S+)", page)
    )


def users(server):
    answer = server.client.get("/v1/experiments/model/report")
    return sum(variant["users"] for variant in answer.json()["variants"])
