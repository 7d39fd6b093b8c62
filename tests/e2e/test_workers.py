"""Several processes as one service: right replies, right figures, and a killed one is no outage."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.server import EXPERIMENTS, SETTINGS, launched, make_home
from tests.support.valkey import wait_until

LIMIT_S = 30.0
WORKERS = SETTINGS.replace("workers = 1", "workers = 2")


@pytest.fixture
def home():
    made = make_home(settings=WORKERS, experiments=EXPERIMENTS)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_two_workers_say_so_and_give_the_same_slates(several):
    body = {"candidates": ["i1", "i2", "i3"], "force": {"model": "ranker"}}

    with connections(several, 6) as clients:
        slates = [rank(client, **body)["items"] for client in clients]

    assert all(slate == slates[0] for slate in slates)
    assert re.search(r"^  workers +2 ", several.welcome, re.MULTILINE)
    assert several.client.get("/health/ready").json()["components"]["workers"]["status"] == "ok"


def test_connections_are_spread_evenly(several):
    with connections(several, 8) as clients:
        for client in clients:
            rank(client, candidates=["i1"])
        shares = [open_connections(pid, port_of(several)) for pid in workers_of(several)]

    assert len(shares) == 2
    # The fixture's own client may have a connection open besides.
    assert max(shares) - min(shares) <= 1, shares


def test_figures_are_those_of_all_workers(several):
    before = figure(several, "podium_requests_total")
    with connections(several, 6) as clients, concurrent.futures.ThreadPoolExecutor(6) as pool:
        for asked in [pool.submit(rank, c, candidates=["i1"]) for c in clients for _ in range(10)]:
            asked.result()

    for _ in range(2):  # each worker is asked once
        headers = {"Accept": "application/openmetrics-text", "Connection": "close"}
        page = several.client.get("/metrics", headers=headers).text
        assert summed(page, "podium_requests_total") - before == 60
        assert summed(page, "podium_workers") == 2
        assert page.endswith("# EOF\n")


def test_a_worker_with_a_queue_hands_requests_to_an_idle_one(several):
    before = [handed_over(several, what) for what in ("given", "taken")]
    answered = figure(several, "podium_requests_total")
    asked, slates = 0, set()

    def handed_some():
        nonlocal asked
        # All connections at once, so that some worker finds many requests when it looks.
        for head, reply in asyncio.run(burst(port_of(several), connections=32, requests=20)):
            asked += 1
            assert head.startswith(b"HTTP/1.1 200 ")
            slates.add(tuple(item["id"] for item in json.loads(reply)["items"]))
        return handed_over(several, "given") > before[0]

    wait_until(handed_some, limit_s=LIMIT_S)

    given, taken = (handed_over(several, what) for what in ("given", "taken"))
    assert given - before[0] == taken - before[1]
    assert len(slates) == 1
    assert figure(several, "podium_requests_total") - answered == asked
    assert figure(several, "podium_inflight") == 0


def test_a_killed_worker_costs_its_own_connections_alone(home):
    with launched(home) as server, connections(server, 4) as clients:
        for client in clients:
            rank(client, candidates=["i1"])
        # The one with fewer of our connections, so that some are left.
        victim, survivor = sorted(
            workers_of(server), key=lambda pid: sum(belongs_to(c, pid) for c in clients)
        )
        served_by_survivor = [c for c in clients if belongs_to(c, survivor)]
        asked = len(clients)
        assert figure(server, "podium_requests_total") == asked
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(len(served_by_survivor)) as pool:
            under_load = [pool.submit(rank_until, c, stop) for c in served_by_survivor]
            os.kill(victim, signal.SIGKILL)
            with connections(server, 1) as (caller,):
                new = [once(caller) for _ in range(20)]
            wait_until(lambda: len(workers_of(server)) == 2, limit_s=LIMIT_S)
            wait_until(lambda: figure(server, "podium_workers") == 2, limit_s=LIMIT_S)
            stop.set()
            answered = [done.result() for done in under_load]

        assert len(served_by_survivor) >= 2
        assert all(count > 0 for count in answered)
        assert new == [200] * 20
        assert survivor in workers_of(server)
        # What the dead worker had counted was on a page, so it is kept to the last request.
        assert figure(server, "podium_requests_total") == asked + sum(answered) + len(new)
        assert figure(server, "podium_worker_restarts_total") == 1
        code, errors = server.stop()
    assert code == 0, errors
    assert "Traceback" not in errors


def test_a_worker_that_ends_while_the_experiments_are_broken_comes_back(home):
    with launched(home) as server:
        before = server.client.get("/v1/experiments").json()["experiments"]
        (home / "experiments.toml").write_text("[[experiment")
        wait_until(lambda: "last good" in server.client.get("/health/ready").text, limit_s=LIMIT_S)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_until(lambda: figure(server, "podium_worker_restarts_total") == 1, limit_s=LIMIT_S)
        wait_until(lambda: figure(server, "podium_workers") == 2, limit_s=LIMIT_S)
        for _ in range(20):
            with connections(server, 1) as (caller,):
                assert once(caller) == 200
        assert server.client.get("/v1/experiments").json()["experiments"] == before


def test_no_accepted_event_is_lost_or_counted_twice_when_workers_are_killed(home):
    with launched(home) as server:
        clicked = []
        stop = threading.Event()

        def shop(shopper):
            n = 0
            with httpx.Client(base_url=server.base_url, timeout=LIMIT_S) as client:
                while not stop.is_set():
                    n += 1
                    with contextlib.suppress(httpx.TransportError):
                        clicked.append(click_on(client, f"{shopper}-{n}"))

        shoppers = [threading.Thread(target=shop, args=(n,)) for n in range(4)]
        for shopper in shoppers:
            shopper.start()
        wait_until(lambda: len(clicked) > 60, limit_s=LIMIT_S)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_until(lambda: len(clicked) > 120, limit_s=LIMIT_S)
        stop.set()
        for shopper in shoppers:
            shopper.join()
        # Sent again, to whichever worker: those that were accepted are known.
        again = [click_again(server.client, click) for click in clicked]
        assert set(again) == {"duplicate"}
        # A click may be in whose answer the dead worker took with it, one for each shopper.
        wait_until(lambda: clicks(server) >= len(clicked), limit_s=LIMIT_S)
        assert clicks(server) - len(clicked) <= len(shoppers)
        code, errors = server.stop()
    assert code == 0, errors


def test_sigterm_finishes_what_is_under_way_and_leaves_nobody(home):
    with launched(home) as server, connections(server, 4) as clients:
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            under_load = [pool.submit(rank_until, client, stop) for client in clients]
            wait_until(lambda: figure(server, "podium_requests_total") > 40, limit_s=LIMIT_S)
            workers = workers_of(server)
            code, errors = server.stop()
            stop.set()
            answered = [done.result() for done in under_load]

    assert code == 0, errors
    assert all(answered)
    assert "Traceback" not in errors
    assert not [pid for pid in workers if runs(pid)]


def test_a_killed_parent_leaves_nobody_and_frees_the_address(home):
    with launched(home) as server:
        workers, port = workers_of(server), port_of(server)
        server.kill()

        with launched(home, "--port", str(port)) as again:
            rank(again.client, candidates=["i1"])
            wait_until(lambda: not any(runs(pid) for pid in workers), limit_s=LIMIT_S)
            assert again.stop()[0] == 0


def test_a_start_that_fails_is_told_once(home):
    (home / "experiments.toml").write_text(EXPERIMENTS.replace("5000", "6000"))

    done = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--config", str(home / "podium.toml")],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1, done.stderr
    assert "12000 bp" in said[0]
    assert not [pid for pid in all_pids() if str(home) in command_of(pid)]


def test_a_second_service_on_the_same_address_is_refused(several):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "service", "serve"),
            *("--config", str(several.home / "podium.toml"), "--port", str(port_of(several))),
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 2
    assert "cannot listen" in done.stderr


@contextlib.contextmanager
def connections(server, number):
    """Clients with one connection each, in the order in which they are opened."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(httpx.Client(base_url=server.base_url, timeout=LIMIT_S))
            for _ in range(number)
        ]


def rank(client, **body):
    answer = client.post("/v1/rank", json={"timeout_ms": 10_000, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rank_until(client, stop):
    """How many rankings were answered before the server closed or we are told to stop."""
    answered = 0
    while not stop.is_set():
        try:
            rank(client, candidates=["i1", "i2"])
        except httpx.TransportError:
            break
        answered += 1
    return answered


async def burst(port, *, connections, requests):
    """Heads and bodies of the replies to many requests, none of which the cache can answer."""
    body = json.dumps(
        {
            "candidates": [f"i{n}" for n in range(1, 30)],
            "context": {"surface": "uncached"},
            "timeout_ms": 10_000,
        }
    ).encode()
    request = (
        b"POST /v1/rank HTTP/1.1\r\nHost: podium\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )

    async def caller():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        replies = []
        for _ in range(requests):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            replies.append((head, await reader.readexactly(int(length.group(1)))))
        writer.close()
        await writer.wait_closed()
        return replies

    answered = await asyncio.gather(*(caller() for _ in range(connections)))
    return [reply for replies in answered for reply in replies]


def handed_over(server, what):
    page = server_get(server, "/metrics").text
    return float(re.search(rf'podium_handed_over_total{{what="{what}"}} (\S+)', page).group(1))


def once(client):
    """A ranking over a connection of its own; the status."""
    body = {"candidates": ["i1"], "timeout_ms": 10_000}
    return client.post("/v1/rank", json=body, headers={"Connection": "close"}).status_code


def click_on(client, event):
    """Rank and click; the click, which was accepted."""
    reply = rank(client, candidates=["i1", "i2"], user={"id": event})
    click = {
        "event_id": event,
        "type": "click",
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][0]["id"],
        "position": 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
    }
    assert click_again(client, click) == "accepted"
    return click


def click_again(client, click):
    """What becomes of a click."""
    answer = client.post("/v1/events", json=click)
    assert answer.status_code == 202, answer.text
    return answer.json()["results"][0]["status"]


def clicks(server):
    answer = server_get(server, "/v1/experiments/model/report")
    return sum(variant["clicks"] for variant in answer.json()["variants"])


def server_get(server, path):
    """Once more if the connection died with its worker."""
    with contextlib.suppress(httpx.TransportError):
        return server.client.get(path)
    return server.client.get(path)


def figure(server, name):
    return summed(server_get(server, "/metrics").text, name)


def summed(page, name):
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)", page, re.MULTILINE)
    return sum(float(value) for value in found)


def workers_of(server):
    """Process ids of the workers, oldest first."""
    return [pid for pid in sorted(children_of(server.process.pid)) if "worker" in command_of(pid)]


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def all_pids():
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def port_of(server):
    return int(server.base_url.rpartition(":")[2])


def sockets_of(pid):
    """Inodes of the sockets that a process has open."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if found:
                inodes.add(found.group(1))
    return inodes


def established(port):
    """Inode to remote port, of established connections to a port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        line[9]: int(line[2].rpartition(":")[2], 16)
        for line in lines
        if int(line[1].rpartition(":")[2], 16) == port and line[3] == "01"
    }


def open_connections(pid, port):
    return len(sockets_of(pid) & established(port).keys())


def belongs_to(client, pid):
    """Whether the one connection of a client is served by a process."""
    (connection,) = client._transport._pool.connections
    stream = connection._connection._network_stream
    ours = stream.get_extra_info("socket").getsockname()[1]
    port = client.base_url.port
    return any(established(port).get(inode) == ours for inode in sockets_of(pid))
