"""Starting, failing, degrading and stopping: one clear line, and nothing accepted is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.support.server import EXPERIMENTS, launched, make_home, serving
from tests.support.valkey import ValkeyServer


@pytest.fixture
def home():
    made = make_home(experiments=EXPERIMENTS)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def podium(home, *flags):
    """Run ``podium serve`` to its end, which must come by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--config", str(home / "podium.toml"), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def bundle_of(home):
    return next((home / "bundles" / "tiny").iterdir())


def flip_a_byte(home):
    file = bundle_of(home) / "catalogue" / "dense.npy"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def remove_a_file(home):
    bundle_of(home).chmod(0o755)
    (bundle_of(home) / "popularity.npy").unlink()


def rewrite(name, old, new):
    def change(home):
        text = (home / name).read_text()
        assert old in text
        (home / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_byte, "catalogue/dense.npy"),
        (remove_a_file, "popularity.npy"),
        (rewrite("podium.toml", "port = 0", "prot = 0"), "unknown field `prot` in [server]"),
        (rewrite("podium.toml", 'model = "tiny"', 'model = "large"'), "large"),
        (rewrite("podium.toml", 'model = "tiny"', 'model = "tiny@00000000"'), "00000000"),
        (
            rewrite("podium.toml", 'model = "tiny"\n', 'model = "tiny"\nprecision = "fp16"\n'),
            "fp16",
        ),
        (rewrite("experiments.toml", "share_bp = 5000", "share_bp = 6000"), "12000 bp"),
        (rewrite("experiments.toml", 'deployment = "ranker"', 'deployment = "x"'), "'x'"),
        (rewrite("experiments.toml", "unit =", "units ="), "units"),
        (lambda home: (home / "experiments.toml").unlink(), "experiments.toml"),
        (lambda home: (home / "podium.toml").unlink(), "no such settings file"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(home, damage, said):
    damage(home)

    code, errors = podium(home)

    assert code == 2
    assert errors.startswith("podium: ")
    assert said in errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 1


def test_a_port_in_use_is_told_and_the_first_server_goes_on(home):
    with serving() as first:
        port = first.base_url.rpartition(":")[2]

        code, errors = podium(home, "--port", port)

        assert code == 2
        assert f"cannot listen on 127.0.0.1:{port}" in errors
        assert len(errors.splitlines()) == 1
        assert first.rank(candidates=["i1"]).status_code == 200


def test_an_external_redis_that_is_not_there_degrades_and_says_so(home):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(
        experiments=EXPERIMENTS, environ={"PODIUM_REDIS__URL": f"redis://127.0.0.1:{port}/0"}
    ) as server:
        reply = server.rank(user={"id": "u1"}, candidates=["i1", "i2"])
        ready = server.client.get("/health/ready")

        assert reply.status_code == 200
        assert reply.json()["degraded"] is None
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        assert ready.json()["components"]["cache"]["status"] == "degraded"
        assert 'podium_store_state{store="cache"} 0.0' in server.client.get("/metrics").text
        report = server.client.get("/v1/experiments/model/report")
        assert report.status_code == 503
        assert report.json()["code"] == "report_unavailable"
        assert server.stop()[0] == 0


def test_redis_killed_while_serving_costs_no_request_and_no_accepted_event():
    stores = ValkeyServer(appendonly="yes", appendfsync="always").start()
    try:
        with serving(experiments=EXPERIMENTS, environ={"PODIUM_REDIS__URL": stores.url}) as server:
            ranked = [_shop(server, n) for n in range(5)]
            stores.kill()
            ranked += [_shop(server, n) for n in range(5, 25)]
            assert {status for _, status in ranked} == {"accepted"}
            assert server.client.get("/health/ready").json()["status"] == "degraded"

            stores.start()

            _wait(lambda: _clicks(server) == 25)
            _wait(lambda: server.client.get("/health/ready").json()["status"] == "ready")
    finally:
        stores.stop()


def test_sigterm_finishes_requests_in_flight_and_keeps_what_was_accepted(home):
    with launched(home) as server:
        replies = []
        stop = threading.Event()

        def shop():
            n = 0
            while not stop.is_set():
                try:
                    replies.append(_shop(server, f"{threading.get_ident()}-{n}"))
                except httpx.HTTPError:
                    return
                n += 1

        shoppers = [threading.Thread(target=shop) for _ in range(4)]
        for shopper in shoppers:
            shopper.start()
        _wait(lambda: len(replies) > 40)

        code, errors = server.stop()
        stop.set()
        for shopper in shoppers:
            shopper.join()

    assert code == 0, errors
    assert "Traceback" not in errors
    accepted = sum(status == "accepted" for _, status in replies)
    with launched(home) as again:
        # A reply may have been lost on its way when the socket closed, an accepted event not.
        _wait(lambda: _clicks(again) >= accepted)


def test_a_sigkill_leaves_no_servers_behind_and_loses_no_accepted_event(home):
    with launched(home) as server:
        accepted = [_shop(server, n) for n in range(10)]
        children = _children(server.process.pid)
        assert len(children) == 2

        server.kill()

        _wait(lambda: not any(_runs(child) for child in children))
    with launched(home) as again:
        _wait(lambda: _clicks(again) == len(accepted))
        assert again.stop()[0] == 0


def test_logs_are_json_lines(home):
    with launched(home) as server:
        _, errors = server.stop()

    logged = errors.splitlines()
    assert logged
    for line in logged:
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))


def _shop(server, n):
    """Rank, then click on the first item; what became of the click."""
    reply = server.rank(user={"id": f"user {n}"}, candidates=["i1", "i2", "i3"]).json()
    click = {
        "event_id": f"click {n}",
        "type": "click",
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][0]["id"],
        "position": 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
    }
    answer = server.client.post("/v1/events", json=click)
    assert answer.status_code == 202, answer.text
    return reply, answer.json()["results"][0]["status"]


def _clicks(server):
    answer = server.client.get("/v1/experiments/model/report")
    if answer.status_code != 200:
        return -1
    return sum(variant["clicks"] for variant in answer.json()["variants"])


def _wait(condition, limit_s=45):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def _children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _runs(pid):
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
