"""The threads of the engine process: one waits for calls, the others score them.

Whoever waits takes what it finds to score and lets another wait in its place,
so a call is scored by the thread that heard of it: no hand-over on its way.
There is one thread more than there are engines, so always one that waits.
"""

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from ranking_models.schema import FeatureBatch, Float32
from service.engines import Engine
from service.engines.host import wire
from service.engines.host.models import Held, Models
from service.engines.host.schedule import Batch, Call, Model, Schedule
from service.engines.host.slot import Slot
from service.engines.loading import LoadedEngines
from service.errors import EngineFailed, OutOfDeviceMemory, StartupError

HANGS: Final = 5
"""An engine that takes so many times as long as it may does not come back; a new process helps."""
LOOK_S: Final = 1.0
_log = logging.getLogger(__name__)


class Lane:
    """A worker's slot, and the engines that score it."""

    def __init__(self, end: socket.socket, slot: Slot, held: Held, model: Model) -> None:
        self.end, self.slot, self.held, self.model = end, slot, held, model
        self.is_gone = False


class EngineHost:
    """Scores the slots of all workers, until nobody can send any.

    Args:
        way: Where new lanes come from.
        load: Loads the engines of a graph; raises StartupError.
        max_execution_s: Longest that callers wait for a call.
        hangs: Called when an engine does not come back.
    """

    def __init__(
        self,
        way: socket.socket,
        load: Callable[[wire.Wanted], LoadedEngines],
        *,
        max_execution_s: float,
        hangs: Callable[[], None],
    ) -> None:
        self._way, self._models = way, Models(load)
        self._hangs, self._hangs_after_s = hangs, HANGS * max_execution_s
        self._schedule: Schedule[Lane] = Schedule()
        self._lock = threading.Lock()  # of the schedule
        self._listening = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._opening = 0
        self._way_ended = self._ended = False
        self._threads = 1
        way.setblocking(False)
        self._selector.register(way, selectors.EVENT_READ)

    def run(self) -> None:
        """Returns when the way and every lane are closed."""
        self._work()
        self._selector.close()

    # --- threads -------------------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            self._score(batch)
            with self._lock:
                self._schedule.done(batch)
                gone = [call.caller for call in batch.calls if call.caller.is_gone]
            for lane in gone:
                self._release(lane)

    def _next(self) -> Batch[Lane] | None:
        """Something to score; None at the end of the process."""
        while True:
            if (batch := self._take()) is not None:
                return batch
            with self._listening:
                # Who listened before may have left something.
                if (batch := self._take()) is not None:
                    return batch
                if self._ended:
                    return None
                self._listen()

    def _take(self) -> Batch[Lane] | None:
        with self._lock:
            return self._schedule.take(time.monotonic())

    def _enough_threads(self) -> None:
        """The lock is held."""
        while self._threads <= self._schedule.engines:
            name = f"podium-engine-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._threads += 1

    # --- what is heard -------------------------------------------------------------------

    def _listen(self) -> None:
        for key, _ in self._selector.select(LOOK_S):
            if key.data is None:
                self._take_lane()
            else:
                self._hear(key.data)
        self._look_after()
        with self._lock:
            lanes = len(self._selector.get_map()) - (not self._way_ended)
            self._ended = self._way_ended and not lanes and not self._opening

    def _take_lane(self) -> None:
        try:
            end = wire.next_lane(self._way)
        except BlockingIOError:
            return
        except OSError as error:
            _log.error("a slot cannot be opened: %s", error.strerror)
            return
        if end is None:  # parent and workers have ended
            self._selector.unregister(self._way)
            self._way_ended = True
            return
        with self._lock:
            self._opening += 1
        # Loading takes long, and others are served meanwhile.
        threading.Thread(target=self._open, args=(end,), name="podium-open", daemon=True).start()

    def _hear(self, lane: Lane) -> None:
        try:
            ring = wire.next_ring(lane.end)
        except wire.Gone:
            self._forget(lane)
            return
        call = Call(lane, ring.number, min(ring.rows, lane.slot.layout.rows), ring.wanted_by)
        with self._lock:
            self._schedule.offer(call)

    def _look_after(self) -> None:
        with self._lock:
            started = min((b.taken_at for b in self._schedule.under_way), default=None)
        if started is not None and time.monotonic() - started > self._hangs_after_s:
            _log.error("an engine did not come back in %g s", self._hangs_after_s)
            self._hangs()

    # --- lanes ---------------------------------------------------------------------------

    def _open(self, end: socket.socket) -> None:
        try:
            lane = self._opened(end)
        except wire.Gone:
            end.close()
        except Exception as error:  # without an answer the worker would wait for good
            reason = str(error) if isinstance(error, StartupError) else repr(error)
            wire.answer_open(end, wire.Refused(reason))
            end.close()
        else:
            loaded = lane.held.loaded
            assert loaded is not None
            with self._lock:
                self._schedule.add(lane.model)
                self._enough_threads()
            answer = wire.Opened(
                engine=lane.model.engines[0].info,
                predicted_bytes=loaded.predicted_bytes,
                used_bytes=loaded.used_bytes,
                limit_bytes=loaded.limit_bytes,
            )
            wire.answer_open(end, answer)
            self._selector.register(end, selectors.EVENT_READ, lane)
        finally:
            with self._lock:
                self._opening -= 1

    def _opened(self, end: socket.socket) -> Lane:
        wish, memory = wire.asked_to_open(end)
        try:
            if os.fstat(memory).st_size < wish.layout.bytes:
                raise ValueError(f"the memory of a slot is too small for {wish.layout}")
            slot = Slot(memory, wish.layout)
        finally:
            os.close(memory)
        held = self._models.hold(wish.wanted)
        assert held.model is not None
        return Lane(end, slot, held, held.model)

    def _forget(self, lane: Lane) -> None:
        """A worker has ended, or does not want the slot any more."""
        self._selector.unregister(lane.end)
        with self._lock:
            lane.is_gone = True
            is_being_scored = self._schedule.withdraw(lane)
        if not is_being_scored:
            self._release(lane)

    def _release(self, lane: Lane) -> None:
        lane.end.close()
        if self._models.release(lane.held):
            with self._lock:
                self._schedule.remove(lane.model)

    # --- scoring -------------------------------------------------------------------------

    def _score(self, batch: Batch[Lane]) -> None:
        """Every call of a batch gets its scores or its own reason, whatever the others hold."""
        wanted = [call for call in batch.calls if call.wanted_by > batch.taken_at]
        for call in batch.calls:
            if call not in wanted:
                _fail(call, EngineFailed("the call waited too long for an engine"))
        if len(wanted) > 1 and self._score_together(batch.engine, wanted):
            return
        for call in wanted:
            try:
                scores = _checked(batch.engine, call.caller.slot.rows(call.rows))
            except Exception as error:  # whatever an engine raises: the worker's next one may do
                _fail(call, error)
            else:
                _answer(call, scores)

    def _score_together(self, engine: Engine, calls: list[Call[Lane]]) -> bool:
        """False if it failed: somebody's rows may be to blame, and are found one by one."""
        rows = FeatureBatch.concatenate([call.caller.slot.rows(call.rows) for call in calls])
        try:
            scores = _checked(engine, rows)
        except Exception as error:
            _log.debug("a call for %d slots failed: %s", len(calls), error)
            return False
        start = 0
        for call in calls:
            _answer(call, scores[start : start + call.rows])
            start += call.rows
        return True


def _checked(engine: Engine, rows: FeatureBatch) -> Float32:
    scores = engine.score(rows)
    if scores.shape != (rows.rows,):
        raise EngineFailed(f"{rows.rows} rows gave scores of shape {scores.shape}")
    return scores


def _answer(call: Call[Lane], scores: Float32) -> None:
    call.caller.slot.scores[: call.rows] = scores
    wire.finish(call.caller.end, wire.Done(call.number, wire.SCORED))


def _fail(call: Call[Lane], error: Exception) -> None:
    lane = call.caller
    length = lane.slot.explain(str(error) if isinstance(error, EngineFailed) else repr(error))
    outcome = wire.OUT_OF_MEMORY if isinstance(error, OutOfDeviceMemory) else wire.FAILED
    wire.finish(lane.end, wire.Done(call.number, outcome, length))
