"""The parent: accepts connections, starts workers, keeps them running, and ends with them.

It answers no request itself. What all workers share is here: the listening
socket, the counts of workers that ended, and the way from one to the others.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from ranking_models.errors import InputError
from service.errors import StartupError
from service.processes.board import Board, Slot
from service.processes.channel import (
    Answer,
    Ask,
    Begin,
    Channel,
    Drain,
    Failed,
    Message,
    Ready,
    Snapshot,
    Stop,
)
from service.processes.child import Child, Lifeline, launch
from service.processes.connections import Acceptor, connection_pair, introduce, take_connections
from service.processes.crew import Switchboard
from service.processes.figures import Figures
from service.processes.restarts import Restarts
from service.telemetry.parent import ParentMetrics

WORKER_MODULE = "service.serving.worker"
MOST_INTRODUCED = 16
"""With more workers, where each would need a socket for every other, requests stay where they
arrive; among so many connections they are spread evenly anyway."""
LOOK_S = 0.25
HUNG_S = 30.0
"""An event loop that does not turn for so long will not: an inline engine hangs."""

_log = logging.getLogger(__name__)


class Worker:
    """One run of one worker."""

    def __init__(
        self, number: int, child: Child, slot: Slot, ends: tuple[socket.socket, socket.socket]
    ) -> None:
        self.number, self.child, self.slot = number, child, slot
        self.connections, self._taken_from = ends
        self.given = 0
        self.ready_at: float | None = None
        self.failed: Failed | None = None

    @property
    def channel(self) -> Channel:
        return self.child.channel

    @property
    def served_s(self) -> float | None:
        return None if self.ready_at is None else time.monotonic() - self.ready_at

    def not_taken(self) -> list[socket.socket]:
        """After its end: the connections that it was handed and never took."""
        left = take_connections(self._taken_from)
        self.connections.close()
        self._taken_from.close()
        return left


class Supervisor:
    """All workers. For one event loop; `run` once."""

    def __init__(
        self,
        begin: Begin,
        listener: socket.socket,
        *,
        workers: int,
        stores_down: Callable[[], int],
        stop_limit_s: float,
        metrics: ParentMetrics | None = None,
    ) -> None:
        """Prepare.

        Args:
            begin: What every worker is told at its start.
            listener: Listens already.
            workers: How many.
            stores_down: Which embedded servers are being restarted, one bit each.
            stop_limit_s: Workers that take longer to end are killed.
            metrics: The parent's own figures; None: nothing but those of the workers' lives.
        """
        self._begin = begin
        self._stores_down = stores_down
        self._stop_limit_s = stop_limit_s
        self._board = Board.create(workers)
        self._lifeline = Lifeline()
        self._figures = Figures(metrics)
        self._workers: dict[int, Worker] = {}
        self._switchboard = Switchboard(self._ready_workers, self._figures)
        self._acceptor = Acceptor(listener, self._takers)
        self._complete = asyncio.Event()
        self._draining = False
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self._welcome = ""

    async def run(self, announce: Callable[[str], None]) -> None:
        """Serve until `drain`; returns when all workers have ended.

        Args:
            announce: Called with the welcome when all workers serve.

        Raises:
            StartupError, InputError: a worker cannot start as configured.
        """
        keepers = [
            asyncio.create_task(self._keep(number), name=f"worker-{number}")
            for number in range(self._board.workers)
        ]
        look = asyncio.create_task(self._look_after(), name="look-after-workers")
        try:
            await self._until_complete_or_stopping()
            if not self._stopping.is_set():
                self._acceptor.start()
                announce(self._welcome)
            await self._stopping.wait()
        finally:
            look.cancel()
            await self._end(keepers)
        if self._failure is not None:
            raise self._failure

    def drain(self, notice_s: float) -> None:
        """Say so at once, and stop accepting when those who look had time to see it."""
        self._draining = True
        if not self._complete.is_set():
            self._stopping.set()
            return
        for worker in self._workers.values():
            worker.channel.send(Drain())
        asyncio.get_running_loop().call_later(notice_s, self._stopping.set)

    def _takers(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.slot.is_serving]

    def _ready_workers(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.ready_at is not None]

    # --- the life of a worker ------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Run one worker again and again, until the service stops or that has no sense."""
        restarts = Restarts()
        while not self._stopping.is_set():
            try:
                worker = await self._start(number)
            except OSError as problem:  # the machine has no room for another process
                await self._cannot_start(problem, restarts)
                continue
            if self._stopping.is_set():
                worker.child.kill()
            await self._listen_to(worker)
            how = await worker.child.ended()
            self._bury(number, worker)
            if self._stopping.is_set():
                return
            delay_s = restarts.after(worker.served_s)
            self._judge(worker, restarts, how)
            if self._failure is None:
                self._figures.parent.worker_ended()
                _log.error("worker %d ended (%s): next start in %g s", number, how, delay_s)
                await self._pause(delay_s)

    async def _cannot_start(self, problem: OSError, restarts: Restarts) -> None:
        said = f"a worker cannot be started: {problem.strerror}"
        if not self._board.serving:
            self._fail(StartupError(said))
            return
        _log.error("%s", said)
        await self._pause(restarts.after(None))

    async def _start(self, number: int) -> Worker:
        slot, ends = self._board.slots[number], connection_pair()
        slot.clear()
        descriptors = (ends[1].fileno(), self._board.descriptor)
        facts = (self._board.workers, number)
        inherited = () if self._begin.engines is None else (self._begin.engines,)
        try:
            child = await launch(
                WORKER_MODULE, self._lifeline, descriptors, *facts, inherited=inherited
            )
        except BaseException:
            for end in ends:
                end.close()
            raise
        worker = self._workers[number] = Worker(number, child, slot, ends)
        self._figures.begun(worker)
        worker.channel.send(self._begin)
        return worker

    async def _listen_to(self, worker: Worker) -> None:
        while (message := await worker.channel.receive()) is not None:
            self._take(worker, message)

    def _take(self, worker: Worker, message: Message) -> None:
        match message:
            case Ready():
                self._is_ready(worker, message)
            case Failed():
                worker.failed = message
            case Ask():
                self._switchboard.asked(worker, message)
            case Answer():
                self._switchboard.answered(message)
            case Snapshot():
                self._figures.told(worker, message.figures)

    def _is_ready(self, worker: Worker, message: Ready) -> None:
        self._introduce(worker)
        worker.ready_at = time.monotonic()
        self._welcome = message.welcome
        if self._draining:
            worker.channel.send(Drain())
        if self._board.serving == self._board.workers:
            self._complete.set()

    def _introduce(self, worker: Worker) -> None:
        """Let a worker that is about to serve hand requests to the others, and they to it."""
        if self._board.workers <= MOST_INTRODUCED:
            for other in self._ready_workers():
                introduce(worker.connections, worker.number, other.connections, other.number)

    def _bury(self, number: int, worker: Worker) -> None:
        """Keep what outlives a worker: its counts, and connections that it never took."""
        del self._workers[number]
        worker.slot.clear()
        self._switchboard.gone(worker)
        self._figures.ended(worker)
        self._acceptor.give_again(worker.not_taken())

    def _judge(self, worker: Worker, restarts: Restarts, how: str) -> None:
        """End the service if a worker cannot start and nobody else serves."""
        if self._complete.is_set() and self._board.serving:
            if worker.failed is not None:
                _log.error("a worker cannot start again: %s", worker.failed.message)
            return
        if worker.failed is not None and (not self._complete.is_set() or restarts.hopeless):
            kinds = {"startup": StartupError, "input": InputError}
            self._fail(kinds[worker.failed.kind](worker.failed.message))
        elif restarts.hopeless:
            times = restarts.early_ends
            why = f"a worker ended {times} times in a row before it could serve ({how})"
            self._fail(StartupError(f"{why}; what it wrote stands above"))

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        self._stopping.set()

    # --- all of them -----------------------------------------------------------------------

    async def _until_complete_or_stopping(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._complete, self._stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _pause(self, delay_s: float) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping], timeout=delay_s)
        stopping.cancel()

    async def _look_after(self) -> None:
        """Tell the workers how the stores are, and end those that hang."""
        while True:
            self._board.stores_down = self._stores_down()
            self._figures.parent.workers_serve(self._board.serving)
            for worker in self._ready_workers():
                if worker.slot.silent_s > HUNG_S:
                    _log.error("a worker hangs for %g s and is killed", HUNG_S)
                    worker.child.kill()
            await asyncio.sleep(LOOK_S)

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        self._acceptor.stop()
        for worker in self._workers.values():
            if worker.ready_at is None:
                worker.child.kill()
            else:
                worker.channel.send(Stop())
        _, late = await asyncio.wait(keepers, timeout=self._stop_limit_s)
        if late:
            _log.error("workers that do not end are killed after %g s", self._stop_limit_s)
        for worker in list(self._workers.values()):
            worker.child.kill()
        for ended in await asyncio.gather(*keepers, return_exceptions=True):
            if isinstance(ended, BaseException):
                self._failure = self._failure or ended  # type: ignore[assignment]
        self._lifeline.close()
