"""Rankings over HTTP, compared with ONNX Runtime and the bundle alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder
from tests.support.server import SETTINGS, serving
from tests.support.valkey import wait_until

CONTEXTS = [{}, {"device": "ios"}, {"device": "web", "hour": 21}, {"device": "never seen"}]
WAITS_FOR_COMPANY = """
[batching]
mode = "fixed"
max_queue_delay_s = 30.0
max_waiting_rows = 3
"""
"""Every job stays in the queue for longer than its caller waits."""


@pytest.fixture(scope="module")
def bundle(server):
    return Bundle.open(next((server.home / "bundles" / "tiny").iterdir()))


@pytest.fixture(scope="module")
def direct(bundle):
    """Scores of (user, candidates, context) by the recipe of the bundle, without Podium."""
    session = onnxruntime.InferenceSession(bundle.graph("fp32"), providers=["CPUExecutionProvider"])
    schema, encoder = bundle.schema, Encoder(bundle.schema)
    item_at = {str(item): n for n, item in enumerate(bundle.item_ids)}
    user_at = {str(user): n for n, user in enumerate(bundle.user_ids)}

    def scores(user, candidates, context):
        rows = encoder.encode_rows([context] * len(candidates))
        for source, table, at in (
            ("item", bundle.items, [item_at.get(c) for c in candidates]),
            ("user", bundle.users, [user_at.get(user)] * len(candidates)),
        ):
            for kind in ("dense", "ids"):
                columns = [c for c, s in enumerate(getattr(schema, kind)) if s.source == source]
                for row, position in enumerate(at):
                    if position is not None:
                        getattr(rows, kind)[row, columns] = getattr(table, kind)[position]
            for name, values in table.multi.items():
                for row, position in enumerate(at):
                    if position is not None:
                        rows.multi[name][row] = values[position]
        inputs = {i.name for i in session.get_inputs()}
        return session.run(None, {k: v for k, v in rows.inputs().items() if k in inputs})[0]

    return scores


@pytest.mark.parametrize("surface", ["uncached", "default"])
def test_every_slate_is_what_onnx_runtime_computes_alone(server, bundle, direct, surface):
    random = np.random.default_rng(7)
    users = [*map(str, bundle.user_ids), "a stranger", None]
    items = [*map(str, bundle.item_ids), "unlisted"]
    for turn in range(120):
        user = users[random.integers(len(users))]
        size = int(random.integers(1, len(items) + 1))
        candidates = [items[n] for n in random.permutation(len(items))[:size]]
        context = CONTEXTS[turn % len(CONTEXTS)]

        reply = server.rank(
            user={"id": user} if user else {},
            candidates=candidates,
            context={**context, "surface": surface},
            force={"model": "ranker"},
            k=1000,
        ).json()

        expected = direct(user, candidates, context)
        order = np.argsort(-expected, kind="stable")
        got = {item["id"]: item["score"] for item in reply["items"]}
        np.testing.assert_allclose([got[c] for c in candidates], expected, atol=1e-5, rtol=0)
        assert [item["rank"] for item in reply["items"]] == list(range(1, size + 1))
        ranked = [item["score"] for item in reply["items"]]
        assert ranked == sorted(ranked, reverse=True)
        np.testing.assert_allclose(ranked, expected[order], atol=1e-5, rtol=0)


def test_a_repeated_request_is_answered_from_the_cache_with_the_same_scores(server):
    body = {
        "user": {"id": "u3"},
        "candidates": [f"i{n}" for n in range(20, 40)],
        "force": {"model": "ranker"},
        "context": {"hour": 3},
    }
    computed = server.rank(**body).json()
    assert computed["cache"] == {
        "result": "miss",
        "hits": 0,
        "misses": 20,
        "age_ms": None,
        "level": None,
    }

    cached = server.rank(**body).json()

    assert cached["cache"]["result"] == "hit"
    assert (cached["cache"]["hits"], cached["cache"]["misses"]) == (20, 0)
    assert cached["items"] == computed["items"]
    assert cached["slate_id"] != computed["slate_id"]


def test_a_thousand_candidates_rank_and_so_does_one(server):
    many = server.rank(candidates=[f"x{n}" for n in range(1000)], k=1000).json()
    one = server.rank(candidates=["i1"]).json()

    assert len(many["items"]) == 1000
    assert [item["id"] for item in one["items"]] == ["i1"]


def test_a_reply_says_how_it_came_about(server):
    reply = server.rank(
        request_id="r-81",
        user={"id": "u1"},
        candidates=["i1", {"id": "i2", "features": {"price": 12.5}}],
        k=1,
        explain=True,
        force={"model": "ranker"},
    ).json()

    assert reply["request_id"] == "r-81"
    assert reply["model"]["engine"] == "onnxruntime-cpu"
    assert reply["model"]["precision"] == "fp32"
    assert reply["experiments"] == [
        {"key": "model", "phase": 1, "variant": "ranker", "reason": "FORCED"}
    ]
    assert reply["exposure"] is None
    assert reply["degraded"] is None
    timing = reply["timing_ms"]
    assert timing["total"] >= timing["engine"] > 0
    assert reply["explain"]["batch"]["rows"] >= 2
    assert set(reply["explain"]["inputs"]) == {reply["items"][0]["id"]}


def test_an_item_page_ranks_the_candidates_of_its_anchor(server, bundle):
    page = server.client.get(
        "/v1/items/i7/recommendations",
        params={"k": 5, "user_id": "u2", "device": "ios", "hour": 9, "timeout_ms": 10_000},
    )

    assert page.status_code == 200
    anchor = [str(i) for i in bundle.item_ids].index("i7")
    beside = {str(bundle.item_ids[c]) for c in bundle.candidates[anchor] if c >= 0}
    shown = [item["id"] for item in page.json()["items"]]
    assert len(shown) == 5
    assert set(shown) <= beside
    assert "i7" not in shown


def test_a_request_that_is_too_late_gets_the_popularity_slate(bundle):
    items = [str(item) for item in bundle.item_ids]
    with serving(settings=SETTINGS + WAITS_FOR_COMPANY) as server:
        reply = server.client.post(
            "/v1/rank", json={"candidates": items, "timeout_ms": 50, "k": 1000}
        )

    assert reply.status_code == 200
    slate = reply.json()
    assert slate["degraded"] == "popularity"
    assert (slate["model"]["engine"], slate["model"]["precision"]) == ("popularity", "none")
    assert [i["id"] for i in slate["items"]] == [items[at] for at in bundle.popularity]
    assert (slate["cache"]["result"], slate["cache"]["misses"]) == ("miss", len(items))


def test_without_degraded_answers_who_is_too_late_and_who_is_too_many_hear_it():
    with serving(settings="allow_degraded = false\n" + SETTINGS + WAITS_FOR_COMPANY) as server:
        late = server.client.post("/v1/rank", json={"candidates": ["i1"], "timeout_ms": 50})
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(server.rank, candidates=["i1", "i2", "i3"], timeout_ms=3000)
            wait_until(lambda: _queue_rows(server) == 3)
            refused = server.rank(candidates=["i4"])

    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) >= 1
    assert waiting.result().status_code == 504


def _queue_rows(server):
    deployments = server.client.get("/v1/models").json()["deployments"]
    return max(deployment["queue_rows"] for deployment in deployments)
