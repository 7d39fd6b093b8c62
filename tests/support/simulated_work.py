"""What stands in the streams of a simulated GPU, and when it is done on a simple device.

One copy in, one computation and one copy out at a time, each as long as the
constants say: by that clock timed events are compared.
"""

import ctypes
from collections import deque
from typing import TYPE_CHECKING

from tests.support.simulated_memory import Range, content, poison

if TYPE_CHECKING:
    from tests.support.simulated_gpu import SimulatedGpu

COPY_MS, COPY_BYTES_PER_MS = 0.005, 12e6
LAUNCH_MS, ROW_MS = 0.5, 0.001


class Event:
    """Passed once the stream came to the place where it was recorded last."""

    def __init__(self, *, timed: bool, blocking: bool) -> None:
        self.timed, self.blocking = timed, blocking
        self.recorded = self.passed = False
        self.at_ms = 0.0


class Work:
    """Something in a stream, with the memory that it reads and writes."""

    resource: str | None = None
    ms = 0.0

    def __init__(self, reads: list[Range] | None = None, writes: list[Range] | None = None) -> None:
        self.reads, self.writes = reads or [], writes or []
        self.enqueued_ms = 0.0

    def enqueued(self) -> None:
        """Called when it enters a stream that is not capturing."""

    def check(self, gpu: "SimulatedGpu") -> None:
        """Called before a graph that holds it is launched."""

    def run(self, gpu: "SimulatedGpu", at_ms: float) -> None:
        """Do it; ``at_ms`` is when it is done."""


class Copy(Work):
    """Between pinned memory and the device."""

    def __init__(self, kind: str, target: int, source: int, size: int) -> None:
        super().__init__([(source, size)], [(target, size)])
        self.resource, self.ms = kind, COPY_MS + size / COPY_BYTES_PER_MS
        self._expected = b""

    def enqueued(self) -> None:
        if self.resource == "out":
            poison(self.writes[0])
        self._expected = content(self._host)

    def run(self, gpu: "SimulatedGpu", at_ms: float) -> None:
        if content(self._host) != self._expected:
            gpu.broken("the host wrote to pinned memory before the device was done with it")
        (target, size), (source, _) = self.writes[0], self.reads[0]
        ctypes.memmove(target, source, size)

    @property
    def _host(self) -> Range:
        return self.reads[0] if self.resource == "in" else self.writes[0]


class Record(Work):
    """Marks an event as passed."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self._event = event

    def enqueued(self) -> None:
        self._event.recorded, self._event.passed = True, False

    def run(self, gpu: "SimulatedGpu", at_ms: float) -> None:
        self._event.passed, self._event.at_ms = True, at_ms


class Graph:
    """Work that was captured, and can be launched after it was instantiated."""

    def __init__(self, nodes: list[Work]) -> None:
        self.nodes = nodes
        self.alive = True


class Stream:
    """Work in order."""

    def __init__(self) -> None:
        self.queue: deque[Work] = deque()
        self.free_ms = 0.0
        self.capture: list[Work] | None = None
        self.capturing_thread = 0
