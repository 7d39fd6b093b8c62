"""Processes that score at the same time."""

import os
from pathlib import Path

import msgspec
import pytest

from ranking_models.errors import InputError
from service.profiling import together
from service.profiling.together import Job, Rates, rates_of
from service.settings import EngineSettings
from tests.support.bundles import write_tiny_bundle
from tests.support.profiles import contender


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        bundle=str(write_tiny_bundle(tmp_path)),
        contender=contender(),
        settings=EngineSettings(),
        plans=str(tmp_path / "plans"),
        rows=50,
        turn_s=0.01,
        seed=1,
    )


@pytest.fixture
def started(monkeypatch) -> list[int]:
    """The process ids of all children."""
    pids: list[int] = []
    popen = together.subprocess.Popen

    def noted(*arguments, **options):
        process = popen(*arguments, **options)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(together.subprocess, "Popen", noted)
    return pids


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_processes_score_and_end(job, started):
    rates = rates_of(job, 2)

    assert rates.alone > 0
    assert rates.together > 0
    assert len(started) == 2
    assert all(map(gone, started))


def test_a_bundle_that_is_gone_is_one_line_and_nobody_stays(job, started):
    lost = msgspec.structs.replace(job, bundle="/nowhere")

    with pytest.raises(InputError, match="/nowhere"):
        rates_of(lost, 2)
    assert all(map(gone, started))


def test_an_engine_that_cannot_be_loaded_is_named(job):
    other = msgspec.structs.replace(job, contender=contender(precision="fp16"))

    with pytest.raises(InputError, match="onnxruntime-cpu fp16"):
        rates_of(other, 1)


def test_a_process_that_dies_is_noticed(job, monkeypatch):
    monkeypatch.setattr(together, "_ENTRY", "import sys; sys.stdin.readline()")

    with pytest.raises(InputError, match="has ended"):
        rates_of(job, 1)


TEN_A_SECOND = """
import sys
for _line in sys.stdin:
    print('{"rows_per_s": 10.0}', flush=True)
"""


def test_the_rates_of_all_processes_are_added_up(job, monkeypatch):
    monkeypatch.setattr(together, "_ENTRY", TEN_A_SECOND)

    assert rates_of(job, 3) == Rates(alone=10.0, together=30.0)
