"""Running experiments changed over HTTP: in force everywhere, on record, and kept."""

import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.support.server import EXPERIMENTS, SETTINGS, launched, make_home, serving
from tests.support.valkey import ValkeyServer, wait_until

TWO_WORKERS = SETTINGS.replace("workers = 1", "workers = 2")
OTHER = """
[[experiment]]
key = "banner"
[[experiment.variant]]
name = "plain"
share_bp = 5000
[[experiment.variant]]
name = "loud"
share_bp = 5000
"""

CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)
"""A connection per request: any worker may take it."""


def reason_of(base_url, key="model", unit="u1"):
    answer = CLIENT.post(
        f"{base_url}/v1/rank",
        json={"candidates": ["i1"], "user": {"id": unit}, "timeout_ms": 10_000},
    )
    (found,) = (e for e in answer.json()["experiments"] if e["key"] == key)
    return found["reason"]


def change(base_url, verb, key="model", *, status=200, **body):
    answer = CLIENT.post(f"{base_url}/v1/experiments/{key}/{verb}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def in_force_everywhere(base_urls, reason):
    """Each of many connections, and so in all likelihood each worker, says the same."""
    return all(reason_of(url) == reason for url in base_urls for _ in range(8))


@contextmanager
def home_with(settings=SETTINGS, experiments=EXPERIMENTS):
    home = make_home(settings=settings, experiments=experiments)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_rollback_reaches_every_worker_and_survives_a_kill():
    with home_with(TWO_WORKERS) as home:
        with launched(home) as server:
            assert reason_of(server.base_url) == "SPLIT"
            standing = change(server.base_url, "rollback", reason="pages are slow")
            assert (standing["state"], standing["phase"]) == ("rolled_back", 1)
            wait_until(lambda: in_force_everywhere([server.base_url], "ROLLED_BACK"))
            server.kill()
        with launched(home) as again:
            assert in_force_everywhere([again.base_url], "ROLLED_BACK")
            found = again.client.get("/v1/experiments/model").json()
            assert (found["state"], found["standing"]["generation"]) == ("rolled_back", 2)
            rolled_back, defined = again.client.get("/v1/experiments/model/decisions").json()[
                "decisions"
            ]
            assert (rolled_back["by"], rolled_back["reason"]) == ("loopback", "pages are slow")
            assert rolled_back["before"] == defined["after"]
            assert rolled_back["after"] == found["standing"]


def test_replicas_that_share_an_event_server_share_every_change():
    with ValkeyServer(appendonly="yes", appendfsync="always") as valkey:
        shared = SETTINGS + f'[redis]\nurl = "{valkey.url}"\n'
        with (
            home_with(shared) as one,
            home_with(shared) as two,
            launched(one) as here,
            launched(two) as there,
        ):
            urls = [here.base_url, there.base_url]
            change(here.base_url, "pause")
            wait_until(lambda: in_force_everywhere(urls, "DISABLED"))
            change(there.base_url, "start")
            wait_until(lambda: in_force_everywhere(urls, "SPLIT"))

            valkey.freeze()
            problem = change(here.base_url, "stop", status=503)
            assert problem["code"] == "store_unavailable"
            assert in_force_everywhere(urls, "SPLIT")

            def told(server):
                found = server.client.get("/v1/experiments").json()["source"]
                return found["status"] == "store_unavailable"

            wait_until(lambda: told(here) and told(there))
            ready = here.client.get("/health/ready").json()
            assert ready["status"] == "degraded"
            assert ready["components"]["experiments"]["status"] == "degraded"
            valkey.thaw()
            wait_until(lambda: not told(here))


def test_an_edit_of_the_file_is_followed_and_an_invalid_one_is_told():
    with home_with() as home, launched(home) as server:
        file = home / "experiments.toml"
        file.write_text(EXPERIMENTS + OTHER)

        def listed():
            return server.client.get("/v1/experiments").json()

        wait_until(lambda: len(listed()["experiments"]) == 2)
        assert reason_of(server.base_url, "banner") == "SPLIT"

        file.write_text(EXPERIMENTS + OTHER.replace("5000", "5001"))
        wait_until(lambda: listed()["source"]["status"] == "invalid_file")
        assert "10002 bp" in listed()["source"]["problem"]
        assert len(listed()["experiments"]) == 2

        file.write_text(EXPERIMENTS)
        wait_until(lambda: len(listed()["experiments"]) == 1)
        assert listed()["source"]["status"] == "ok"
        assert server.client.get("/v1/experiments/banner/decisions").json()["decisions"]


def test_100_changes_while_ranking_mix_no_two_generations():
    """A phase of each experiment belongs to one standing; a reply names phases that were."""
    with home_with(TWO_WORKERS, EXPERIMENTS + OTHER) as home, launched(home) as server:
        done = threading.Event()
        seen = []

        def rank(unit):
            with httpx.Client(base_url=server.base_url, timeout=30) as client:
                while not done.is_set():
                    answer = client.post(
                        "/v1/rank",
                        json={
                            "candidates": ["i1", "i2"],
                            "user": {"id": unit},
                            "timeout_ms": 10_000,
                        },
                    )
                    assert answer.status_code == 200
                    seen.extend((unit, e) for e in answer.json()["experiments"])

        def ramp(n):
            return change(server.base_url, "ramp", ("model", "banner")[n % 2], traffic_bp=9_900 + n)

        with ThreadPoolExecutor(14) as pool:
            rankers = [pool.submit(rank, f"u{n}") for n in range(4)]
            made = list(pool.map(ramp, range(100)))
            done.set()
            for ranker in rankers:
                ranker.result()

        for key in ("model", "banner"):
            generations = sorted(s["generation"] for s in made if s["key"] == key)
            assert generations == list(range(2, 52))
            path = f"/v1/experiments/{key}/decisions?limit=1000"
            after = [d["after"] for d in server.client.get(path).json()["decisions"]]
            phases = {standing["phase"] for standing in after}
            assert len(phases) == len(after) == 51
            assert {e["phase"] for _, e in seen if e["key"] == key} <= phases
        # Who stays within the traffic keeps the variant, whatever the generation.
        split = {(u, e["key"], e["variant"]) for u, e in seen if e["reason"] == "SPLIT"}
        assert len(split) == len({(unit, key) for unit, key, _ in split})


@pytest.mark.parametrize(
    ("verb", "body", "status", "code"),
    [
        ("pause", {"stage": 1}, 400, "invalid_request"),
        ("ramp", {"traffic_bp": 0}, 400, "invalid_request"),
        ("ramp", {"stage": 1}, 409, "change_refused"),
        ("promote", {"variant": "nobody"}, 409, "change_refused"),
        ("stop", {"if_generation": 99}, 409, "generation_conflict"),
        ("stop", {"because": "x"}, 400, "invalid_request"),
        ("delete", {}, 404, "not_found"),
    ],
)
def test_a_change_that_cannot_be_is_a_problem_with_a_code(server, verb, body, status, code):
    assert change(server.base_url, verb, status=status, **body)["code"] == code


def test_a_body_of_another_type_is_told_which_one_to_send(server):
    answer = server.client.post(
        "/v1/experiments/model/pause", content=b"now", headers={"Content-Type": "text/plain"}
    )

    assert answer.status_code == 415
    assert answer.json()["detail"] == "content type 'text/plain'; send application/json"


def test_what_is_not_there_is_not_found(server):
    assert change(server.base_url, "stop", "nothing", status=404)["code"] == "unknown_experiment"
    assert server.client.get("/v1/experiments/nothing/decisions").status_code == 404


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", "1e3", ""])
def test_a_limit_is_a_number_within_bounds(server, limit):
    answer = server.client.get("/v1/experiments/model/decisions", params={"limit": limit})

    assert (answer.status_code, answer.json()["path"]) == (400, "$.limit")


def test_a_body_may_be_left_out():
    with serving(experiments=EXPERIMENTS) as server:
        paused = server.client.post("/v1/experiments/model/pause")

        assert paused.status_code == 200
        assert paused.json()["state"] == "paused"


def test_with_keys_only_an_admin_changes_experiments_and_is_named():
    def key(name, *scopes):
        digest = hashlib.sha256(name.encode()).hexdigest()
        return f'[[auth.keys]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {list(scopes)}\n'

    settings = SETTINGS + key("alice", "admin", "read") + key("bob", "read")
    with serving(settings=settings, experiments=EXPERIMENTS) as server:

        def post(name):
            headers = {"Authorization": f"Bearer {name}"} if name else {}
            return server.client.post("/v1/experiments/model/stop", headers=headers)

        assert post(None).status_code == 401
        assert post("bob").status_code == 403
        assert post("alice").status_code == 200
        history = server.client.get(
            "/v1/experiments/model/decisions", headers={"Authorization": "Bearer bob"}
        ).json()["decisions"]
        assert [d["by"] for d in history] == ["key:alice", "file"]
