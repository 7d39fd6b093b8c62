"""A cached answer is the computed answer: the same items, with the same bits in their scores."""

import http.client
import json
import shutil
import time
from collections import Counter
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.support.bundles import write_tiny_bundle
from tests.support.server import SETTINGS, launched, make_home

REPLIES = 10_000
QUESTIONS = 400
ITEMS = [f"i{n}" for n in range(60)] + ["unlisted-1", "unlisted-2"]
ARMS = ("control", "own")
EXPERIMENTS = """
[[experiment]]
key = "apart"
unit = "user_or_session"
isolate_cache = true
[[experiment.variant]]
name = "control"
share_bp = 5000
[[experiment.variant]]
name = "own"
share_bp = 5000
cache = "exact"
"""


class Asker:
    """One connection, as clients keep it."""

    def __init__(self, base_url):
        address = urlsplit(base_url)
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)

    def slate(self, question, *, surface, force=None):
        context = {**question.get("context", {}), "surface": surface}
        body = {**question, "context": context, "timeout_ms": 10_000, "k": 1000}
        if force is not None:
            body["force"] = {"apart": force}
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/rank", json.dumps(body), headers)
        reply = self._connection.getresponse()
        text = reply.read()
        assert reply.status == 200, text
        return json.loads(text)

    def close(self):
        self._connection.close()


@pytest.fixture(scope="module")
def server():
    # Short, so that the second level is asked as well. Nothing gets stale: what is computed anew
    # behind a reply shares its batch with live requests, and ONNX Runtime's last bit depends on
    # how large a batch is, with a cache and without.
    settings = SETTINGS + "[cache]\nfirst_level_ttl_s = 0.1\ntimeout_s = 2.0\n"
    home = make_home(settings=settings, experiments=EXPERIMENTS)
    try:
        with launched(home) as running:
            yield running
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def asker(server):
    asker = Asker(server.base_url)
    yield asker
    asker.close()


def drawn(random):
    """A question with anything that may make a difference to its scores."""
    size = int(random.integers(1, 12))
    candidates = [ITEMS[at] for at in random.permutation(len(ITEMS))[:size]]
    question = {"candidates": candidates}
    if random.random() < 0.7:
        question["user"] = {"id": f"u{random.integers(12)}"}
    if random.random() < 0.5:
        question["context"] = {"hour": int(random.integers(24))}
    if random.random() < 0.3:
        changed = {"id": candidates[0], "features": {"price": float(random.integers(1, 50))}}
        question["candidates"] = [changed, *candidates[1:]]
    return question


def items(slate):
    return [(item["id"], item["score"]) for item in slate["items"]]


def activate(server, version):
    body = {"version": version}
    assert server.client.post("/v1/models/tiny/load", json=body).status_code == 200
    assert server.client.post("/v1/models/tiny/activate", json=body).status_code == 200


def test_ten_thousand_cached_answers_are_the_computed_ones(server, asker):
    """Over users, contexts, feature values, versions of the model, and arms."""
    random = np.random.default_rng(5)
    (model,) = server.client.get("/v1/models").json()["models"]
    first = model["versions"][0]["version"]
    versions = (first, write_tiny_bundle(server.home / "bundles", seed=1).name)
    questions = [drawn(random) for _ in range(QUESTIONS)]
    computed, results, levels = {}, Counter(), Counter()

    for turn in range(4):
        version = versions[turn % 2]
        activate(server, version)
        for _ in range(REPLIES // 4):
            at = int(random.zipf(1.2)) % QUESTIONS
            arm = (None, *ARMS)[int(random.integers(3))]
            if (version, at) not in computed:
                uncached = asker.slate(questions[at], surface="uncached")
                # The experiment's variant may have the cache on; the control never has.
                computed[version, at] = asker.slate(
                    questions[at], surface="uncached", force="control"
                )
                assert items(uncached) == items(computed[version, at])
            slate = asker.slate(questions[at], surface="default", force=arm)
            assert items(slate) == items(computed[version, at])
            assert slate["model"] == computed[version, at]["model"]
            assert slate["model"]["version"] == version
            assert slate["degraded"] is None
            results[slate["cache"]["result"]] += 1
            levels[slate["cache"]["level"]] += 1

    assert {slate["cache"]["result"] for slate in computed.values()} == {"bypass"}
    assert results["hit"] > REPLIES / 2
    assert results["miss"] > 200
    assert set(results) == {"hit", "miss"}
    assert min(levels[level] for level in ("process", "server")) > 100


def test_a_purge_is_in_force_within_a_second_on_both_levels(server, asker):
    question = {"candidates": ITEMS[:5], "user": {"id": "u1"}}
    asker.slate(question, surface="default")
    assert asker.slate(question, surface="default")["cache"]["result"] == "hit"

    assert server.client.post("/v1/cache/flush").status_code == 200
    began = time.monotonic()
    while asker.slate(question, surface="default")["cache"]["result"] != "miss":
        assert time.monotonic() - began < 1.0
        time.sleep(0.05)


def test_an_arm_with_entries_of_its_own_is_warmed_by_itself(server):
    warmed = {"top": 1000, "pages": 1000, "context": {"hour": 13}, "force": {"apart": "own"}}

    done = server.client.post("/v1/cache/warm", json={**warmed, "first": 0}).json()
    results = {}
    for n in range(20):
        query = {"hour": 13, "session_id": f"s{n}", "timeout_ms": 1000}
        page = server.client.get("/v1/items/i3/recommendations", params=query).json()
        (of,) = page["experiments"]
        results.setdefault(of["variant"], page["cache"]["result"])
    again = server.client.post("/v1/cache/warm", json=warmed).json()
    query = {"item": "i3", "hour": 13}
    held = {
        arm: server.client.get(
            "/v1/cache/entry", params={**query, **({"force": f"apart={arm}"} if arm else {})}
        ).json()["is_present"]
        for arm in ("", "own")
    }

    assert done["computed"] == done["top"] > 0
    assert results == {"own": "hit", "control": "miss"}
    assert again["first"] == again["top"], "it is noted how far the arm is warm"
    assert held == {"": False, "own": True}


def test_the_metrics_and_the_reply_say_where_a_slate_was(server, asker):
    question = {"candidates": ITEMS[5:9], "user": {"id": "u2"}}
    asker.slate(question, surface="default")

    report = asker.slate(question, surface="default")["cache"]
    page = server.client.get("/metrics").text

    assert (report["result"], report["level"], report["hits"]) == ("hit", "process", 4)
    for sample in (
        'podium_cache_total{result="hit"}',
        'podium_cache_found_total{level="process"}',
        "podium_cache_age_seconds_bucket",
        'podium_cache_renewals_total{result="renewed"}',
        "podium_cache_process_bytes",
        "podium_cache_process_entries",
    ):
        assert sample in page
