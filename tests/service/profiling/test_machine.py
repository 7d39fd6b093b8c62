"""What figures were measured on, and who else used it."""

import os
import time
from pathlib import Path

import pytest

from service.processes.plan import usable_cores
from service.profiling.machine import OtherWork, this_machine


def test_the_machine_is_described():
    machine = this_machine(0)

    assert machine.cores == usable_cores()
    assert machine.cpu
    assert {"python", "podium", "numpy"} <= set(machine.versions)


@pytest.mark.parametrize("stat", ["", "cpu", "cpu0 1 2"])
def test_where_the_system_does_not_say_it_other_work_is_unknown(tmp_path, stat):
    file = tmp_path / "stat"
    if stat:
        file.write_text(stat)

    assert OtherWork(file).cores() is None


def test_the_time_of_all_others_counts_and_our_own_does_not(tmp_path, monkeypatch):
    now, own = iter([10.0, 20.0]), iter([1.0, 4.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    file = tmp_path / "stat"
    file.write_text(stat_line(user=0))
    other = OtherWork(file)
    file.write_text(stat_line(user=800))  # 8 s at 100 ticks a second, 3 of them ours

    assert other.cores() == pytest.approx(0.5)


def stat_line(user: int) -> str:
    """One core that is ours to use, and one that is not."""
    core = min(os.sched_getaffinity(0))
    return f"cpu  9 9 9 9 9 9 9\ncpu{core} {user} 0 0 500 9 0 0 0 0 0\ncpu9999 {user} 1 1 1 1 1 1\n"


def test_linux_says_it_here():
    if not Path("/proc/stat").exists():
        pytest.skip("not Linux")
    other = OtherWork()
    assert (other.cores() or 0.0) >= 0.0
