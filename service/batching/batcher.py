"""The asyncio shell around the batch queue: timers, engines, futures.

Everything that the queue decides happens in `_turn`, and a turn is scheduled
whenever the queue says that it has something to decide: with `call_soon`, so
that all requests of one iteration of the event loop join the same batch, or
with a timer.

A batch is scored on the event loop's own thread (``inline``: on a CPU a
hand-off per batch costs more than it gains) or on a thread per instance
(``thread``), while the queue gathers what arrives meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial

import msgspec

from service.batching.batch import Batch
from service.batching.instance import Instance, Outcome
from service.batching.jobs import ScoreJob
from service.batching.pending import Pending, Then
from service.batching.queue import BatchQueue
from service.batching.records import ScoredRows, ScoredTooLate, record_of
from service.batching.run import Run
from service.clock import Clock
from service.engines.chain import EngineChain
from service.engines.rows import JobRows
from service.errors import DeadlineExpired, EngineFailed, NotReady
from service.messages import Priority
from service.settings import BatchPolicy
from service.telemetry import BatchRecord, BatchTrace, RequestTrace
from service.telemetry.outgoing import batch_trace

TraceOf = Callable[[Sequence[RequestTrace | None]], BatchTrace | None]

SHORTEST_TIMER_S = 0.001
"""uvloop's timers count whole milliseconds and round: a shorter one would ring before its
time, find nothing due, and ring again until the time has come."""


class Batcher:
    """Scores the rows of many callers in common batches. For one event loop.

    Args:
        chains: One chain of engines per instance.
        policy: When batches leave. What it leaves open is as the engine that serves wants it, and
            no batch is larger than that engine takes.
        clock: Must run like the event loop's.
        on_batch: Told of every executed batch, right before its callers go on.
        trace: The trace of a batch, of those of its requests.
    """

    def __init__(
        self,
        chains: Sequence[EngineChain],
        policy: BatchPolicy,
        clock: Clock,
        *,
        on_batch: Callable[[BatchRecord], None] | None = None,
        trace: TraceOf = batch_trace,
    ) -> None:
        if policy.instances not in (None, len(chains)):
            raise ValueError(f"{policy.instances} instances need as many chains, got {len(chains)}")
        policy = msgspec.structs.replace(policy, instances=len(chains))
        self._policy, self._chain = policy, chains[0]
        self._engine = ""  # that scored last
        self._queue = BatchQueue(policy)
        self._fit_to_engine()
        self._now = clock.now
        self._on_batch, self._trace = on_batch, trace
        execution = "inline" if policy.execution == "auto" else policy.execution
        self.instances = tuple(Instance(chain, execution, clock) for chain in chains)
        """In the order of the chains; for those who look after their engines."""
        self._idle = list(self.instances)
        self._pending: dict[ScoreJob, Pending] = {}
        self._nobody = Context()  # a batch is part of no single request's trace
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stopping = False
        self._quiet: asyncio.Event | None = None  # of whoever stops it

    @property
    def waiting_rows(self) -> int:
        return self._queue.waiting_rows

    @property
    def waiting_jobs(self) -> int:
        return self._queue.waiting_jobs

    @property
    def is_idle(self) -> bool:
        """Nothing waits, and an instance has nothing to do."""
        return bool(self._idle) and not self._queue.waiting_rows

    async def score(
        self,
        rows: JobRows,
        *,
        deadline: float,
        priority: Priority = "normal",
        deployment: str = "",
        context: RequestTrace | None = None,
    ) -> ScoredRows:
        """Score the rows of one request, in company where there is any.

        A caller that is cancelled takes its rows out; nobody else notices.
        The arguments are those of `submit`.

        Raises:
            QueueFull: too many rows wait; nothing was queued.
            DeadlineUnreachable: the deadline would most likely pass; nothing was queued.
            DeadlineExpired: the deadline passed; ScoredTooLate if the rows were just being scored.
            EngineFailed: no engine of the chain could score these rows.
            NotReady: the batcher has been stopped.
        """
        answer: asyncio.Future[ScoredRows] = asyncio.get_running_loop().create_future()
        pending = self.submit(
            rows,
            deadline=deadline,
            priority=priority,
            deployment=deployment,
            context=context,
            then=partial(_resolve, answer),
        )
        try:
            return await answer
        finally:
            pending.cancel()

    def submit(
        self,
        rows: JobRows,
        *,
        deadline: float,
        then: Then,
        priority: Priority = "normal",
        deployment: str = "",
        context: RequestTrace | None = None,
    ) -> Pending:
        """Queue the rows of one request, for a caller that needs no task to wait in.

        Args:
            rows: One or more; more than one batch holds are scored in several.
            deadline: Time on the batcher's clock after which no scores are wanted.
            then: Told how it ended, with the scores or with one of the errors of `score`. It runs
                before those of the neighbours, so it must not take long.
            priority: Who goes first when there is a queue.
            deployment: Who shares the engines fairly with others, and whose order of answers is
                kept if the policy says so.
            context: The request to link the batch with, if it is traced.

        Returns:
            What to `cancel` if nobody waits any more; `then` is not called after that.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: nothing was queued, as in `score`.
        """
        if self._stopping:
            raise NotReady("this server is shutting down")
        job = ScoreJob(
            rows=rows.rows,
            arrived_at=self._now(),
            deadline=deadline,
            priority=priority,
            deployment=deployment,
        )
        self._queue.offer(job)
        pending = self._pending[job] = Pending(job, rows, context, then, self._give_up)
        if not self._turn_is_due:
            self._schedule_turn()
        return pending

    async def stop(self) -> None:
        """Refuse new work, finish what is queued and under way, and end the threads.

        Every job ends by its deadline at the latest. A batch under way is waited
        for, so a caller that must be gone by some time sets a limit of its own.
        """
        self._stopping = True
        self._quiet = self._quiet or asyncio.Event()
        self._note_if_quiet()
        await self._quiet.wait()
        for instance in self.instances:
            instance.close()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule_turn(self) -> None:
        if self._turn_is_due:
            return
        at = self._queue.wake_at()
        if at is None:
            return
        now = self._now()
        loop = asyncio.get_running_loop()
        if at <= now:
            self._turn_is_due = True
            loop.call_soon(self._turn, context=self._nobody)
        elif self._timer is None or at < self._timer_at:
            # A timer that turns out to be too early stays: it finds nothing and sets the next.
            # Most jobs end long before their deadlines, so few timers are ever set.
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            delay_s = max(at - now, SHORTEST_TIMER_S)
            self._timer = loop.call_later(delay_s, self._ring, context=self._nobody)

    def _ring(self) -> None:
        self._timer = None
        self._turn()

    def _turn(self) -> None:
        self._turn_is_due = True  # whoever asks for one meanwhile: it is seen to at the end
        try:
            now = self._now()
            taken = self._queue.take(now)
            batch, pending = taken.batch, self._pending
            # Before anybody is told anything: who is may cancel others.
            callers = [] if batch is None else [pending[part.job] for part in batch.parts]
            if taken.expired:
                for job in taken.expired:
                    self._expire(job)
                self._answer(taken.answerable, now)
                self._note_if_quiet()
            if batch is not None:
                self._execute(batch, callers)
        finally:
            self._turn_is_due = False
            self._schedule_turn()

    def _execute(self, batch: Batch, callers: Sequence[Pending]) -> None:
        run = Run(
            batch=batch,
            instance=self._idle.pop(),
            callers=callers,
            parts=batch.parts,
            trace=self._trace_of(callers),
        )
        try:
            rows = run.share()
        except Exception as error:  # rows that are none: whoever sent them, nobody may hang
            run.failures = [(part.job, EngineFailed(repr(error))) for part in batch.parts]
            self._end(run, self._now())
            return
        run.score(rows, partial(self._finish, run), self._nobody)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        again = run.hand_out(self._pending, outcome)
        if not again:
            self._end(run, outcome.ended_at)
            return
        rows = run.repeat(again, self._pending)
        run.score(rows, partial(self._finish, run), self._nobody)

    def _end(self, run: Run, ended_at: float) -> None:
        """The instance is done with a batch: tell telemetry, then everybody who waits for it."""
        self._report(run, ended_at)
        for job, failure in run.failures:
            self._fail(job, failure)
        failed = not run.scored or len(run.failures) == len(run.batch.parts)
        now = self._now()
        answerable = self._queue.finished(
            run.batch, now, duplicate_rows=run.duplicate_rows, failed=failed
        )
        self._idle.append(run.instance)
        self._answer(answerable, now)
        if run.calls and run.calls[-1].engine != self._engine:
            self._engine = run.calls[-1].engine
            self._fit_to_engine()
        self._note_if_quiet()
        self._schedule_turn()

    def _fit_to_engine(self) -> None:
        """Follow the engine that serves now: another one is at its best with other batches."""
        policy, chain = self._policy, self._chain
        largest = min(policy.max_batch_rows or chain.best_batch_rows, chain.max_batch_rows)
        self._queue.resize(largest, min(policy.preferred_batch_rows or largest, largest))

    def _report(self, run: Run, ended_at: float) -> None:
        if self._on_batch is None:
            return
        try:
            record = record_of(
                run.batch,
                [caller.request for caller in run.callers],
                self._chain.first,
                run.calls,
                trace=run.trace,
                fallback=run.fallback,
                finished_at=ended_at,
                duplicate_rows=run.duplicate_rows,
            )
            self._on_batch(record)
        except Exception as error:  # telemetry that fails must not leave a caller without an answer
            _say("a batch could not be reported", error)

    def _trace_of(self, callers: Sequence[Pending]) -> BatchTrace | None:
        try:
            return self._trace([caller.request for caller in callers])
        except Exception as error:  # nor must telemetry that fails here
            _say("a batch could not be traced", error)
            return None

    def _answer(self, jobs: Sequence[ScoreJob], now: float) -> None:
        forget = self._pending.pop
        for job in jobs:
            pending = forget(job, None)
            if pending is None:
                continue  # cancelled by one that was answered just before
            scored = pending.answer
            assert scored is not None, "the queue named a job that is not scored"
            try:
                pending.then(scored if now < job.deadline else ScoredTooLate(scored))
            except Exception as error:
                _say_untold(error)

    def _expire(self, job: ScoreJob) -> None:
        """Tell a caller that it is too late; the queue has forgotten the job already."""
        pending = self._pending.pop(job, None)
        if pending is None:
            return  # cancelled by one that was told just before
        self._note_if_quiet()
        if pending.answer is not None:  # held for one that came before it
            _tell(pending, ScoredTooLate(pending.answer))
        else:
            _tell(pending, DeadlineExpired("the deadline passed before the rows were scored"))

    def _fail(self, job: ScoreJob, error: Exception) -> None:
        pending = self._pending.get(job)
        if pending is not None:
            self._give_up(job)
            _tell(pending, error)

    def _give_up(self, job: ScoreJob) -> None:
        """Forget a job, if it is still there."""
        if self._pending.pop(job, None) is None:
            return
        released = self._queue.withdraw(job)
        if released:
            self._answer(released, self._now())
        self._note_if_quiet()

    def _note_if_quiet(self) -> None:
        quiet = self._quiet
        if quiet is not None and not self._pending and len(self._idle) == len(self.instances):
            quiet.set()


def _resolve(answer: asyncio.Future[ScoredRows], end: ScoredRows | Exception) -> None:
    """The future may be done without us: a cancelled task cancels it at once, and takes its rows
    out only when it runs again."""
    if answer.done():
        return
    if isinstance(end, Exception):
        answer.set_exception(end)
    else:
        answer.set_result(end)


def _tell(pending: Pending, end: ScoredRows | Exception) -> None:
    try:
        pending.then(end)
    except Exception as error:
        _say_untold(error)


def _say_untold(error: Exception) -> None:
    """A caller that cannot be told: its own fault, and no reason to keep its neighbours waiting."""
    _say("an answer could not be given", error)


def _say(message: str, error: Exception) -> None:
    context = {"message": message, "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
