"""QA and other flag systems over HTTP: signed tokens, and decisions by header."""

import hashlib
import time

import pytest

from service.cli import run
from tests.support.server import EXPERIMENTS, SETTINGS, serving

ADMIN, BACKEND = "admin key", "backend key"


def key(name, secret, *scopes):
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f'[[auth.keys]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {list(scopes)}\n'


KEYS = key("admin", ADMIN, "admin", "rank", "read") + key("backend", BACKEND, "rank")


@pytest.fixture(scope="module")
def guarded():
    with serving(settings=SETTINGS + KEYS, experiments=EXPERIMENTS) as server:
        yield server


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def minted(server, *, secret=ADMIN, experiment="model", **wanted):
    path = f"/v1/experiments/{experiment}/force-tokens"
    return server.client.post(path, json=wanted, headers=bearer(secret))


def ranked(server, headers=None, **body):
    body = {"candidates": ["i1", "i2"], "timeout_ms": 10_000, **body}
    given = {**bearer(BACKEND), **(headers or {})}
    return server.client.post("/v1/rank", json=body, headers=given)


def page(server, headers=None, **query):
    path = "/v1/items/i1/recommendations"
    given = {**bearer(BACKEND), **(headers or {})}
    return server.client.get(path, params={"timeout_ms": 10_000, **query}, headers=given)


def told(answer):
    assert answer.status_code == 200, answer.text
    (experiment,) = answer.json()["experiments"]
    return experiment["variant"], experiment["reason"]


@pytest.mark.parametrize("variant", ["popularity", "ranker"])
def test_whoever_has_a_token_sees_the_variant_and_is_not_counted(guarded, variant):
    token = minted(guarded, variant=variant).json()["token"]

    for answer in (
        ranked(guarded, force_token=token, user={"id": "u1"}),
        ranked(guarded, force_token=token),
        page(guarded, force_token=token, user_id="u1"),
    ):
        assert told(answer) == (variant, "FORCED")
        assert answer.json()["exposure"] is None


def test_forcing_without_a_token_still_needs_an_admin(guarded):
    answer = ranked(guarded, force={"model": "ranker"})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_only_an_admin_makes_tokens(guarded):
    assert minted(guarded, secret=BACKEND, variant="ranker").status_code == 403


def test_a_token_may_be_for_one_user_alone(guarded):
    made = minted(guarded, variant="popularity", unit="u1").json()

    assert told(ranked(guarded, force_token=made["token"], user={"id": "u1"}))[1] == "FORCED"
    for answer in (
        ranked(guarded, force_token=made["token"], user={"id": "u2"}),
        page(guarded, force_token=made["token"]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "force_token_invalid")


def test_a_forged_token_is_refused(guarded):
    token = minted(guarded, variant="ranker").json()["token"]
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")

    for answer in (ranked(guarded, force_token=forged), page(guarded, force_token=forged)):
        assert (answer.status_code, answer.json()["code"]) == (403, "force_token_invalid")


def test_a_token_expires(guarded):
    made = minted(guarded, variant="ranker", ttl_s=1).json()
    deadline = time.monotonic() + 30

    assert made["expires"] <= time.time() + 1
    while (answer := ranked(guarded, force_token=made["token"])).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (answer.status_code, answer.json()["code"]) == (403, "force_token_expired")


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"variant": "nope"}, 400, "invalid_request"),
        ({"variant": "ranker", "ttl_s": 0}, 400, "invalid_request"),
        ({"variant": "ranker", "ttl": 60}, 400, "invalid_request"),
        ({"variant": "ranker", "experiment": "nope"}, 404, "unknown_experiment"),
    ],
)
def test_a_token_for_nothing_is_not_made(guarded, wanted, status, code):
    answer = minted(guarded, **wanted)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_command_prints_a_token(guarded, capsys, monkeypatch):
    monkeypatch.setenv("PODIUM_API_KEY", ADMIN)
    url = str(guarded.client.base_url)

    arguments = ["model", "popularity", "--unit", "ü 1", "--ttl", "8h", "--url", url]
    assert run(["experiment", "force-token", *arguments]) == 0

    token = capsys.readouterr().out.strip()
    assert told(ranked(guarded, force_token=token, user={"id": "ü 1"})) == ("popularity", "FORCED")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model", "ranker", "--ttl", "1 week"], "--ttl takes a number and s, m, h or d"),
        (["model", "ranker", "--ttl", "31d"], "--ttl, in seconds: Expected `int` <= 2592000"),
        (["model", "nope"], "has no variant 'nope'; there are: "),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(guarded, capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("PODIUM_API_KEY", ADMIN)
    url = str(guarded.client.base_url)

    assert run(["experiment", "force-token", *arguments, "--url", url]) == 1

    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("variant", ["popularity", "ranker"])
def test_a_header_decides_for_rankings_and_pages_and_is_counted(guarded, variant):
    header = {"X-Experiment-Variant": f"model={variant}, elsewhere=on"}

    for answer in (
        ranked(guarded, header, user={"id": "u1"}),
        page(guarded, header, user_id="u1"),
    ):
        assert told(answer) == (variant, "EXTERNAL")
        assert answer.json()["exposure"] is not None


def test_the_field_wins_over_the_header(guarded):
    header = {"X-Experiment-Variant": "model=popularity"}

    answer = ranked(guarded, header, user={"id": "u1"}, external={"model": "ranker"})

    assert told(answer) == ("ranker", "EXTERNAL")


@pytest.mark.parametrize("header", ["nonsense", "=", "model=nope", ",,,", "model", "x" * 3000])
def test_a_header_that_says_nothing_of_ours_costs_no_slate(guarded, header):
    answer = ranked(guarded, {"X-Experiment-Variant": header}, user={"id": "u1"})

    expected = "DEFAULT" if header.startswith("model") else "SPLIT"
    assert told(answer)[1] == expected
