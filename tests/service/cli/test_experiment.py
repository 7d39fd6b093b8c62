"""``podium experiment``: one line for every answer that is not the expected one."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from experiments.decisions import DecisionRecord
from experiments.standing import Standing
from service.cli import run
from service.messages import DecisionsReply, ExperimentsReply, SourceStatus

CHANGES = ("start", "pause", "ramp", "promote", "rollback", "stop")
VERBS = [
    ["list"],
    ["list", "--json"],
    ["report", "x"],
    ["report", "x", "--json"],
    ["decisions", "x"],
    *([verb, "x"] for verb in CHANGES),
]


@contextmanager
def answering(body, status=200, *, asked=None):
    """Something on loopback that gives everybody the same answer."""
    asked = [] if asked is None else asked

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length", 0))
            asked.append((self.command, self.path, self.rfile.read(length)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def refused(capsys, *arguments):
    assert run(["experiment", *arguments]) == 1
    printed = capsys.readouterr()
    if "--json" in arguments:
        assert json.loads(printed.out)["error"]["message"] == printed.err[len("podium: ") : -1]
    else:
        assert printed.out == ""
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"{}", b'"\xff"', b""])
def test_another_service_is_told_from_podium(capsys, verb, body):
    with answering(body) as url:
        assert "the answer is not Podium's" in refused(capsys, *verb, "--url", url)


@pytest.mark.parametrize("body", [b"<html>no</html>", b"\xff"])
def test_a_refusal_of_somebody_else_is_one_line_too(capsys, body):
    with answering(body, 404) as url:
        assert "HTTP 404, and no answer of Podium's" in refused(capsys, "list", "--url", url)


def test_a_proxy_of_the_environment_is_not_asked(capsys, monkeypatch):
    body = msgspec.json.encode(
        ExperimentsReply(
            config_digest="x", experiments=(), source=SourceStatus(status="ok", since=0.0)
        )
    )
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    with answering(body) as url:
        assert run(["experiment", "list", "--url", url]) == 0
        assert "no experiments are defined" in capsys.readouterr().out
        assert run(["experiment", "list", "--url", url, "--json"]) == 0
        assert capsys.readouterr().out == body.decode() + "\n"


def test_an_api_key_that_is_no_header_is_one_line(capsys):
    with answering(b"{}") as url:
        line = refused(capsys, "list", "--url", url, "--api-key", "schlüssel")

    assert "the API key has characters" in line


@pytest.mark.parametrize("verb", CHANGES)
def test_a_change_is_posted_with_its_reason_and_answered_in_one_line(capsys, verb):
    standing = Standing(
        key="a b",
        generation=7,
        phase=3,
        state="running",
        stage=1,
        traffic_bp=500,
        since=1.0,
        definition="d",
    )
    asked = []
    with answering(msgspec.json.encode(standing), asked=asked) as url:
        words = [verb, "a b", "--url", url, "--reason", "why", "--if-generation", "6"]
        assert run(["experiment", *words]) == 0

    ((method, path, body),) = asked
    assert (method, path) == ("POST", f"/v1/experiments/a%20b/{verb}")
    sent = msgspec.json.decode(body)
    assert (sent["reason"], sent["if_generation"]) == ("why", 6)
    line = "a b: running, phase 3, stage 1, 5 % of the traffic, generation 7\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["ramp", "e", "--stage", "2"], "stage", 2),
        (["ramp", "e", "--traffic-bp", "50"], "traffic_bp", 50),
        (["promote", "e", "--variant", "new"], "variant", "new"),
    ],
)
def test_a_ramp_and_a_promotion_say_what_they_want(capsys, words, field, value):
    asked = []
    with answering(b"{}", asked=asked) as url:
        refused(capsys, *words, "--url", url)

    assert msgspec.json.decode(asked[0][2])[field] == value


def test_decisions_are_told_newest_first_with_who_and_why(capsys):
    after = Standing(
        key="e",
        generation=2,
        phase=1,
        state="promoted",
        promoted="new",
        since=1.0,
        definition="d",
    )
    record = DecisionRecord(
        at=1_700_000_000.0,
        key="e",
        action="promote",
        by="key:alice",
        reason="it\nwon",
        before=None,
        after=after,
        config_digest="x",
        dry_run=True,
    )
    body = msgspec.json.encode(DecisionsReply(key="e", decisions=(record,)))
    with answering(body) as url:
        assert run(["experiment", "decisions", "e", "--url", url]) == 0

    assert capsys.readouterr().out == (
        "2023-11-14 22:13:20Z  promote (dry run) by key:alice: promoted new, phase 1 (it won)\n"
    )


@pytest.mark.parametrize("verb", [*CHANGES, "decisions", "list"])
def test_every_verb_has_an_example_in_its_help(capsys, verb):
    assert run(["experiment", verb, "--help"]) == 0
    assert f"Example: podium experiment {verb}" in " ".join(capsys.readouterr().out.split())
