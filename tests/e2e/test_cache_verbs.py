"""``podium cache`` against a real service: filled, looked into, purged, and never in the way."""

import subprocess
import sys

import msgspec
import pytest

from service.cli import run
from service.warming.values import CacheView, EntryView, WarmReply
from tests.support.server import SETTINGS, serving
from tests.support.valkey import wait_until

ITEMS = 50


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


@pytest.fixture
def podium(server, capsys):
    """Calls a verb of ``podium cache`` for that server: exit code, output, errors."""

    def podium(*arguments, code=0):
        ended = run(["cache", *arguments, "--url", server.base_url])
        said = capsys.readouterr()
        assert ended == code, said.err
        return said.out if code == 0 else said.err

    return podium


@pytest.fixture(autouse=True)
def purged(server):
    """Nothing is kept, and the service knows."""
    epoch = server.client.post("/v1/cache/flush").json()["epoch"]
    wait_until(lambda: server.client.get("/v1/cache").json()["epoch"] == epoch, limit_s=1.0)
    return epoch


def page(server, item, **query):
    reply = server.client.get(
        f"/v1/items/{item}/recommendations", params={"timeout_ms": 10_000, **query}
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_warmed_page_is_a_hit_with_the_very_scores_that_are_computed_without_a_cache(
    server, podium
):
    podium("warm", "--top", str(ITEMS))

    for item in ("i0", "i7", "i49"):
        cached, computed = page(server, item), page(server, item, surface="uncached")
        assert cached["cache"]["result"] == "hit"
        assert computed["cache"]["result"] == "bypass"
        assert cached["items"] == computed["items"]


def test_warming_begins_with_the_most_popular_and_ends_where_it_is_told(server, podium):
    podium("warm", "--top", "10")

    results = [page(server, f"i{i}")["cache"]["result"] for i in range(ITEMS)]

    assert results.count("hit") == 10


def test_what_is_kept_already_is_not_computed_again(server, podium):
    podium("warm", "--top", "30")

    again = msgspec.json.decode(podium("warm", "--top", "40", "--json"), type=dict)

    assert (again["computed"], again["cached"], again["failed"]) == (10, 30, 0)


def test_pages_of_another_context_are_other_pages(server, podium):
    podium("warm", "--top", str(ITEMS), "--context", "device=ios", "--context", "hour=7")

    assert page(server, "i3", device="ios", hour=7)["cache"]["result"] == "hit"
    assert page(server, "i3", device="ios", hour=8)["cache"]["result"] == "miss"


def test_it_goes_on_where_a_killed_warming_has_got_to(server, podium):
    """At a few pages a second, so that it is killed in the middle."""
    command = ["cache", "warm", "--top", "40", "--rate", "8", "--url", server.base_url]
    killed = subprocess.Popen([sys.executable, "-m", "service", *command])
    try:
        wait_until(lambda: is_warm(server, podium, places=8))
    finally:
        killed.kill()
        killed.wait()

    rest = msgspec.json.decode(podium("warm", "--top", "40", "--resume", "--json"), type=dict)

    assert rest["first"] >= 8
    assert rest["next"] == 40
    assert msgspec.json.decode(podium("warm", "--top", "40", "--json"), type=dict)["cached"] == 40


def is_warm(server, podium, *, places):
    """Whether that many places of the popularity order are noted as done."""
    asked = {"top": ITEMS, "pages": 1, "rate_per_s": 1e-3}
    reply = server.client.post("/v1/cache/warm", json=asked)
    return msgspec.json.decode(reply.content, type=WarmReply).first >= places


def test_after_a_purge_no_page_is_a_hit_and_nothing_is_resumed(server, podium):
    podium("warm", "--top", str(ITEMS))
    assert page(server, "i1")["cache"]["result"] == "hit"

    assert "epoch" in podium("flush")
    wait_until(lambda: page(server, "i1")["cache"]["result"] == "miss", limit_s=1.0)

    rest = msgspec.json.decode(podium("warm", "--top", "20", "--resume", "--json"), type=dict)
    assert rest["first"] == 0


def test_a_page_is_found_with_its_age_and_the_time_it_has_left(server, podium):
    podium("warm", "--top", str(ITEMS))

    view = msgspec.json.decode(podium("inspect", "--item", "i3", "--json"), type=EntryView)

    assert view.is_present
    assert view.is_readable
    assert view.candidates == len(page(server, "i3", k=1000)["items"])
    assert 0 <= view.age_s < 60
    assert 200 < view.fresh_for_s < 400
    assert view.fresh_for_s <= view.expires_in_s
    by_key = msgspec.json.decode(podium("inspect", "--key", view.key, "--json"), type=EntryView)
    assert by_key.size_bytes == view.size_bytes


def test_a_page_that_nobody_asked_for_is_not_there(podium):
    assert "not there" in podium("inspect", "--item", "i3")


def test_the_whole_cache_is_shown_with_its_server_and_its_keys_by_kind(server, podium, purged):
    podium("warm", "--top", "12")

    view = msgspec.json.decode(podium("inspect", "--count", "--json"), type=CacheView)

    assert view.state == "connected"
    assert view.epoch == purged
    assert view.modes == {"ranker": "exact", "uncached": "off", "popularity": "off"}
    assert view.keys.slates == 12
    assert view.keys.is_complete
    assert view.server.policy == "allkeys-lfu"
    assert view.server.used_memory_bytes <= view.server.max_memory_bytes
    assert view.lookups.writes >= 12


def test_what_cannot_be_done_is_one_line(podium):
    assert podium("warm", "--surface", "uncached", code=1).count("\n") == 1
    assert "its cache is off" in podium("warm", "--surface", "uncached", code=1)
    assert "no deployment 'x'" in podium("warm", "--deployment", "x", code=1)
    assert "unknown feature" in podium("warm", "--context", "colour=red", code=1)
    assert "NAME=VALUE" in podium("warm", "--context", "colour", code=2)
    assert "no experiment 'x'" in podium("warm", "--variant", "x=y", code=1)
    assert "no experiment 'x'" in podium("inspect", "--item", "i3", "--variant", "x=y", code=1)
    assert "EXPERIMENT=NAME" in podium("warm", "--variant", "x", code=2)
    assert "exclude" in podium("warm", "--variant", "x=y", "--deployment", "x", code=2)
    assert "unknown_item" in podium("inspect", "--item", "nothing", code=1)


def test_a_wrong_address_is_one_line(capsys):
    assert run(["cache", "warm", "--url", "http://127.0.0.1:9"]) == 1
    assert "is podium serve running?" in capsys.readouterr().err


def test_without_a_cache_server_warming_says_so_and_inspect_shows_it(capsys):
    settings = f'{SETTINGS}\n[redis]\nurl = "redis://127.0.0.1:9/0"\n'
    with serving(settings=settings) as server:
        assert run(["cache", "warm", "--url", server.base_url]) == 1
        assert "cache_unavailable" in capsys.readouterr().err
        assert run(["cache", "flush", "--url", server.base_url]) == 1
        assert "cache_unavailable" in capsys.readouterr().err
        assert run(["cache", "inspect", "--url", server.base_url]) == 0
        assert "degraded" in capsys.readouterr().out


KEYS = """
[[auth.keys]]
name = "reader"
sha256 = "ec4408df15da46b328f6f3246fa723d0aa6cb0f0a0dd9c4626080ab1b02aa3b2"
scopes = ["read", "rank"]
"""


def test_without_the_scope_admin_nothing_is_told_or_done():
    with serving(settings=SETTINGS + KEYS) as server:
        headers = {"Authorization": "Bearer reader-key"}
        for method, path in (
            ("POST", "/v1/cache/warm"),
            ("POST", "/v1/cache/flush"),
            ("GET", "/v1/cache"),
            ("GET", "/v1/cache/entry?item=i0"),
        ):
            assert server.client.request(method, path).status_code == 401
            assert server.client.request(method, path, headers=headers).status_code in (401, 403)
