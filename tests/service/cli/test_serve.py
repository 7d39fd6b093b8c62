"""``podium serve``: usage that is wrong before anything starts."""

import json
import shutil
import signal
import subprocess
import sys
from itertools import takewhile

import pytest

from service.cli import run
from tests.support.server import make_home

SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 1
[models]
directory = "bundles"
[deployments.only]
model = "tiny"
engines = ["popularity"]
cache = "off"
"""


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_is_none_is_an_error_of_the_flag_and_not_of_a_file(capsys, port):
    assert run(["serve", "--port", port]) == 2

    error = capsys.readouterr().err
    assert "'--port'" in error
    assert ".toml" not in error
    assert error.count("\n") == 1


@pytest.fixture
def home():
    made = make_home(settings=SETTINGS)
    yield made
    shutil.rmtree(made)


def test_for_programs_it_says_where_it_serves_and_a_health_check_finds_it(home):
    command = [sys.executable, "-m", "service", "serve", "--json"]
    with subprocess.Popen(
        [*command, "--config", str(home / "podium.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            told = json.loads("".join(takewhile(lambda line: line != "}\n", process.stdout)) + "}")
            assert (told["pid"], told["workers"]) == (process.pid, 1)
            assert told["url"] == f"http://127.0.0.1:{told['port']}"
            assert run(["doctor", "--ready", "--url", told["url"]]) == 0
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""

    assert process.returncode == 0
    assert run(["doctor", "--ready", "--url", told["url"]]) == 1
