"""A GPU in memory that holds who uses it to CUDA's rules, and computes later, as a real one does.

What is enqueued in a stream runs when somebody waits for it (or, with
``background``, when its own thread gets to it), in the order of its stream;
which stream goes next is the test's choice. Until then results are poison,
whatever is read too early with them. A rule that is broken raises `RuleBroken`
where it is broken, and is remembered: with a real GPU it would have been a
wrong score on some days.
"""

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

from tests.support.simulated_memory import Allocation, Range, overlap, within
from tests.support.simulated_work import Event, Graph, Stream, Work


class RuleBroken(AssertionError):
    """What would be undefined behaviour, or silently slow, on a real GPU."""


class CudaError(Exception):
    """A call answers with this error code."""


class SimulatedGpu:
    """The device, its memory and its streams.

    Args:
        memory_bytes: Of the device.
        index: Which device it is; each thread must choose it first.
        choose: Given how many streams have work, which of them goes next.
        background: Work runs in a thread of the device's own, until `stop`.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 16 << 30,
        index: int = 0,
        choose: Callable[[int], int] = lambda streams: 0,
        background: bool = False,
    ) -> None:
        self.memory_bytes, self.index, self._choose = memory_bytes, index, choose
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._current = threading.local()
        self.memory: dict[int, Allocation] = {}
        self.streams: dict[int, Stream] = {}
        self.events: list[Event] = []
        self.graphs: list[Graph] = []
        self.foreign_bytes: dict[str, int] = {}
        """Device memory that TensorRT took itself, by what for."""
        self.allocations = 0
        self.executed: list[dict[str, npt.NDArray[Any]]] = []
        """The inputs of every execution."""
        self.violations: list[str] = []
        self.sticky = ""
        self.last_error = ""
        self.was_asked = False
        """Whether anybody asked for the number of devices."""
        self._faults: dict[str, list[tuple[int, str]]] = {}
        self._free_ms = {"in": 0.0, "compute": 0.0, "out": 0.0}
        self._host_ms = 0.0
        self._numbers = iter(range(1, 1 << 30))
        self._paused = False
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run_on, daemon=True)
            self._thread.start()

    # What a test does to it.

    def fail(self, call: str, error: str = "cudaErrorUnknown", after: int = 0) -> None:
        """One later call fails: the next one, or that after so many more.

        ``call`` is a function of CUDA's, or ``execution`` for the kernels of a
        batch (a sticky error, met by whoever waits), or a method of TensorRT's
        such as ``execute_async_v3``, which then answers None or False.
        """
        self._faults.setdefault(call, []).append((after, error))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is computed meanwhile; only with ``background``."""
        with self._changed:
            self._paused = True
        yield
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def stop(self) -> None:
        """End the background thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    @property
    def used_bytes(self) -> int:
        ours = sum(one.size for one in self.memory.values() if one.kind == "device")
        return ours + sum(self.foreign_bytes.values())

    def leaks(self) -> list[str]:
        """What is still there."""
        memory = [f"{one.size} bytes {one.kind}" for one in self.memory.values()]
        counted = {"stream": self.streams, "event": self.events, "graph": self.graphs}
        handles = [f"{len(there)} {name}s" for name, there in counted.items() if there]
        return memory + handles + [f"{b} bytes for {w}" for w, b in self.foreign_bytes.items()]

    def check(self) -> None:
        """Require that no rule was broken and nothing is left."""
        assert not self.violations, self.violations
        # What a lost device held is gone with it.
        assert self.sticky or not self.leaks(), self.leaks()

    # What the fakes of CUDA and TensorRT call, with the lock held.

    def broken(self, rule: str) -> None:
        self.violations.append(rule)
        raise RuleBroken(rule)

    def fault(self, call: str) -> str | None:
        """The error that this call is to fail with."""
        waiting = self._faults.get(call, [])
        if not waiting:
            return None
        after, error = waiting[0]
        if after:
            waiting[0] = (after - 1, error)
            return None
        waiting.pop(0)
        return error

    def set_device(self, index: int) -> None:
        self._current.index = index

    def require_device(self) -> None:
        if getattr(self._current, "index", 0) != self.index:
            self.broken(f"this thread's device is not {self.index}")

    def allocate(self, kind: str, size: int) -> int:
        self.require_not_capturing("allocates")
        if kind == "device" and self.used_bytes + size > self.memory_bytes:
            raise CudaError("cudaErrorMemoryAllocation")
        allocation = Allocation(kind, size)
        self.memory[allocation.address] = allocation
        self.allocations += 1
        return allocation.address

    def take(self, owner: object, what: str, size: int) -> bool:
        """Memory that TensorRT takes for an object, until that is gone."""
        if self.used_bytes + size > self.memory_bytes:
            return False
        self.allocations += 1
        self.foreign_bytes[what] = self.foreign_bytes.get(what, 0) + size
        weakref.finalize(owner, self._given_back, what, size).atexit = False
        return True

    def _given_back(self, what: str, size: int) -> None:
        self.foreign_bytes[what] -= size
        if not self.foreign_bytes[what]:
            del self.foreign_bytes[what]

    def free(self, kind: str, address: int) -> None:
        self.require_not_capturing("frees")
        allocation = self.memory.get(address)
        if allocation is None or allocation.kind != kind:
            self.broken(f"frees {kind} memory that is not there: never allocated, or freed twice")
        for work in self._pending():
            if any(overlap(r, (address, allocation.size)) for r in work.reads + work.writes):
                self.broken("frees memory that the device still uses")
        del self.memory[address]

    def write(self, address: int, values: bytes) -> None:
        """What the device computed."""
        self.require_memory("device", (address, len(values)), "a result")
        ctypes.memmove(address, values, len(values))

    def require_memory(self, kind: str, used: Range, what: str) -> None:
        for one in self.memory.values():
            if one.kind == kind and within(used, (one.address, one.size)):
                return
        self.broken(f"{what} is not in {kind} memory that is there")

    def require_not_capturing(self, what: str) -> None:
        here = threading.get_ident()
        for stream in self.streams.values():
            if stream.capture is not None and stream.capturing_thread == here:
                self.broken(f"{what} while it captures")

    def new_stream(self) -> int:
        number = next(self._numbers)
        self.streams[number] = Stream()
        return number

    def stream_of(self, number: int) -> Stream:
        self.require_device()
        if number == 0:
            self.broken("uses the default stream, on which all others wait")
        if number not in self.streams:
            self.broken("uses a stream that is not there")
        return self.streams[number]

    def destroy_stream(self, number: int) -> None:
        stream = self.stream_of(number)
        if stream.queue or stream.capture is not None:
            self.broken("destroys a stream that has work")
        del self.streams[number]

    def enqueue(self, number: int, work: Work) -> None:
        stream = self.stream_of(number)
        if stream.capture is not None:
            if stream.capturing_thread != threading.get_ident():
                self.broken("a second thread uses a stream that captures")
            stream.capture.append(work)
            return
        self._require_no_race(stream, work)
        work.enqueued_ms = self._host_ms
        work.enqueued()
        stream.queue.append(work)
        self._changed.notify_all()

    def begin_capture(self, number: int, mode: Any) -> None:
        stream = self.stream_of(number)
        if mode.name != "cudaStreamCaptureModeThreadLocal":
            self.broken("captures in a mode that forbids other threads to load models")
        if stream.capture is not None:
            raise CudaError("cudaErrorIllegalState")
        stream.capture, stream.capturing_thread = [], threading.get_ident()

    def end_capture(self, number: int) -> Graph:
        stream = self.stream_of(number)
        nodes, stream.capture = stream.capture, None
        if nodes is None:
            raise CudaError("cudaErrorIllegalState")
        if (error := self.fault("capture")) is not None:
            raise CudaError(error)
        return self.new_graph(nodes)

    def new_graph(self, nodes: list[Work]) -> Graph:
        graph = Graph(nodes)
        self.graphs.append(graph)
        return graph

    def destroy_graph(self, graph: Graph) -> None:
        if not graph.alive:
            self.broken("destroys a graph twice")
        if any(work in graph.nodes for work in self._pending()):
            self.broken("destroys a graph that runs")
        graph.alive = False
        self.graphs.remove(graph)

    def launch(self, graph: Graph, number: int) -> None:
        if not graph.alive:
            self.broken("launches a graph that is not there")
        if any(work in graph.nodes for work in self._pending()):
            self.broken("launches a graph that still runs")
        for node in graph.nodes:
            node.check(self)
            for used in node.reads + node.writes:
                if not any(within(used, (m.address, m.size)) for m in self.memory.values()):
                    self.broken("launches a graph whose memory was freed")
            self.enqueue(number, node)

    def new_event(self, *, timed: bool, blocking: bool) -> Event:
        event = Event(timed=timed, blocking=blocking)
        self.events.append(event)
        return event

    def destroy_event(self, event: Event) -> None:
        if event not in self.events:
            self.broken("destroys an event twice")
        if event.recorded and not event.passed and not self.sticky:
            self.broken("destroys an event that the device has not passed")
        self.events.remove(event)

    def wait_event(self, event: Event) -> None:
        self.require_not_capturing("waits")
        if event not in self.events:
            self.broken("waits for an event that is not there")
        if not event.blocking:
            self.broken("waits busily: the event is not of the kind that sleeps")
        if not event.recorded:
            self.broken("waits for an event that was never recorded")
        self._until(lambda: event.passed)
        self._host_ms = max(self._host_ms, event.at_ms)

    def wait_stream(self, number: int) -> None:
        self.require_not_capturing("waits")
        stream = self.stream_of(number)
        self._until(lambda: not stream.queue)
        self._host_ms = max(self._host_ms, stream.free_ms)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        if not (start.timed and end.timed):
            raise CudaError("cudaErrorInvalidResourceHandle")
        if not (start.passed and end.passed):
            raise CudaError("cudaErrorNotReady")
        return end.at_ms - start.at_ms

    def step(self) -> bool:
        """Run one piece of work; False if there is none."""
        with self.lock:
            ready = [stream for stream in self.streams.values() if stream.queue]
            if not ready or self.sticky:
                return False
            stream = ready[self._choose(len(ready))]
            work = stream.queue[0]
            start = max(stream.free_ms, work.enqueued_ms, self._free_ms.get(work.resource, 0.0))
            stream.free_ms = start + work.ms
            if work.resource is not None:
                self._free_ms[work.resource] = stream.free_ms
            try:
                work.run(self, stream.free_ms)
            except CudaError as error:  # asynchronous: met by whoever comes next
                self.sticky = str(error)
            finally:
                stream.queue.popleft()
                self._changed.notify_all()
            return True

    def _until(self, done: Callable[[], bool]) -> None:
        while not done() and not self.sticky:
            if self.violations:
                raise RuleBroken(self.violations[0])
            if self._thread is not None:
                self._changed.wait()
            elif not self.step():
                self.broken("waits for what will never come")
        if self.sticky:
            raise CudaError(self.sticky)

    def _run_on(self) -> None:
        with self._changed:
            while self._thread is not None:
                try:
                    worked = not self._paused and self.step()
                except RuleBroken:  # remembered; whoever waits hears of it
                    self._changed.notify_all()
                    worked = False
                if not worked:
                    self._changed.wait(1.0)

    def _pending(self) -> Iterator[Work]:
        if not self.sticky:
            for stream in self.streams.values():
                yield from stream.queue

    def _require_no_race(self, own: Stream, work: Work) -> None:
        for stream in self.streams.values():
            for other in stream.queue if stream is not own else ():
                clash = [(a, b) for a in work.writes for b in other.reads + other.writes]
                clash += [(a, b) for a in work.reads for b in other.writes]
                if any(overlap(a, b) for a, b in clash):
                    self.broken("two streams use the same memory at the same time")
