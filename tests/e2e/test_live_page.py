"""The live page's data over HTTP, of two workers; the page itself is for `make verify`."""

import contextlib
import json
import re
import threading

import httpx

from tests.support.valkey import wait_until

CALLS, CONNECTIONS = 48, 6
LIMIT_S = 20.0


@contextlib.contextmanager
def listening(server, **headers):
    """What a page is told, as it comes: (event, id, data), on a connection of its own."""
    told = []
    with (
        httpx.Client(base_url=server.base_url, timeout=LIMIT_S) as client,
        client.stream("GET", "/dashboard/events", headers=headers) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-store"

        def read():
            with contextlib.suppress(httpx.StreamError, httpx.TransportError):
                fields = {}
                for line in reply.iter_lines():
                    if not line:
                        event = fields.get("event"), fields.get("id"), fields.get("data")
                        told.append((*event[:2], json.loads(event[2]) if event[2] else None))
                        fields = {}
                        continue
                    name, _, value = line.partition(": ")
                    fields[name] = value

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield told
        client.close()


def points(told):
    """The newest of each slot."""
    return {point["at"]: point for event, _, data in told if event == "points" for point in data}


def ended(told):
    return sum(sum(point.get("outcomes", {}).values()) for point in points(told).values())


def ranked(server):
    page = server.client.get("/metrics").text
    return sum(float(n) for n in re.findall(r"^podium_requests_total{.*} (\S+)$", page, re.M))


def test_every_stream_tells_the_sums_of_all_workers(several):
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=several.base_url, timeout=LIMIT_S))
            for _ in range(CONNECTIONS)
        ]
        for number in range(CALLS):
            body = {"candidates": ["i1", "i2"], "user": {"id": f"u{number}"}, "timeout_ms": 10_000}
            assert clients[number % CONNECTIONS].post("/v1/rank", json=body).status_code == 200
        counted = ranked(several)
        streams = [stack.enter_context(listening(several)) for _ in range(2)]
        for told in streams:
            wait_until(lambda told=told: ended(told) == counted, limit_s=LIMIT_S)

    assert counted >= CALLS
    variants = {name for point in points(streams[0]).values() for name in point.get("variants", {})}
    assert {"model:ranker", "model:popularity"} <= variants


def test_a_fresh_page_is_told_the_last_minutes_and_one_that_returns_only_what_is_new(several):
    with listening(several) as told:
        wait_until(lambda: points(told), limit_s=LIMIT_S)
        _, newest, history = next(one for one in told if one[0] == "points")
        assert told[0][0] == "hello"
        assert sum(sum(point.get("outcomes", {}).values()) for point in history) > 0

        with listening(several, **{"Last-Event-ID": newest}) as returned:
            wait_until(lambda: points(returned), limit_s=LIMIT_S)

    # A worker that was late may add to the three slots before the next one.
    assert min(points(returned)) >= max(point["at"] for point in history) - 6


def test_a_change_is_told_at_once_and_its_reason_with_the_report(several):
    with listening(several) as told:
        wait_until(lambda: views(told), limit_s=LIMIT_S)
        body = {"traffic_bp": 5000, "reason": "half of it"}
        assert several.client.post("/v1/experiments/model/ramp", json=body).status_code == 200
        wait_until(lambda: views(told)[-1]["traffic_bp"] == 5000, limit_s=3.0)
        wait_until(lambda: decisions(told)[:1] == [("ramp", "half of it")], limit_s=LIMIT_S)

    assert [arm["name"] for arm in views(told)[-1]["arms"]] == ["ranker", "popularity"]


def test_engines_are_told_over_all_workers(several):
    with listening(several) as told:
        wait_until(lambda: any(event == "loaded" for event, _, _ in told), limit_s=LIMIT_S)

    loaded = next(data for event, _, data in told if event == "loaded")
    models = several.client.get("/v1/models").json()
    assert loaded["readiness"]["status"] == "ready"
    assert [d["name"] for d in loaded["models"]["deployments"]] == [
        d["name"] for d in models["deployments"]
    ]


def views(told):
    return [view for event, _, data in told if event == "experiments" for view in data]


def decisions(told):
    figures = views(told)[-1]["figures"]
    return [(d["action"], d["reason"]) for d in figures["decisions"]] if figures else []
