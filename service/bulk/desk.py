"""The one process of a run that hands out its chunks, and how the others reach it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from service.bulk.chunks import Chunk
from service.bulk.second_runs import Over, SecondRuns, Wait

ASK_AGAIN_S = 0.5
PATIENCE_S = 60.0


class Desk(Protocol):
    """Where fillers get their work."""

    def take(self, task: int) -> Chunk | None:
        """What a task is to do, as soon as there is something; None: all has ended."""

    def ended(self, chunk: Chunk) -> None:
        """Tell that every page of it is kept."""

    def is_over(self, chunk: Chunk) -> bool:
        """Whether another process has had every page of it kept."""


class DeskProcess:
    """What Ray runs as an actor: text in, text out."""

    def __init__(self, cut: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with all chunks of a run, as JSON."""
        self._runs = SecondRuns(msgspec.json.decode(cut, type=list[Chunk]))
        self._clock = clock

    def take(self, task: int) -> bytes | None:
        """A chunk, null when all has ended, and nothing while one has to wait."""
        match self._runs.take(task, self._clock()):
            case Wait():
                return None
            case Over():
                return msgspec.json.encode(None)
            case chunk:
                return msgspec.json.encode(chunk)

    def ended(self, chunk: bytes) -> None:
        self._runs.ended(msgspec.json.decode(chunk, type=Chunk), self._clock())

    def is_over(self, chunk: bytes) -> bool:
        return self._runs.is_over(msgspec.json.decode(chunk, type=Chunk))


class RayDesk:
    """A desk in another process of a Ray cluster."""

    def __init__(self, process: Any) -> None:
        """Take Ray's handle of a `DeskProcess`."""
        self._process = process

    @classmethod
    def opened(cls, ray: Any, cut: Sequence[Chunk]) -> "RayDesk":
        """Open one beside the process that waits for the run: either is of no use alone."""
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=ray.get_runtime_context().get_node_id(), soft=True
        )
        actor = ray.remote(DeskProcess).options(num_cpus=0, scheduling_strategy=beside)
        return cls(actor.remote(msgspec.json.encode(list(cut))))

    def take(self, task: int) -> Chunk | None:
        while (answer := self._asked("take", task)) is None:
            time.sleep(ASK_AGAIN_S)
        return msgspec.json.decode(answer, type=Chunk | None)

    def ended(self, chunk: Chunk) -> None:
        self._asked("ended", msgspec.json.encode(chunk))

    def is_over(self, chunk: Chunk) -> bool:
        return bool(self._asked("is_over", msgspec.json.encode(chunk)))

    def _asked(self, method: str, argument: int | bytes) -> Any:
        """Ask again for a while: who cannot reach it may be on a machine that is just lost.

        Its processes end a moment later, and Ray runs their tasks elsewhere; a failure told
        meanwhile would end the whole run. Every question may be asked twice.
        """
        import ray

        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ray.get(getattr(self._process, method).remote(argument))
            except ray.exceptions.RayError:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(ASK_AGAIN_S)
