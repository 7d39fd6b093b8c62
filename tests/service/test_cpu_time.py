"""The line for a core counts as much as the core."""

import time
from pathlib import Path

import pytest

from service import cpu_time
from service.cpu_time import wanted_cpu_s


def test_it_is_no_less_than_what_the_thread_had():
    wanted, had = wanted_cpu_s(), time.thread_time()
    while time.thread_time() < had + 0.02:
        pass

    # The kernel brings its figures up to date with every tick.
    assert wanted_cpu_s() - wanted >= 0.01


def test_where_nobody_counts_the_line_it_is_what_the_thread_had(monkeypatch):
    monkeypatch.setattr(cpu_time, "_SCHEDSTAT", Path("/nowhere/schedstat"))

    assert wanted_cpu_s() == pytest.approx(time.thread_time(), abs=0.01)
