"""``podium demo`` from start to end, and stopped in the middle."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest


@pytest.fixture
def tmp_path(tmp_path_factory):
    """A short path: sockets in it are where they always are, beside the data."""
    return tmp_path_factory.mktemp("d")


@contextmanager
def demo(tmp_path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a terminal would start it; whatever happens, it ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def wait_for(process, pattern: str) -> str:
    """The first group of the first line on standard error that matches."""
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found.group(1)
    raise AssertionError(f"no line matches {pattern}, exit code {process.wait()}")


def listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", trust_env=False).is_success
    except httpx.ConnectError:
        return False


@pytest.mark.slow
def test_the_demo_reports_what_the_simulation_knows_to_be_true(tmp_path):
    with demo(tmp_path, "--sessions", "300") as process:
        output, errors = process.communicate()

    assert process.returncode == 0, errors
    assert re.match(r"3\d\d slates in", output)
    assert "Experiment demo-ranker" in output
    assert "FAILED" not in output
    assert "FAULT" not in output
    rows = {line.split()[0]: line.split() for line in output.splitlines()[-2:]}
    assert set(rows) == {"popularity", "dcn-fp32"}
    assert [row[-1] for row in rows.values()] == ["yes", "yes"]
    true_ctr = {name: float(row[-2].rstrip("%")) for name, row in rows.items()}
    assert true_ctr["dcn-fp32"] > 1.1 * true_ctr["popularity"]
    assert list(tmp_path.glob("podium-*")) == []


@pytest.mark.slow
def test_ctrl_c_stops_shoppers_service_and_stores(tmp_path):
    with demo(tmp_path, "--sessions", "100000") as process:
        url = wait_for(process, r"serving at (\S+)")
        assert listens(url)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    # A shell shows both as 130. CPython ends by the signal itself, after all clean-up, when
    # the interrupt passed through an exec() on its way, as in the import of some packages.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in errors
    assert not listens(url)
    assert list(tmp_path.glob("podium-*")) == []


@pytest.mark.slow
def test_the_service_can_be_kept_after_the_report(tmp_path):
    with demo(tmp_path, "--sessions", "20", "--keep-serving") as process:
        url = wait_for(process, r"still serving at (\S+);")
        assert listens(url)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()

    assert process.returncode == 0
    assert "Experiment demo-ranker" in output
    assert "Traceback" not in errors
    assert not listens(url)
