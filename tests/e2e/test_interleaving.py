"""Interleaving over HTTP: two rankers on one slate, and clicks credited to the one that placed."""

import base64
import json
import time
from datetime import UTC, datetime

import pytest

from experiments.interleaving import coins
from tests.support.server import serving

DUEL = """
[[experiment]]
key = "duel"
method = "interleave"
[[experiment.variant]]
name = "model"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "popular"
share_bp = 5000
deployment = "popularity"
"""
ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture(scope="module")
def server():
    with serving(experiments=DUEL) as running:
        yield running


def claims_of(reply):
    return json.loads(base64.urlsafe_b64decode(reply["exposure"].split(".")[2] + "=="))


def clicked(reply, place, event_id, **changes):
    return {
        "event_id": event_id,
        "type": "click",
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][place]["id"],
        "position": place + 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
        **changes,
    }


def test_every_item_is_the_best_that_its_ranker_had_left(server):
    alone = {
        variant: [
            item["id"]
            for item in server.rank(
                user={"id": "u"}, candidates=ITEMS, k=12, force={"duel": variant}
            ).json()["items"]
        ]
        for variant in ("model", "popular")
    }
    for n in range(20):
        reply = server.rank(user={"id": "u"}, candidates=ITEMS, k=8, request_id=str(n)).json()

        claims = claims_of(reply)
        (reference,) = reply["experiments"]
        assert (reference["variant"], reference["reason"]) == ("interleaved", "SPLIT")
        assert claims["t"] == ["model", "popular"]
        shown = []
        for item, pick in zip(reply["items"], claims["p"], strict=True):
            order = alone[claims["t"][int(pick)]]
            assert item["id"] == next(i for i in order if i not in shown)
            shown.append(item["id"])
        # Whoever has the slate's id can draw the coins again.
        assert [int(pick) for pick in claims["p"][::2]] == list(coins(reply["slate_id"], "duel", 4))


def test_a_click_is_credited_to_the_ranker_that_placed_the_item_and_cannot_be_moved(server):
    reply = server.rank(user={"id": "clicker"}, candidates=ITEMS, k=4).json()
    version, key, _, signature = reply["exposure"].split(".")
    claims = claims_of(reply)
    claims["p"] = "1" * len(claims["p"])
    moved = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    results = server.client.post(
        "/v1/events",
        json=[
            clicked(reply, 0, "honest"),
            clicked(reply, 1, "moved", exposure=f"{version}.{key}.{moved}.{signature}"),
        ],
    ).json()["results"]

    assert results[0]["status"] == "accepted"
    assert (results[1]["status"], results[1]["code"]) == ("rejected", "token_forged")


def test_the_explanation_names_the_teams_and_the_documents_say_what_scores_mean(server):
    reply = server.rank(user={"id": "e"}, candidates=ITEMS, k=4, explain=True).json()

    assert list(reply["explain"]["teams"]) == [item["id"] for item in reply["items"]]
    schema = server.client.get("/schema/openapi.json").json()["components"]["schemas"]
    ranked = next(s for name, s in schema.items() if name.endswith("RankedItem"))
    assert "interleaved" in json.dumps(ranked)


def test_a_session_without_a_user_is_not_drawn(server):
    reply = server.rank(session_id="s", candidates=ITEMS).json()

    assert reply["experiments"][0]["reason"] == "TARGETING_KEY_MISSING"
    assert reply["exposure"] is None


def test_it_is_fast_enough_for_the_default_deadline(server):
    began = time.monotonic()
    replies = [
        server.rank(user={"id": f"u{n}"}, candidates=ITEMS, timeout_ms=5000).json()
        for n in range(50)
    ]

    assert {reply["degraded"] for reply in replies} == {None}
    assert time.monotonic() - began < 20
