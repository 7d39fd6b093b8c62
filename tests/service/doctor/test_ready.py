"""`podium doctor --ready`: what a container's health check is told."""

import json
import subprocess
import sys

import pytest

from service.cli import run
from tests.service.doctor.test_surroundings import answering

WELL = b'{"status": "ready", "components": {"stores": {"status": "ok"}}}'
AILING = (
    b'{"status": "not_ready", '
    b'"components": {"ranker": {"status": "failed", "detail": "no engine"}}}'
)


def test_a_service_that_takes_traffic_is_ready(capsys):
    with answering(200, WELL) as port:
        assert run(["doctor", "--ready", "--url", f"http://127.0.0.1:{port}"]) == 0

    assert capsys.readouterr().out == f"http://127.0.0.1:{port}: ready\n"


def test_the_settings_and_the_environment_say_where_it_is(monkeypatch, capsys):
    with answering(200, WELL) as port:
        monkeypatch.setenv("PODIUM_SERVER__PORT", str(port))
        assert run(["doctor", "--ready", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["url"] == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, AILING, "not_ready: ranker is failed (no engine)"),
        (200, b"hello", "the answer is not Podium's"),
    ],
)
def test_a_service_that_takes_none_is_a_failure_with_the_reason(status, body, said, capsys):
    with answering(status, body) as port:
        assert run(["doctor", "--ready", "--url", f"http://127.0.0.1:{port}"]) == 1

    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_nobody_there_is_a_failure(capsys):
    assert run(["doctor", "--ready", "--url", "http://127.0.0.1:1"]) == 1

    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().err


def test_it_is_asked_without_what_serving_needs():
    """A health check runs every few seconds, beside the service."""
    heavy = ["numpy", "litestar", "redis", "httpx", "onnxruntime", "opentelemetry", "rich"]
    code = (
        "import sys; from service.cli import run; "
        "run(['doctor', '--ready', '--url', 'http://127.0.0.1:1']); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
