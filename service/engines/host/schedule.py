"""Which of the slots that wait are scored next, and which of them together. Pure.

A caller has one slot and waits for its answer, so slots in the order of their
calls are fair to workers: nobody is served twice while another waits. Models
do not wait for each other: each has engines of its own. What waits for one
model goes to its next free engine at once, as much as is best for the engine.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from service.engines import Engine


class Caller(Protocol):
    """Whose slot it is."""

    @property
    def model(self) -> "Model": ...


CallerT = TypeVar("CallerT", bound=Caller)


class Model:
    """The engines of one graph; the schedule knows which are free."""

    def __init__(self, engines: tuple[Engine, ...]) -> None:
        self.engines = engines
        info = engines[0].info
        self.best_batch_rows = info.best_batch_rows or info.max_batch_rows
        """Most rows of several slots in one call."""


class Call(Struct, Generic[CallerT], frozen=True, eq=False):
    """A slot that waits to be scored."""

    caller: CallerT
    number: int
    rows: int
    wanted_by: float


class Batch(Struct, Generic[CallerT], frozen=True, eq=False):
    """Calls that are scored together."""

    engine: Engine
    model: Model
    calls: tuple[Call[CallerT], ...]
    taken_at: float


class _Queue(Struct, Generic[CallerT]):
    waiting: deque[Call[CallerT]]
    free: list[Engine]


class Schedule(Generic[CallerT]):
    """Everything that waits and everything that is being scored. One thread at a time."""

    def __init__(self) -> None:
        self._queues: dict[Model, _Queue[CallerT]] = {}
        self.under_way: set[Batch[CallerT]] = set()

    @property
    def engines(self) -> int:
        """Free or not."""
        return sum(len(model.engines) for model in self._queues)

    def add(self, model: Model) -> None:
        """Its slots may call from now on; a second time does nothing."""
        if model not in self._queues:
            self._queues[model] = _Queue(deque(), list(model.engines))

    def remove(self, model: Model) -> None:
        """Nobody calls it any more."""
        del self._queues[model]

    def offer(self, call: Call[CallerT]) -> None:
        self._queues[call.caller.model].waiting.append(call)

    def take(self, now: float) -> Batch[CallerT] | None:
        """The next batch to score; None while there is nothing, or no engine for it."""
        for model, queue in self._queues.items():
            if queue.waiting and queue.free:
                # The next look begins with another model, should threads be few.
                self._queues[model] = self._queues.pop(model)
                calls = self._cut(queue.waiting, model.best_batch_rows)
                batch = Batch(queue.free.pop(), model, calls, now)
                self.under_way.add(batch)
                return batch
        return None

    def done(self, batch: Batch[CallerT]) -> None:
        """Its engine is free again."""
        self.under_way.remove(batch)
        self._queues[batch.model].free.append(batch.engine)

    def withdraw(self, caller: CallerT) -> bool:
        """Nobody waits for a caller's slot any more.

        Returns:
            Whether it is being scored: until that is done, it is not free.
        """
        waiting = self._queues[caller.model].waiting
        for call in [call for call in waiting if call.caller is caller]:
            waiting.remove(call)
        return any(call.caller is caller for batch in self.under_way for call in batch.calls)

    def _cut(self, waiting: deque[Call[CallerT]], most_rows: int) -> tuple[Call[CallerT], ...]:
        calls = [waiting.popleft()]
        rows = calls[0].rows
        while waiting and rows + waiting[0].rows <= most_rows:
            rows += waiting[0].rows
            calls.append(waiting.popleft())
        return tuple(calls)
