"""API keys over HTTP: the printed request works with one, and refusals say what is missing."""

import hashlib
import os
import shutil
import subprocess

import pytest

from tests.support.server import EXPERIMENTS, SETTINGS, serving

BACKEND, READER = "backend key $1", "reader key"


def key(name, secret, *scopes):
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f'[[auth.keys]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {list(scopes)}\n'


KEYS = key("backend", BACKEND, "rank") + key("reader", READER, "read")


@pytest.fixture(scope="module")
def guarded():
    with serving(settings=SETTINGS + KEYS, experiments=EXPERIMENTS) as server:
        yield server


def ranked(server, *, key=None, **body):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"candidates": ["i1", "i2"], "timeout_ms": 10_000, **body}
    return server.client.post("/v1/rank", json=body, headers=headers)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed request is for curl")
def test_the_printed_request_works_with_a_key_in_the_environment(guarded):
    line = next(line for line in guarded.welcome.splitlines() if "curl " in line)

    answers = [
        subprocess.run(
            ["sh", "-c", f"{line.strip()} -w '%{{http_code}}' -o /dev/null"],
            env={**os.environ, "PODIUM_API_KEY": secret},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for secret in (BACKEND, "another")
    ]

    assert answers == ["200", "401"]


@pytest.mark.parametrize("key", [None, "another"])
def test_without_a_known_key_nobody_ranks(guarded, key):
    answer = ranked(guarded, key=key)

    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorised"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_does_what_its_scopes_say_and_no_more(guarded):
    assert ranked(guarded, key=BACKEND).status_code == 200
    for answer in (
        ranked(guarded, key=READER),
        ranked(guarded, key=BACKEND, force={"model": "ranker"}),
    ):
        assert answer.status_code == 403
        assert answer.json()["code"] == "forbidden"


def test_machines_that_watch_need_no_key(guarded):
    assert guarded.client.get("/health/ready").status_code == 200
    assert guarded.client.get("/health/live").status_code == 200


def forced(server, **headers):
    body = {"candidates": ["i1", "i2"], "timeout_ms": 10_000, "force": {"model": "ranker"}}
    return server.client.post("/v1/rank", json=body, headers=headers).status_code


def test_no_environment_variable_makes_us_believe_who_a_stranger_says_he_is():
    with serving(experiments=EXPERIMENTS, environ={"FORWARDED_ALLOW_IPS": "*"}) as server:
        assert forced(server) == 200
        assert forced(server, **{"X-Forwarded-For": "127.0.0.1"}) == 403
        assert forced(server, **{"X-Forwarded-For": "10.1.2.3"}) == 403
        assert forced(server, Forwarded="for=127.0.0.1") == 403


@pytest.mark.parametrize(
    ("trusted", "scheme"), [("127.0.0.1", "https"), ("127.0.0.0/8", "https"), ("10.0.0.1", "http")]
)
def test_only_trusted_proxies_say_how_a_request_came(trusted, scheme):
    settings = SETTINGS.replace("[server]\n", f'[server]\ntrusted_proxies = ["{trusted}"]\n')
    with serving(settings=settings, experiments=EXPERIMENTS) as server:
        proxied = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}
        assert forced(server, **proxied) == 403

        page = server.client.get("/metrics").text

    counted = [line for line in page.splitlines() if "_duration_seconds_count" in line]
    assert any(f'scheme="{scheme}"' in line and "/v1/rank" in line for line in counted), counted


def test_only_a_key_with_the_scope_admin_changes_models(guarded):
    change = {"url": "/v1/models/tiny/load", "json": {"version": "00000000"}}

    unknown = guarded.client.post(**change)
    reader = guarded.client.post(**change, headers={"Authorization": f"Bearer {READER}"})

    assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthorised")
    assert (reader.status_code, reader.json()["code"]) == (403, "forbidden")


def test_the_live_page_is_for_everybody_and_its_figures_for_readers(guarded):
    events = "/dashboard/events"

    assert guarded.client.get("/dashboard").status_code == 200
    assert guarded.client.get(events).status_code == 401
    backend = {"Authorization": f"Bearer {BACKEND}"}
    assert guarded.client.get(events, headers=backend).status_code == 403
    reader = {"Authorization": f"Bearer {READER}"}
    with guarded.client.stream("GET", events, headers=reader) as reply:
        assert reply.status_code == 200
        assert next(reply.iter_lines()) == "event: hello"
