"""A worker's way to the engine process: opens slots, and opens them again when it is back.

A thread watches all lanes. The end of the process shows there at once, not
only when the next call fails, and a new lane then waits for the next process.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace

from service.engines import Engine, EngineInfo
from service.engines.host import wire
from service.engines.host.engine import Lane, SharedEngine
from service.engines.host.slot import Slot, SlotLayout, new_memory
from service.engines.memory import Hold, MemoryState
from service.errors import StartupError

MOST_ENDS: Final = 3
"""Times in a row that the process may end while it opens a slot, before loading is given up."""
CLOSING: Final = "the service is about to end"
RETRY_S: Final = 5.0
"""Before a slot is asked for again that was open once and was then refused."""
FULL_S: Final = 0.05
"""Before another try where as many lanes are on their way as the kernel keeps: some hundreds."""
_FULL: Final = (errno.EAGAIN, errno.ETOOMANYREFS)
_log = logging.getLogger(__name__)


class _Opening:
    """One engine, and the lane that it has or waits for. Of the client's thread alone."""

    def __init__(self, wish: wire.Open, engine: SharedEngine) -> None:
        self.wish, self.engine = wish, engine
        self.settled = threading.Event()
        """Set for good when the first attempt has come to something."""
        self.opened: wire.Opened | None = None
        self.refusal: str | None = None
        self.end: socket.socket | None = None
        self.slot: Slot | None = None
        self.lane: Lane | None = None
        self.ends = 0
        self.again_at = float("inf")


class EngineClient:
    """From any thread. `close` ends it.

    Args:
        way: Where lanes are sent to the process; it stays the caller's.
        max_execution_s: Longest that a call may take.
    """

    def __init__(self, way: socket.socket, *, max_execution_s: float) -> None:
        self._way, self._limit_s = way, max_execution_s
        self._poll = select.poll()
        self._by_descriptor: dict[int, _Opening] = {}
        self._waiting: set[_Opening] = set()
        self._todo: deque[Callable[[], None]] = deque()
        self._ours, self._wake = socket.socketpair()
        self._poll.register(self._ours, select.POLLIN)
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="podium-engines", daemon=True)
        self._thread.start()

    def open(
        self, wanted: wire.Wanted, layout: SlotLayout, count: int
    ) -> tuple[tuple[Engine, ...], wire.Opened]:
        """Engines of one graph; blocks until the process has loaded it.

        Returns:
            As many engines as asked for, and what the process said of theirs.

        Raises:
            StartupError: the process refuses, or ends whenever it tries; says why.
        """
        openings: dict[SharedEngine, _Opening] = {}
        for _ in range(count):
            engine = SharedEngine(lambda left: self._do(partial(self._leave, openings[left])))
            openings[engine] = _Opening(wire.Open(wanted=wanted, layout=layout), engine)
        for opening in openings.values():
            if not self._do(partial(self._begin, opening)):
                raise StartupError(CLOSING)
        for opening in openings.values():
            opening.settled.wait()
        refusals = [o.refusal for o in openings.values() if o.opened is None]
        if refusals:
            for engine in openings:
                engine.close()
            raise StartupError(str(refusals[0]))
        answers = [o.opened for o in openings.values() if o.opened is not None]
        return tuple(openings), answers[0]

    @property
    def memory(self) -> MemoryState:
        """What the process takes of the device for engines that we have; nothing while it is away.

        Of all workers, as they serve the same.
        """
        there = {
            opening.wish.wanted: opening.opened
            for opening in list(self._by_descriptor.values())
            if opening.lane is not None and opening.opened is not None
        }
        on_device = [said for said in there.values() if said.limit_bytes is not None]
        holds = [Hold(_title(s.engine), max(s.predicted_bytes, s.used_bytes)) for s in on_device]
        limit = next((said.limit_bytes for said in on_device), None)
        return MemoryState(limit, tuple(hold for hold in holds if hold.bytes))

    def close(self) -> None:
        """Close all lanes; engines fail from now on."""
        with self._lock:
            self._closing = True
            self._wake.send(b"w")
        self._thread.join()
        self._wake.close()
        self._ours.close()

    # --- the thread ----------------------------------------------------------------------

    def _do(self, what: Callable[[], None]) -> bool:
        """Let the thread do something; False if it does nothing any more."""
        with self._lock:
            if self._closing:
                return False
            self._todo.append(what)
            self._wake.send(b"w")
        return True

    def _work(self) -> None:
        while not self._closing:
            for descriptor, _ in self._poll.poll(self._patience_ms()):
                if descriptor == self._ours.fileno():
                    self._ours.recv(1024)
                elif descriptor in self._by_descriptor:
                    self._look(self._by_descriptor[descriptor])
            self._do_all()
            now = time.monotonic()
            for opening in [o for o in self._waiting if o.again_at <= now]:
                self._begin(opening)
        self._do_all()
        for opening in [*self._by_descriptor.values(), *self._waiting]:
            self._refuse(opening, CLOSING)
            self._drop(opening)

    def _do_all(self) -> None:
        while self._todo:
            self._todo.popleft()()

    def _patience_ms(self) -> float | None:
        if not self._waiting:
            return None
        first = min(opening.again_at for opening in self._waiting)
        return max(0.0, 1000 * (first - time.monotonic()))

    # --- lanes ---------------------------------------------------------------------------

    def _begin(self, opening: _Opening) -> None:
        """Send a new lane on its way."""
        self._waiting.discard(opening)
        try:
            opening.end, opening.slot = _new_lane(self._way, opening.wish)
        except OSError as error:
            if error.errno in _FULL:
                self._again_in(opening, FULL_S)
            else:
                reason = f"there is no way to the engine process: {error.strerror}"
                self._later(opening, reason)
            return
        self._by_descriptor[opening.end.fileno()] = opening
        self._poll.register(opening.end, select.POLLIN)

    def _look(self, opening: _Opening) -> None:
        """A lane has an answer, or is closed."""
        end, slot = opening.end, opening.slot
        assert end is not None
        assert slot is not None
        if opening.lane is not None:
            self._drop(opening)
            self._begin(opening)
            return
        try:
            answer = wire.answered_open(end)
        except wire.Gone:
            self._drop(opening)
            self._ended_early(opening)
            return
        if isinstance(answer, wire.Refused):
            self._drop(opening)
            self._later(opening, answer.reason)
            return
        # From now on only the end of the process is news here: answers are for those who call.
        self._poll.modify(end, 0)
        opening.lane = Lane(end, slot, self._limit_s)
        opening.ends, opening.opened = 0, answer
        rows = min(answer.engine.max_batch_rows, slot.layout.rows)
        info = replace(answer.engine, max_batch_rows=rows, shared=True)
        opening.engine.attach(opening.lane, info)
        opening.settled.set()

    def _ended_early(self, opening: _Opening) -> None:
        opening.ends += 1
        if opening.ends < MOST_ENDS:
            self._begin(opening)
            return
        wanted = opening.wish.wanted
        what = f"{wanted.engine} of {wanted.bundle}"
        times = f"ended {opening.ends} times while it loaded {what}"
        self._later(opening, f"the engine process {times}; its log lines say why")

    def _later(self, opening: _Opening, reason: str) -> None:
        """Give up what never was there; what was there may be there again."""
        if opening.opened is None:
            self._refuse(opening, reason)
            return
        _log.warning("an engine cannot be had again yet: %s", reason)
        self._again_in(opening, RETRY_S)

    def _again_in(self, opening: _Opening, delay_s: float) -> None:
        opening.again_at = time.monotonic() + delay_s
        self._waiting.add(opening)

    def _refuse(self, opening: _Opening, reason: str) -> None:
        if not opening.settled.is_set():
            opening.refusal = reason
            opening.settled.set()

    def _leave(self, opening: _Opening) -> None:
        self._waiting.discard(opening)
        self._drop(opening)

    def _drop(self, opening: _Opening) -> None:
        """Close the lane that an engine has."""
        end, lane = opening.end, opening.lane
        opening.end = opening.slot = opening.lane = None
        opening.engine.detach()
        if end is not None:
            self._poll.unregister(end)
            del self._by_descriptor[end.fileno()]
            if lane is not None:
                lane.close()
            end.close()


def _title(engine: EngineInfo) -> str:
    return f"{engine.model}@{engine.version} {engine.precision}"


def _new_lane(way: socket.socket, wish: wire.Open) -> tuple[socket.socket, Slot]:
    """Our end of a lane that is on its way, and its memory."""
    with contextlib.ExitStack() as undone:
        ours, theirs = socket.socketpair()
        undone.callback(ours.close)
        with theirs:
            memory = new_memory(wish.layout)
            try:
                slot = Slot(memory, wish.layout)
                wire.ask_to_open(ours, wish, memory)
            finally:
                os.close(memory)
            wire.introduce(way, theirs)
        undone.pop_all()
    return ours, slot
