"""Processes of a step: whatever they do, nothing of them is left."""

import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from service.errors import StartupError
from service.profiling.story.servers import Command, busy_s, running
from service.profiling.story.traffic import Page, Stream

PAGE = Stream([Page("a")], 1, [0])
SERVER = """\
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child", "w").write(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def python(code: str, **more: object) -> Command:
    return Command(arguments=[sys.executable, "-c", textwrap.dedent(code), "{port}"], **more)


def test_a_step_is_asked_accounted_for_and_stopped_with_all_that_it_started(tmp_path: Path):
    home = tmp_path / "step"

    with running(python(SERVER), home) as server:
        server.until_ready(PAGE)
        before = server.cpu_s()
        met = server.ask(PAGE, seconds=0.2, connections=2)
        child = int((home / "child").read_text())
        os.kill(child, 0)

    assert met.pages.answered > 0
    assert server.cpu_s() == 0.0  # nobody is there any more
    assert before > 0
    with pytest.raises(ProcessLookupError):
        _until_gone(child)


def _until_gone(pid: int) -> None:
    """Whoever adopted it may need a moment to take note of its end."""
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        os.kill(pid, 0)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; print('podium: no bundle'); sys.exit(3)", "ended with 3 .*: no bundle"),
        (
            "import sys, time; print('Traceback\\nKeyError: 1', flush=True); time.sleep(600)",
            "it failed: KeyError: 1",
        ),
    ],
)
def test_a_step_that_does_not_start_says_why(tmp_path, code, says):
    with (
        running(python(code), tmp_path / "step") as server,
        pytest.raises(StartupError, match=says),
    ):
        server.until_ready(PAGE)


def test_the_environment_of_the_caller_does_not_configure_a_step(tmp_path, monkeypatch):
    monkeypatch.setenv("PODIUM_SERVER__PORT", "1")
    code = "import os; print(sorted(k for k in os.environ if k.startswith('PODIUM')))"

    with (
        running(python(code, environ={"PODIUM_OWN": "1"}), tmp_path / "step") as server,
        pytest.raises(StartupError, match=r"\['PODIUM_OWN'\]"),
    ):
        server.until_ready(PAGE)


def test_settings_get_the_port(tmp_path):
    code = "import sys; print(sys.argv[1] == open('podium.toml').read())"

    with (
        running(python(code, settings="{port}"), tmp_path / "step") as server,
        pytest.raises(StartupError, match="True"),
    ):
        server.until_ready(PAGE)


def test_the_machine_has_worked():
    before = busy_s()

    assert busy_s() >= before > 0
