"""One process has the engines of all workers; without it the service goes on, and takes it back."""

import concurrent.futures
import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.support.server import SETTINGS, launched, make_home
from tests.support.valkey import wait_until

LIMIT_S = 30.0
SHARED = """
[engine]
process = "shared"
calibrate = false
max_execution_s = 0.5
breaker_probe_s = 0.2
"""
CANDIDATES = [f"i{n}" for n in range(1, 30)]


@contextlib.contextmanager
def serving_with(workers, *flags):
    settings = SETTINGS.replace("workers = 1", f"workers = {workers}") + SHARED
    home = make_home(settings=settings)
    try:
        with launched(home, *flags) as server:
            wait_until(lambda: statuses(server) == {"ready"}, limit_s=LIMIT_S)
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_engine_process_costs_no_request_and_comes_back(workers):
    with serving_with(workers) as server:
        right = rank(server.client)
        assert right["degraded"] is None
        (first,) = engine_processes(server)
        with under_load(server, 4) as replies:
            wait_until(lambda: len(replies) > 40, limit_s=LIMIT_S)
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: engine_processes(server) not in ([], [first]), limit_s=LIMIT_S)
            wait_until(lambda: statuses(server) == {"ready"}, limit_s=LIMIT_S)
            back_at = len(replies)
            wait_until(lambda: len(replies) > back_at + 40, limit_s=LIMIT_S)

        # Every request was answered by some engine, and all with the same scores.
        assert {reply["status"] for reply in replies} == {200}
        assert all(reply["degraded"] in (None, FALLBACK) for reply in replies)
        assert all(same_slate(reply, right) for reply in replies)
        assert any(reply["degraded"] == FALLBACK for reply in replies)
        assert replies[-1]["degraded"] is None
        assert opened(server) >= 1
        page = server.client.get("/metrics").text
        assert "podium_engine_process_restarts_total 1.0\n" in page
        left = children_of(server.process.pid)
        code, errors = server.stop()
    assert code == 0, errors
    assert "Traceback" not in errors
    assert not [pid for pid in left if runs(pid)]


def test_an_engine_process_that_hangs_is_passed_by_until_it_goes_on():
    with serving_with(2) as server:
        (process,) = engine_processes(server)
        os.kill(process, signal.SIGSTOP)
        try:
            with under_load(server, 3) as replies:
                wait_until(lambda: statuses(server) & {"hung", "open"}, limit_s=LIMIT_S)
                wait_until(lambda: len(replies) > 60, limit_s=LIMIT_S)
        finally:
            os.kill(process, signal.SIGCONT)

        assert {reply["status"] for reply in replies} == {200}
        assert {reply["degraded"] for reply in replies} <= {None, FALLBACK}
        wait_until(lambda: statuses(server) == {"ready"}, limit_s=LIMIT_S)
        wait_until(lambda: rank(server.client)["degraded"] is None, limit_s=LIMIT_S)
        assert server.stop()[0] == 0


def test_what_the_engine_process_scored_is_counted_by_the_workers():
    with serving_with(2) as server:
        before = rows_of(server)
        for _ in range(20):  # one after the other: what waits together is scored once
            with httpx.Client(base_url=server.base_url, timeout=LIMIT_S) as client:
                rank(client)

        assert rows_of(server) - before == 20 * len(CANDIDATES)
        assert memory_of(server) == {0}  # of a device, which none of them has


def test_nothing_is_left_after_sigterm_under_load():
    with serving_with(2) as server:
        pids = children_of(server.process.pid)
        with under_load(server, 2, until_closed=True) as replies:
            wait_until(lambda: len(replies) > 10, limit_s=LIMIT_S)
            code, errors = server.stop()

    assert code == 0, errors
    assert not [pid for pid in pids if runs(pid)]
    assert not named_memory()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_when_the_parent_is_killed(workers):
    with serving_with(workers) as server:
        pids = engine_processes(server)
        server.kill()

        wait_until(lambda: not any(runs(pid) for pid in pids), limit_s=LIMIT_S)
        assert not named_memory()


def test_a_killed_worker_comes_back_to_the_same_engines():
    with serving_with(2) as server:
        (process,) = engine_processes(server)
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: len(workers_of(server)) == 2 and victim not in workers_of(server),
            limit_s=LIMIT_S,
        )

        wait_until(lambda: reached(server) == {"ready"}, limit_s=LIMIT_S)
        assert engine_processes(server) == [process]
        assert server.stop()[0] == 0


FALLBACK = "fallback_engine"


@contextlib.contextmanager
def under_load(server, callers, *, until_closed=False):
    """A list of replies that grows while inside."""
    replies, stop = [], threading.Event()

    def call():
        with httpx.Client(base_url=server.base_url, timeout=LIMIT_S) as client:
            while not stop.is_set():
                try:
                    replies.append(rank(client))
                except httpx.TransportError:
                    if until_closed:
                        return
                    raise

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        calling = [pool.submit(call) for _ in range(callers)]
        try:
            yield replies
        finally:
            stop.set()
        for done in calling:
            done.result()


def rank(client):
    body = {
        "candidates": CANDIDATES,
        "context": {"surface": "uncached"},
        "timeout_ms": 10_000,
    }
    answer = client.post("/v1/rank", json=body)
    return {"status": answer.status_code, **answer.json()}


def same_slate(reply, other):
    """Of the same model; an engine on other rows' company may round otherwise."""
    scores = {item["id"]: item["score"] for item in other["items"]}
    return len(reply["items"]) == len(scores) and all(
        abs(item["score"] - scores[item["id"]]) < 1e-5 for item in reply["items"]
    )


def shared_engines(server):
    """As the service tells of them; once more if the connection died with its worker."""
    with contextlib.suppress(httpx.TransportError):
        return _shared_engines(server)
    return _shared_engines(server)


def _shared_engines(server):
    deployments = server.client.get("/v1/models").json()["deployments"]
    return [engine for d in deployments for engine in d["engines"] if engine["shared"]]


def statuses(server):
    return {engine["status"] for engine in shared_engines(server)}


def reached(server):
    """How they are, seen from two workers; connections go to them in turn."""
    seen = set()
    for _ in range(4):
        with contextlib.suppress(httpx.TransportError), httpx.Client() as client:
            found = client.get(f"{server.base_url}/v1/models").json()["deployments"]
            seen |= {e["status"] for d in found for e in d["engines"] if e["shared"]}
    return seen


def rows_of(server):
    """Rows of one of the two deployments that share their engines."""
    return next(engine["rows"] for engine in shared_engines(server))


def memory_of(server):
    return {engine["used_bytes"] for engine in shared_engines(server)}


def opened(server):
    return sum(engine["opened"] for engine in shared_engines(server))


def engine_processes(server):
    return [pid for pid in children_of(server.process.pid) if "engines.host" in command_of(pid)]


def workers_of(server):
    return [pid for pid in children_of(server.process.pid) if "serving.worker" in command_of(pid)]


def named_memory():
    return [entry.name for entry in Path("/dev/shm").iterdir() if "podium" in entry.name]


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def command_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def runs(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
