"""The engine process as a process: it may die at any moment, and so may those who call it."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from service.engines.host.client import EngineClient
from service.engines.host.keeper import engine_process
from service.errors import EngineFailed, StartupError
from service.testing import FakeEngine
from tests.support import engine_caller
from tests.support.engine_process import (
    CRASHING,
    LAYOUT,
    MODULE,
    REASON,
    REFUSED,
    WANTED,
    begin,
    deadly_rows,
    some_rows,
)
from tests.support.valkey import wait_until

LIMIT_S = 30.0
ROOT = Path(__file__).parents[4]


@pytest.fixture
def way():
    with engine_process(begin(), MODULE) as made:
        yield made
    wait_until(lambda: not pids(), limit_s=LIMIT_S)


@contextmanager
def opened(way, count=1, limit_s=LIMIT_S):
    with closing(EngineClient(way, max_execution_s=limit_s)) as client:
        yield client.open(WANTED, LAYOUT, count)[0]


def pids():
    """Of the engine processes that we started."""
    ours = os.getpid()
    tasks = Path(f"/proc/{ours}/task").iterdir()
    children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    return [pid for pid in children if MODULE in command_of(pid)]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_back(engine):
    try:
        engine.score(some_rows(1))
    except EngineFailed:
        return False
    return True


def test_a_process_that_dies_fails_the_call_at_once_and_the_next_one_scores(way):
    with opened(way, 2) as (engine, other):
        (first,) = pids()
        started = time.monotonic()
        with pytest.raises(EngineFailed, match="away"):
            engine.score(deadly_rows())
        with pytest.raises(EngineFailed, match="away"):
            other.score(some_rows(2))

        assert time.monotonic() - started < LIMIT_S / 3  # not for a limit to be over
        wait_until(lambda: is_back(engine) and is_back(other), limit_s=LIMIT_S)
        assert pids() != [first]
        np.testing.assert_array_equal(
            other.score(some_rows(50)), FakeEngine.expected(some_rows(50))
        )


def test_a_killed_process_is_back_without_a_call_that_asks_for_it(way):
    with opened(way) as (engine,):
        (first,) = pids()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: pids() not in ([], [first]), limit_s=LIMIT_S)
        wait_until(lambda: engine._lane is not None, limit_s=LIMIT_S)

        assert is_back(engine)


def test_what_a_dead_process_shared_with_us_is_freed(way):
    with opened(way, 2) as engines:
        wait_until(lambda: all(map(is_back, engines)), limit_s=LIMIT_S)
        before = held_by_us()
        for _ in range(3):
            with pytest.raises(EngineFailed, match="away"):
                engines[0].score(deadly_rows())
            wait_until(lambda: all(map(is_back, engines)), limit_s=LIMIT_S)

        # The other lane may be noticed to be dead, and opened again, a moment later.
        wait_until(lambda: held_by_us() == before, limit_s=LIMIT_S)
    assert held_by_us()[0] == 0


def held_by_us():
    """Maps of slots, and open files."""
    mapped = Path("/proc/self/maps").read_text().count("podium-slot")
    return mapped, len(list(Path("/proc/self/fd").iterdir()))


def test_a_refusal_comes_with_its_figures(way):
    with (
        closing(EngineClient(way, max_execution_s=1.0)) as client,
        pytest.raises(StartupError, match=REASON.replace(".", r"\.")),
    ):
        client.open(REFUSED, LAYOUT, 2)


def test_a_graph_that_kills_the_process_is_given_up(way):
    with closing(EngineClient(way, max_execution_s=1.0)) as client:
        with pytest.raises(StartupError, match="ended 3 times while it loaded fake of /crashing"):
            client.open(CRASHING, LAYOUT, 1)

        (engine,), _ = client.open(WANTED, LAYOUT, 1)
        assert is_back(engine)


@contextmanager
def caller(way, *, seed, threads=2, limit_s=5.0):
    """A worker process that calls and checks; it ends when its standard input does."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", engine_caller.MODULE),
            *map(str, (way.fileno(), seed, threads, limit_s)),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(way.fileno(),),
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_dies_when_nobody_hangs_and_no_score_is_wrong(way, seed):
    """Processes are killed at random moments, so now and then in the middle of everything."""
    moments = random.Random(seed)
    with caller(way, seed=10 * seed) as a, caller(way, seed=10 * seed + 5) as b:
        with caller(way, seed=7) as victim:
            time.sleep(moments.uniform(0.02, 0.2))
            victim.kill()
        for _ in range(3):
            time.sleep(moments.uniform(0.0, 0.3))
            for pid in pids():
                os.kill(pid, signal.SIGKILL)
            if moments.random() < 0.5:
                with opened(way) as (engine,):
                    assert is_back(engine)
        with opened(way) as (engine,):  # the process is there
            assert is_back(engine)
        time.sleep(0.3)
        told = [worker.communicate(timeout=LIMIT_S)[0] for worker in (a, b)]
        codes = [a.returncode, b.returncode]

    assert codes == [0, 0]
    figures = [
        f for text in told for f in msgspec.json.decode(text, type=list[engine_caller.Figures])
    ]
    assert all(figure.wrong == 0 for figure in figures)
    assert all(figure.scored > 0 and figure.failed > 0 for figure in figures)
    assert all(figure.scored_last for figure in figures)
    assert all(figure.longest_s < 5.0 for figure in figures)  # no call waited for its limit
