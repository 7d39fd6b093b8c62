"""Profilers see what slots do; without one it costs next to nothing."""

import sys
from types import ModuleType

import pytest

from service.engines.tensor_rt.ranges import nvtx_ranges


def test_without_nvtx_ranges_cost_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)

    with nvtx_ranges()("submit 64 rows")() as inside:
        assert inside is None


def test_with_nvtx_a_profiler_sees_ranges_that_end_even_after_a_failure(monkeypatch):
    """Of the package's interface: a domain, attributes made once, a range pushed and popped."""
    seen: list[str] = []

    class Domain:
        def get_event_attributes(self, message):
            return f"<{message}>"

        def push_range(self, attributes):
            seen.append(attributes)

        def pop_range(self):
            seen.append("end")

    nvtx = ModuleType("nvtx")
    nvtx.get_domain = lambda name: seen.append(name) or Domain()
    monkeypatch.setitem(sys.modules, "nvtx", nvtx)
    submit = nvtx_ranges()("submit 64 rows")

    with submit():
        pass
    with pytest.raises(ZeroDivisionError), submit():
        _ = 1 / 0

    assert seen == ["podium", "<submit 64 rows>", "end", "<submit 64 rows>", "end"]
