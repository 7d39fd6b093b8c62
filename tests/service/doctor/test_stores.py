"""Embedded servers are started, named ones are reached."""

from service.doctor.stores import store_findings
from service.settings import DeploymentSettings, RedisSettings, Settings


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


def test_a_server_that_answers_is_reached_and_looked_at(valkey_url):
    found = findings(url=valkey_url)

    assert [one.subject for one in found] == ["redis.url"] * len(found)
    assert found[0].state == "ok"
    assert all(one.state == "note" for one in found[1:])


def test_a_server_that_does_not_answer_is_a_problem_without_its_password():
    cache, events = findings(
        url="redis://:secret@127.0.0.1:1/0", events_url="redis://:secret@127.0.0.1:1/1"
    )

    for found, setting in ((cache, "redis.url"), (events, "redis.events_url")):
        assert (found.subject, found.state) == (setting, "problem")
        assert "does not answer" in found.found
        assert "secret" not in found.found
        assert found.advice == f"start it, or correct {setting}"


def test_a_url_that_is_none_is_a_problem():
    (found,) = findings(url="http://localhost")

    assert (found.subject, found.state) == ("redis.url", "problem")
