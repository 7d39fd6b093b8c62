"""Ranges for profilers: what a slot does, by name, beside what the device does for it."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Ranges = Callable[[str], Callable[[], AbstractContextManager[None]]]
"""Names a range once, and opens it as often as one likes."""


def nvtx_ranges() -> Ranges:
    """Ranges that a profiler such as Nsight Systems shows; without the package ``nvtx``, none."""
    try:
        nvtx = importlib.import_module("nvtx")
    except ImportError:
        return lambda _: nullcontext
    domain = nvtx.get_domain("podium")  # does nothing unless a profiler is attached

    def named(message: str) -> Callable[[], AbstractContextManager[None]]:
        attributes = domain.get_event_attributes(message=message)

        @contextmanager
        def opened() -> Iterator[None]:
            domain.push_range(attributes)
            try:
                yield
            finally:
                domain.pop_range()

        return opened

    return named
