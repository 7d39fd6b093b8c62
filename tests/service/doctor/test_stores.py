"""Embedded servers are started, named ones are reached."""

import re

from service.doctor.stores import store_findings
from service.settings import CacheSettings, DeploymentSettings, RedisSettings, Settings
from tests.support.valkey import ValkeyServer


def findings(**redis):
    deployments = {"only": DeploymentSettings(model="tiny")}
    settings = Settings(redis=RedisSettings(**redis), deployments=deployments)
    return list(store_findings(settings))


def test_the_embedded_servers_start():
    (found,) = findings()

    assert (found.state, found.found) == ("ok", "starts and answers (cache, events)")


def test_embedded_servers_that_cannot_run_are_a_problem_with_the_way_out(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Plan9")

    (found,) = findings()

    assert (found.subject, found.state) == ("embedded Valkey", "problem")
    assert "the embedded cache server cannot run" in found.found
    assert found.advice == "set redis.url to a Redis or Valkey server of your own"


def test_a_server_that_answers_is_timed_and_looked_at(valkey):
    found = findings(url=valkey.url)

    assert {one.subject for one in found} == {"redis.url"}
    assert re.search(r"answers, (Valkey|Redis) \S+, a round trip takes 0\.\d+ ms", found[0].found)
    advice = {one.advice for one in found if one.state == "note"}
    assert "set maxmemory" in advice  # it keeps the cache
    assert "set appendonly yes" in advice  # and without events_url the events too
    assert [one.found for one in found if one.state == "ok"][1:] == [
        "all commands for cache are allowed",
        "all commands for events are allowed",
    ]


def test_servers_that_are_set_up_for_what_they_keep_are_fine():
    with (
        ValkeyServer(maxmemory="10mb", maxmemory_policy="allkeys-lfu") as cache,
        ValkeyServer(appendonly="yes", appendfsync="always") as events,
    ):
        found = findings(url=cache.url, events_url=events.url)

    assert {one.state for one in found} == {"ok"}
    assert {one.subject for one in found} == {"redis.url", "redis.events_url"}


def test_nothing_of_the_look_is_left(valkey):
    findings(url=valkey.url)

    assert valkey.command("DBSIZE") == b":0\r\n"


def test_a_user_without_the_rights_is_told_which(valkey):
    rights = ("~podium:*", "-@all", "+get", "+mget", "+del", "+ping", "+select", "+info")
    valkey.command("ACL", "SETUSER", "half", "on", ">pw", *rights)
    url = valkey.url.replace("unix://", "unix://half:pw@")

    found = findings(url=url, events_url=valkey.url)

    refused = next(one for one in found if one.state == "problem")
    assert refused.found == "its user may not use set on keys that begin with podium:"
    assert refused.advice == "ACL SETUSER <user> ~podium:* +set"


def test_a_wrong_password_is_told_from_a_server_that_is_away(valkey):
    valkey.command("CONFIG", "SET", "requirepass", "right")

    (found,) = findings(
        url=valkey.url.replace("unix://", "unix://default:wrong@"),
        events_url=valkey.url.replace("unix://", "unix://default:wrong@"),
    )

    assert (found.state, found.advice) == ("problem", "correct user and password of redis.url")
    assert "wrong" not in found.found.partition(" does not let us in")[0]


def test_a_server_that_is_slower_than_a_lookup_may_be_is_a_problem(valkey):
    settings = Settings(
        redis=RedisSettings(url=valkey.url, events_url=valkey.url),
        deployments={"only": DeploymentSettings(model="tiny")},
        cache=CacheSettings(timeout_s=1e-6),
    )

    found = next(iter(store_findings(settings)))

    assert (found.subject, found.state) == ("redis.url", "problem")
    assert "calls are given up after 0.001 ms" in found.found


def test_everything_that_is_not_well_comes_with_what_to_do(valkey):
    for found in findings(url=valkey.url):
        assert (found.state == "ok") == (found.advice == ""), found


def test_a_server_that_does_not_answer_is_a_problem_without_its_password():
    cache, events = findings(
        url="redis://:secret@127.0.0.1:1/0", events_url="redis://:secret@127.0.0.1:1/1"
    )

    for found, setting in ((cache, "redis.url"), (events, "redis.events_url")):
        assert (found.subject, found.state) == (setting, "problem")
        assert "does not answer" in found.found
        assert "secret" not in found.found
        assert found.advice == f"start it, or correct {setting}"


def test_sentinels_that_are_away_are_one_short_line():
    found, _ = findings(
        url="redis+sentinel://:secret@127.0.0.1:1/main", events_url="redis://127.0.0.1:1"
    )

    shown = "redis+sentinel://:***@127.0.0.1:1/main"
    assert found.found.startswith(
        f"{shown} does not answer (MasterNotFoundError: no master called main: 127.0.0.1:1: "
    )
    assert "\n" not in found.found
    assert "secret" not in found.found


def test_a_url_that_is_none_is_a_problem():
    (found,) = findings(url="http://localhost")

    assert (found.subject, found.state) == ("redis.url", "problem")
