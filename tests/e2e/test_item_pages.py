"""Item pages on the connection itself and through the framework: the same to the last byte."""

import re
import socket

import msgspec
import pytest

from service.cli import run
from tests.support.server import SETTINGS, serving
from tests.support.valkey import wait_until

CHANGING = ("slate_id", "timing_ms", "cache")


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


def page(server, item, query="timeout_ms=10000", **headers):
    """A page on the connection itself."""
    return server.client.get(f"/v1/items/{item}/recommendations?{query}", headers=headers)


def routed(server, item, query="timeout_ms=10000"):
    """The same page through the framework, which alone knows what %69 stands for."""
    escaped = f"%{ord(item[0]):02x}{item[1:]}"
    return server.client.get(f"/v1/items/{escaped}/recommendations?{query}")


def lasting(response):
    body = msgspec.json.decode(response.content)
    return [(name, value) for name, value in body.items() if name not in CHANGING]


@pytest.mark.parametrize("query", ["", "k=3", "device=ios&hour=7&k=50", "user_id=u3", "surface=x"])
def test_a_page_is_the_same_on_both_ways_computed_and_cached(server, query):
    query = f"timeout_ms=10000&{query}".rstrip("&")
    for _ in range(2):
        ours, theirs = page(server, "i3", query), routed(server, "i3", query)
        assert ours.status_code == theirs.status_code == 200
        assert lasting(ours) == lasting(theirs)
        assert {*ours.headers} == {*theirs.headers}
        assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert ours.json()["cache"]["result"] == theirs.json()["cache"]["result"] == "hit"


@pytest.mark.parametrize(
    ("item", "query"),
    [
        ("nothing", ""),
        ("i3", "k=0"),
        ("i3", "k=many"),
        ("i3", "colour=red"),
        ("i3", "hour=noon"),
        ("i3", "force_token=forged"),
    ],
)
def test_a_refusal_is_the_same_on_both_ways(server, item, query):
    ours, theirs = page(server, item, query), routed(server, item, query)

    assert ours.status_code == theirs.status_code >= 400
    assert ours.content == theirs.content
    assert ours.headers["content-type"] == theirs.headers["content-type"]


def test_both_ways_count_in_the_same_series(server):
    page(server, "i4")
    routed(server, "i4")

    metrics = server.client.get("/metrics").text

    routes = set(re.findall(r'http_route="(/v1/items[^"]*)"', metrics))
    assert len(routes) == 1


def test_a_page_asked_for_twice_is_known_in_the_process(server):
    page(server, "i5")

    cache = page(server, "i5").json()["cache"]

    assert (cache["result"], cache["level"]) == ("hit", "process")


def test_a_model_input_in_the_query_makes_another_page(server):
    page(server, "i6", "device=ios&timeout_ms=10000")

    other = page(server, "i6", "device=android&timeout_ms=10000").json()

    assert other["cache"]["result"] == "miss"


def test_requests_sent_at_once_are_answered_in_order(server):
    host, port = server.base_url.removeprefix("http://").split(":")
    items = [f"i{i}" for i in range(12)]
    requests = "".join(
        f"GET /v1/items/{item}/recommendations?k=1&timeout_ms=10000 HTTP/1.1\r\nhost: x\r\n\r\n"
        for item in items
    )
    expected = [page(server, item, "k=1&timeout_ms=10000").json()["items"] for item in items]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(requests.encode())
        received = b""
        while received.count(b"timing_ms") < len(items) or not received.endswith(b"}"):
            received += connection.recv(65_536)

    _, *replies = received.split(b"HTTP/1.1 200 OK\r\n")
    bodies = [reply.partition(b"\r\n\r\n")[2] for reply in replies]
    assert [msgspec.json.decode(body)["items"] for body in bodies] == expected


def test_a_flush_ends_what_the_process_itself_knows(server):
    page(server, "i7")
    assert page(server, "i7").json()["cache"]["result"] == "hit"

    assert run(["cache", "flush", "--url", server.base_url]) == 0

    wait_until(lambda: page(server, "i8").json()["cache"]["result"] == "miss", limit_s=1.0)
    assert page(server, "i7").json()["cache"]["result"] == "miss"


def test_pages_are_answered_alike_by_several_workers():
    settings = SETTINGS.replace("workers = 1", "workers = 2")
    with serving(settings=settings) as server:
        expected = lasting(routed(server, "i3"))
        for _ in range(8):
            with server.client.stream(
                "GET",
                "/v1/items/i3/recommendations?timeout_ms=10000",
                headers={"connection": "close"},
            ) as reply:
                reply.read()
                assert lasting(reply) == expected
