"""The segment modes over HTTP: the same slates as exact ones, from fewer scored rows."""

import re
import shutil

import pytest
from redis import Redis

from tests.support.bundles import write_tiny_segmented_bundle
from tests.support.server import launched, make_home
from tests.support.valkey import ValkeyServer, wait_until

ITEMS = [f"i{n}" for n in range(20)]
SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 1
[models]
directory = "bundles"
[redis]
url = "{url}"
[cache]
timeout_s = 2.0
first_level_ttl_s = 0.0
rows = "always"
[deployments.everything]
model = "tiny"
cache = "segment_rescore"
rescore_top = 1000
[deployments.some]
model = "tiny"
cache = "segment_rescore"
rescore_top = 6
[deployments.exact]
model = "tiny"
cache = "off"
[surfaces]
default = "exact"
everything = "everything"
some = "some"
"""


@pytest.fixture(scope="module")
def redis():
    with ValkeyServer() as server, Redis(unix_socket_path=str(server.socket_path)) as client:
        yield server.url, client


@pytest.fixture(scope="module")
def server(redis):
    home = make_home(settings=SETTINGS.replace("{url}", redis[0]))
    shutil.rmtree(home / "bundles")
    write_tiny_segmented_bundle(home / "bundles")
    with launched(home) as running:
        warm(running, redis[1])
        yield running
    shutil.rmtree(home)


def warm(server, redis):
    """Ask until there is a row for every item; the deployments share them, computing alike."""

    def complete():
        rank(server, "some")
        return len(rows_in(redis)) == len(ITEMS)

    wait_until(complete)


def rank(server, surface, user="u5", k=5):
    body = {"candidates": ITEMS, "user": {"id": user}, "k": k, "context": {"surface": surface}}
    reply = server.rank(**body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def rows_in(redis):
    return [key for key in redis.keys("podium:*:S:*") if not key.endswith(b":L")]


def rows_scored(server):
    page = server.client.get("/metrics").text
    return sum(float(n) for n in re.findall(r"^podium_rows_scored_total\{.*\} (\S+)", page, re.M))


@pytest.mark.parametrize("user", ["u0", "u7", "u12", "nobody"])
def test_with_everything_rescored_the_slate_is_the_exact_one(server, user):
    cached, exact = rank(server, "everything", user, k=20), rank(server, "default", user, k=20)

    assert cached["cache"]["result"] == "hit"
    assert cached["items"] == exact["items"]


def test_rescoring_some_scores_fewer_rows(server):
    before = rows_scored(server)
    reply = rank(server, "some")

    assert rows_scored(server) - before == 6
    assert (reply["cache"]["result"], reply["cache"]["hits"]) == ("hit", 20)
    scores = {item["id"]: item["score"] for item in rank(server, "default", k=20)["items"]}
    assert all(item["score"] == scores[item["id"]] for item in reply["items"])


@pytest.mark.parametrize("what", ["list", "garbage", "another item's row"])
def test_anything_else_under_a_key_is_a_miss_and_changes_no_score(server, redis, what):
    client = redis[1]
    key, other = sorted(rows_in(client))[:2]
    value = client.get(other)
    client.delete(key)
    if what == "list":
        client.rpush(key, "no", "row")
    else:
        client.set(key, b"\x80garbage" if what == "garbage" else value)
    exact = rank(server, "default", k=20)

    reply = rank(server, "everything", k=20)

    assert (reply["cache"]["hits"], reply["cache"]["misses"]) == (19, 1)
    assert reply["items"] == exact["items"]
    client.delete(key)
    warm(server, client)


def test_the_metrics_tell_of_rows_and_of_what_they_cost(server):
    rank(server, "some")
    page = server.client.get("/metrics").text

    assert re.search(r'^podium_cache_rows_total\{result="store_hits"\} [1-9]', page, re.M)
    assert 'podium_cache_rows_fetched{deployment="some"} 1.0' in page
    lookup = re.search(r'podium_cache_row_lookup_seconds\{deployment="some"\} (\S+)', page)
    assert lookup is not None
    assert 0 < float(lookup.group(1)) < 0.01


def test_a_bundle_without_segments_refuses_the_mode_with_one_line():
    home = make_home(settings=SETTINGS.replace("{url}", "redis://127.0.0.1:1"))
    refusal = r"deployment 'everything': cache = \"segment_rescore\" needs the segments of users"

    with pytest.raises(AssertionError, match=refusal), launched(home):
        pass

    shutil.rmtree(home)


def test_pages_of_rows_are_warmed_row_by_row(server, redis):
    asked = {"top": 1000, "pages": 1000, "first": 0, "context": {"surface": "some", "hour": 5}}
    before = set(rows_in(redis[1]))

    first, again = (server.client.post("/v1/cache/warm", json=asked).json() for _ in range(2))
    query = {"surface": "some", "hour": 5, "k": 6, "timeout_ms": 1000}
    page = server.client.get("/v1/items/i3/recommendations", params=query).json()
    looked_at = server.client.get("/v1/cache/entry", params={"item": "i3", "surface": "some"})

    assert first["next"] == first["top"] > 0
    assert (first["failed"], again["failed"]) == (0, 0)
    assert first["computed"] > 0
    assert (again["computed"], again["cached"]) == (0, again["top"] - again["empty"])
    assert len(set(rows_in(redis[1])) - before) == 50, "a row for every item"
    assert page["cache"]["misses"] == 0
    assert page["cache"]["result"] == "hit"
    assert looked_at.status_code == 400
    assert "score rows" in looked_at.text
