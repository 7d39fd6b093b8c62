"""The express lane answers what the route answers: the same bytes for the same requests."""

import json
import re
import socket
import struct

import pytest

from tests.support.server import EXPERIMENTS, SETTINGS, serving

PASSING = {
    "plain": {"candidates": ["i1", "i2", "i3"]},
    "known user": {"candidates": ["i3", "i1", "i2"], "user": {"id": "u1"}, "k": 2},
    "session": {"candidates": ["i3", "i1", "i2"], "session_id": "s-1"},
    "context": {"candidates": ["i1", "i2"], "context": {"device": "ios", "hour": 21}},
    "surface": {"candidates": ["i1", "i2"], "context": {"surface": "uncached"}},
    "popularity": {"candidates": ["i1", "i2"], "context": {"surface": "popular"}},
    "unknown item": {"candidates": ["i1", "no such item"], "user": {"id": "nobody"}},
    "overrides": {"candidates": [{"id": "i1", "features": {"price": 3.5}}, "i2", {"id": "i3"}]},
    "anchor": {"candidates": ["i1", "i2"], "anchor_item": "i3"},
    "request id": {"candidates": ["i1", "i2"], "request_id": "r-\u00e4\u20ac"},
    "forced": {"candidates": ["i1", "i2"], "user": {"id": "u1"}, "force": {"model": "popularity"}},
    "external": {"candidates": ["i1"], "user": {"id": "u1"}, "external": {"model": "ranker"}},
    "explained": {"candidates": ["i1", "i2"], "context": {"surface": "popular"}, "explain": True},
}
REFUSED = {
    "empty": b"",
    "no json": b"{",
    "no object": b"[]",
    "no text": b'{"candidates": ["\xff"]}',
    "nested": b"[" * 40_000,
    "unknown field": b'{"candidates": ["i1"], "usr": {}}',
    "no candidates": b'{"candidates": [], "request_id": "r"}',
    "twice": b'{"candidates": ["i1", "i1"]}',
    "unknown feature": b'{"candidates": ["i1"], "context": {"moon": 1}, "request_id": "r-7"}',
    "no surface": b'{"candidates": ["i1"], "context": {"surface": null}, "request_id": "r"}',
    "wrong feature": b'{"candidates": ["i1", {"id": "i2", "features": {"price": {}}}]}',
    "no such variant": b'{"candidates": ["i1"], "force": {"model": "nope"}}',
}
UNUSUAL = "TE: trailers"
"""Asks for nothing, and sends a request to the route."""
ENGINES_ONLY = SETTINGS.replace('engines = ["popularity"]', 'cache = "off"').replace(
    '[deployments.ranker]\nmodel = "tiny"', '[deployments.ranker]\nmodel = "tiny"\ncache = "off"'
)
"""Nothing but an engine is ever waited for: such requests are answered without a task."""


WAYS = {
    "tasks": (SETTINGS, EXPERIMENTS),
    "engines only": (ENGINES_ONLY, EXPERIMENTS),
    "plain": (ENGINES_ONLY, None),
}
"""The ways through the express lane: settings and experiments."""


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def server(request):
    settings, experiments = request.param
    with serving(settings=settings, experiments=experiments) as running:
        yield running


def ask(server, body, *lines):
    """Both lanes' replies to a body, as they came."""
    return (exchange(server, body, *lines), exchange(server, body, *lines, UNUSUAL))


def exchange(server, body, *lines):
    fixed = (
        "POST /v1/rank HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return sent(server, fixed, lines, body)


def page(server, target, *lines):
    """The reply to a request for an item page."""
    return sent(server, (f"GET /v1/items/{target} HTTP/1.1", "Connection: close"), lines)


def sent(server, fixed, lines, body=b""):
    host, port = server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join((*fixed, *lines)).encode() + b"\r\n\r\n" + body)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def told(reply):
    """A reply without what is different every time: ids, tokens, times and so lengths."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    for volatile in (
        rb'"slate_id":"[^"]+"',
        rb'"exposure":"[^"]+"',
        rb'"timing_ms":{[^}]+}',
        rb'"age_ms":\d+',
        rb'"oldest_wait_ms":[^,}]+',
        rb'"batch":{[^}]+}',
    ):
        body = re.sub(volatile, b"", body)
    return re.sub(rb"content-length: \d+|date: [^\r]+", b"", head), body


@pytest.mark.parametrize("body", PASSING.values(), ids=PASSING)
def test_both_lanes_give_the_same_slate(server, body):
    data = json.dumps({"timeout_ms": 10_000, **body}).encode()
    exchange(server, data)  # from now on the cache says the same to both

    express, ordinary = ask(server, data)

    if b"there is no experiment" not in express:  # to force a variant of
        assert express.startswith(b"HTTP/1.1 200 OK\r\n"), express
    assert told(express) == told(ordinary)


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_both_lanes_refuse_in_the_same_words(server, body):
    express, ordinary = ask(server, body)

    assert express.startswith(b"HTTP/1.1 4"), express
    assert told(express) == told(ordinary)


@pytest.mark.parametrize(
    "target",
    [
        "i1/recommendations?timeout_ms=10000&surface=uncached&user_id=u1&k=3",
        "nope/recommendations",
        "../recommendations",
        "i1/recommendations?k=0&timeout_ms=0",
        # The first is named: in the order of the query, not of a set.
        "i1/recommendations?" + "&".join(f"wrong{n}=1" for n in range(20)),
    ],
)
def test_both_lanes_give_the_same_page(server, target):
    page(server, target)  # as above

    assert told(page(server, target)) == told(page(server, target, UNUSUAL))


@pytest.mark.parametrize("line", ["X-Forwarded-For: 127.0.0.1", "Via: 1.1 proxy"])
def test_both_lanes_know_who_may_force(server, line):
    body = b'{"candidates": ["i1"], "force": {"model": "ranker"}, "request_id": "r"}'

    express, ordinary = ask(server, body, line)

    assert express.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert told(express) == told(ordinary)


@pytest.mark.parametrize("settings", [SETTINGS, ENGINES_ONLY], ids=["tasks", "engines only"])
def test_both_lanes_refuse_under_load_in_the_same_words(settings):
    small = """
[batching]
mode = "fixed"
max_queue_delay_s = 30.0
max_waiting_rows = 3
"""
    with serving(settings=settings + small) as server:
        waiting = b'{"candidates": ["i1", "i2", "i3"], "timeout_ms": 10000}'
        host, port = server.base_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as holder:
            holder.sendall(
                b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(waiting) + waiting
            )
            while b'"queue_rows":3' not in server.client.get("/v1/models").content:
                pass

            express, ordinary = ask(server, b'{"candidates": ["i1"], "request_id": "r"}')

    assert express.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"retry-after: " in express
    assert told(express) == told(ordinary)


def test_keys_are_asked_for_on_both_lanes():
    keys = """
[[auth.keys]]
name = "backend"
sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
scopes = ["rank"]
"""
    body = b'{"candidates": ["i1"], "timeout_ms": 10000, "context": {"surface": "uncached"}}'
    with serving(settings=SETTINGS + keys) as server:
        for line, status in (
            ("Authorization: Bearer secret", 200),
            ("Authorization: bearer secret", 200),
            ("Authorization: Bearer wrong", 401),
            ("Authorization: Basic secret", 401),
            ("X-None: 1", 401),
        ):
            express, ordinary = ask(server, body, line)
            assert express.startswith(f"HTTP/1.1 {status} ".encode()), express
            assert told(express) == told(ordinary)
        forced = b'{"candidates": ["i1"], "force": {"model": "ranker"}}'
        express, ordinary = ask(server, forced, "Authorization: Bearer secret")
        assert express.startswith(b"HTTP/1.1 403 ")
        assert told(express) == told(ordinary)


@pytest.mark.parametrize(("settings", "experiments"), WAYS.values(), ids=WAYS)
def test_both_lanes_are_counted_alike(settings, experiments):
    body = b'{"candidates": ["i1", "i2"], "user": {"id": "u1"}, "timeout_ms": 10000}'
    wrong = b'{"candidates": ["i1"], "context": {"moon": 1}}'
    pages = []
    for lines in ((), (UNUSUAL,)):
        with serving(settings=settings, experiments=experiments) as server:
            for sent in (body, body, wrong, b"{"):
                exchange(server, sent, *lines)
            pages.append(counted(server.client.get("/metrics").text))

    assert pages[0] == pages[1]
    duration = 'http_server_request_duration_seconds_count{http_request_method="POST",'
    assert sum(n for series, n in pages[0].items() if series.startswith(duration)) == 4


def counted(page):
    """What a metrics page counts of rankings; what is written after a reply comes when it comes."""
    found = re.findall(r"^((?:http_server|podium)_\S*(?:_count|_total)\S*) (\S+)$", page, re.M)
    later = ("GET", "/metrics", "_kept", "aggregation", "spool")
    return {
        series: float(value) for series, value in found if not any(word in series for word in later)
    }


def test_callers_that_pipeline_and_leave_are_no_errors_of_ours(server):
    port = int(server.base_url.rpartition(":")[2])
    asked = b"GET /v1/models HTTP/1.1\r\nHost: podium\r\n\r\n" * 20
    at_once = struct.pack("ii", 1, 0)  # closing resets the connection: nothing more can be sent
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            line.sendall(asked)
            line.recv(1)
    while True:
        page = server.client.get("/metrics").text
        if 'http_server_active_requests{http_request_method="GET",url_scheme="http"} 1.0' in page:
            break

    errors = [line for line in server.lines if '"level":"error"' in line]
    assert errors == []
