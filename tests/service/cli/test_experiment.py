"""``podium experiment``: one line for every answer that is not the expected one."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from service.cli import run
from service.messages import ExperimentsReply

VERBS = [["list"], ["list", "--json"], ["report", "x"], ["report", "x", "--json"]]


@contextmanager
def answering(body, status=200):
    """Something on loopback that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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
    body = msgspec.json.encode(ExperimentsReply(config_digest="x", experiments=()))
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
