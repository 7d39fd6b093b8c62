"""Two variants: split by the published hash, sticky, and joined with their clicks."""

import base64
import json
import time
from datetime import UTC, datetime

import mmh3
import pytest

BUCKETS = 10_000_000


def published_variant(unit):
    """The split as experiments/README.md specifies it, with murmur3 and nothing of Podium."""
    seed = mmh3.hash("model.split", 0, signed=False)
    bucket = (mmh3.hash(unit, seed, signed=False) * BUCKETS) >> 32
    return "ranker" if bucket < BUCKETS // 2 else "popularity"


def event(reply, *, kind="impression", item=0, event_id, **changes):
    return {
        "event_id": event_id,
        "type": kind,
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][item]["id"],
        "position": item + 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
        **changes,
    }


def report_when(server, condition):
    """The report once it holds; events are added up a moment after they are accepted."""
    deadline = time.monotonic() + 30
    while True:
        report = server.client.get("/v1/experiments/model/report").json()
        if condition(report):
            return report
        assert time.monotonic() < deadline, report
        time.sleep(0.05)


def test_the_split_is_the_published_hash_and_sticky(server):
    for unit in [f"user {n}" for n in range(60)] + ["Ünïcode-ід", "12345", "x" * 256]:
        first = server.rank(user={"id": unit}, candidates=["i1", "i2"]).json()
        again = server.rank(user={"id": unit}, candidates=["i3"]).json()

        assert first["experiments"] == again["experiments"]
        assert first["experiments"][0]["variant"] == published_variant(unit)
        assert first["experiments"][0]["reason"] == "SPLIT"
        engine = {"ranker": "onnxruntime-cpu", "popularity": "popularity"}
        assert first["model"]["engine"] == engine[published_variant(unit)]


def test_a_session_is_the_unit_where_there_is_no_user_and_nobody_is_drawn_without_either(server):
    with_session = server.rank(session_id="s-9", candidates=["i1"]).json()
    nobody = server.rank(candidates=["i1"]).json()

    assert with_session["experiments"][0]["variant"] == published_variant("s-9")
    assert nobody["experiments"][0]["reason"] == "TARGETING_KEY_MISSING"
    assert nobody["exposure"] is None


def test_impressions_and_clicks_join_on_the_token_and_reach_the_report(server):
    before = report_when(server, lambda report: True)["variants"]
    shown = {"ranker": 0, "popularity": 0}
    clicked = dict(shown)
    events = []
    for n in range(40):
        reply = server.rank(user={"id": f"shopper {n}"}, candidates=[f"i{i}" for i in range(9)])
        reply = reply.json()
        variant = reply["experiments"][0]["variant"]
        shown[variant] += 1
        events += [event(reply, item=i, event_id=f"see-{n}-{i}") for i in range(3)]
        if n % 3:
            clicked[variant] += 1
            events.append(event(reply, kind="click", item=n % 3, event_id=f"click-{n}"))

    accepted = server.client.post("/v1/events", json=events)

    assert accepted.status_code == 202
    assert {result["status"] for result in accepted.json()["results"]} == {"accepted"}
    clicks = {v["name"]: v["clicks"] + clicked[v["name"]] for v in before}
    exposures = {v["name"]: v["exposures"] + shown[v["name"]] for v in before}
    report = report_when(
        server,
        # Exposures come after the replies, so perhaps later than the clicks.
        lambda report: all(
            v["clicks"] == clicks[v["name"]] and v["exposures"] >= exposures[v["name"]]
            for v in report["variants"]
        ),
    )
    for variant, old in zip(report["variants"], before, strict=True):
        assert variant["impressions"] - old["impressions"] == 3 * shown[variant["name"]]
        assert variant["ctr"]["low"] < variant["ctr"]["value"] < variant["ctr"]["high"]
        assert variant["users"] > 0


def test_events_sent_again_count_once(server):
    reply = server.rank(user={"id": "double"}, candidates=["i1", "i2"]).json()
    sent = [event(reply, event_id="double-1"), event(reply, kind="click", event_id="double-2")]

    first = server.client.post("/v1/events", json=sent).json()["results"]
    second = server.client.post("/v1/events", json=sent).json()["results"]

    assert [result["status"] for result in first] == ["accepted", "accepted"]
    assert [result["status"] for result in second] == ["duplicate", "duplicate"]


def test_forged_foreign_and_borrowed_tokens_are_rejected_and_the_others_go_on(server):
    mine = server.rank(user={"id": "honest"}, candidates=["i1", "i2"]).json()
    other = server.rank(user={"id": "other"}, candidates=["i1", "i2"]).json()
    version, key, payload, signature = mine["exposure"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["a"][0][2] = "ranker" if claims["a"][0][2] == "popularity" else "popularity"
    moved = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    events = [
        event(mine, event_id="t-forged", exposure=f"{version}.{key}.{moved}.{signature}"),
        event(mine, event_id="t-key", exposure=f"{version}.nokey.{payload}.{signature}"),
        event(mine, event_id="t-junk", exposure="junk"),
        event(mine, event_id="t-borrowed", exposure=other["exposure"]),
        event(mine, event_id="t-fine"),
    ]

    results = server.client.post("/v1/events", json=events).json()["results"]

    assert [result["status"] for result in results] == ["rejected"] * 4 + ["accepted"]
    assert [result.get("code") for result in results[:4]] == [
        "token_forged",
        "token_unknown_key",
        "token_malformed",
        "token_foreign_slate",
    ]


def test_an_event_of_an_unknown_slate_is_accepted_as_orphan_and_counted(server):
    reply = server.rank(user={"id": "o"}, candidates=["i1"]).json()
    orphan = event(reply, event_id="orphan-1", slate_id="01M80H4Z03G0S5VG11147VPNFM")
    del orphan["exposure"]

    (result,) = server.client.post("/v1/events", json=orphan).json()["results"]

    assert result["status"] == "orphan"
    metrics = server.client.get("/metrics").text
    assert 'podium_events_total{status="orphan",type="impression"}' in metrics


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"position": 0}, "$[0].position"),
        ({"type": "view"}, "$[0].type"),
        ({"timestamp": "yesterday"}, "$[0].timestamp"),
        ({"extra": 1}, "$[0]"),
    ],
)
def test_a_bad_event_is_rejected_alone_with_its_place(server, changes, path):
    reply = server.rank(user={"id": "bad"}, candidates=["i1"]).json()
    name = json.dumps(changes)
    events = [
        event(reply, event_id=f"bad-{name}", **changes),
        event(reply, event_id=f"good-{name}", kind="click"),
    ]

    results = server.client.post("/v1/events", json=events).json()["results"]

    assert results[0]["status"] == "rejected"
    assert results[0]["code"] == "invalid_event"
    assert path in results[0]["detail"]
    assert results[1]["status"] in ("accepted", "duplicate")


def test_newline_delimited_events_are_taken_as_well(server):
    reply = server.rank(user={"id": "lines"}, candidates=["i1", "i2"]).json()
    lines = [event(reply, event_id=f"line-{n}", item=n) for n in range(2)]
    body = "\n".join(json.dumps(line) for line in lines)

    results = server.client.post(
        "/v1/events", content=body, headers={"Content-Type": "application/x-ndjson"}
    ).json()["results"]

    assert [result["status"] for result in results] == ["accepted", "accepted"]
