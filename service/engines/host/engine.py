"""A slot of the engine process as an engine of a worker."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.engines.host import wire
from service.engines.host.slot import Slot
from service.engines.rows import CandidateRows
from service.errors import EngineFailed, OutOfDeviceMemory

AWAY = "the engine process is away"


class Lane:
    """A slot that one run of the engine process scores, seen from the worker.

    Args:
        end: Ours of its socket; the process has answered that it is open.
        slot: Mapped by both.
        limit_s: Longest that a call may take.
    """

    def __init__(self, end: socket.socket, slot: Slot, limit_s: float) -> None:
        self.slot = slot
        self._end, self._limit_s = end, limit_s
        self._calling = threading.Lock()
        self._calls = 0
        self._owes = False
        end.settimeout(limit_s)

    def score(self, write: Callable[[Slot], None], rows: int) -> Float32:
        """Let rows be written to the slot, and be scored.

        Raises:
            EngineFailed: the engine did not score them, or the process is gone or too slow.
        """
        with self._calling:
            try:
                self._take_back()
                write(self.slot)
                return self._ask(rows)
            except wire.Gone:
                raise EngineFailed(AWAY) from None

    def close(self) -> None:
        """Say no more; a call under way fails."""
        with contextlib.suppress(OSError):  # the process has ended
            self._end.shutdown(socket.SHUT_RDWR)
        with self._calling:
            self._end.close()

    def _take_back(self) -> None:
        """Have the slot again that a call did not wait for: until then it is the process's."""
        if not self._owes:
            return
        if self._end.fileno() < 0:
            raise wire.Gone
        self._end.setblocking(False)
        try:
            wire.next_done(self._end)
        except BlockingIOError:
            raise EngineFailed("the engine process is still at a call that took too long") from None
        finally:
            self._end.settimeout(self._limit_s)
        self._owes = False

    def _ask(self, rows: int) -> Float32:
        self._calls += 1
        wanted_by = time.monotonic() + self._limit_s
        wire.ring(self._end, wire.Ring(self._calls, wanted_by, rows))
        try:
            done = wire.next_done(self._end)
        except TimeoutError:
            self._owes = True
            limit = f"{self._limit_s:g} s"
            raise EngineFailed(f"the engine process did not answer within {limit}") from None
        if done.number != self._calls:
            raise EngineFailed(f"call {self._calls} got the answer to call {done.number}")
        if done.outcome == wire.SCORED:
            return self.slot.scores[:rows].copy()
        reason = self.slot.reason(done.reason_bytes)
        raise (OutOfDeviceMemory if done.outcome == wire.OUT_OF_MEMORY else EngineFailed)(reason)


class SharedEngine:
    """An engine that another process runs.

    While that process is away every call fails at once; when it is back, calls
    go through again, and the golden rows of its link will tell.

    Args:
        leave: Called once by `close`.
    """

    def __init__(self, leave: Callable[["SharedEngine"], object]) -> None:
        self._leave = leave
        self._info: EngineInfo | None = None
        self._lane: Lane | None = None

    @property
    def info(self) -> EngineInfo:
        """Of the engine in the process; known from the moment that it was first there."""
        assert self._info is not None
        return self._info

    def attach(self, lane: Lane, info: EngineInfo) -> None:
        """Score by this lane from the next call on. From any thread."""
        # What a batcher has built on stays as it is, also where a new run measures otherwise.
        self._info = self._info or info
        self._lane = lane

    def detach(self) -> None:
        """Fail from the next call on, and the one under way fails too. From any thread."""
        self._lane = None

    def score(self, batch: FeatureBatch) -> Float32:
        lane = self._open_lane()
        if not lane.slot.takes(batch):
            columns = {name: list(values.shape) for name, values in batch.inputs().items()}
            raise EngineFailed(f"{columns} does not fit a slot for {lane.slot.layout}")
        return lane.score(lambda slot: slot.write(batch), batch.rows)

    def score_candidates(self, rows: CandidateRows) -> Float32:
        """Like `score`; the rows are gathered where the process reads them."""
        lane = self._open_lane()
        return lane.score(lambda slot: _gather(rows, slot), rows.rows)

    def close(self) -> None:
        self._leave(self)

    def _open_lane(self) -> Lane:
        lane = self._lane
        if lane is None:
            raise EngineFailed(AWAY)
        return lane


def _gather(rows: CandidateRows, slot: Slot) -> None:
    if rows.rows > slot.layout.rows:
        raise EngineFailed(f"{rows.rows} rows do not fit a slot for {slot.layout}")
    rows.tables.gather(rows, out=slot.rows(rows.rows))
