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

from ranking_models.schema import FeatureBatch
from service.batching.instance import Instance, Outcome
from service.batching.lanes import ScoreJob
from service.batching.pending import Pending
from service.batching.queue import Batch, BatchQueue
from service.batching.records import ScoredRows, ScoredTooLate, record_of, report_of
from service.clock import Clock
from service.engines.chain import EngineChain
from service.errors import DeadlineExpired, EngineFailed, NotReady
from service.messages import BatchReport, Priority
from service.settings import BatchPolicy
from service.telemetry import BatchRecord, RequestTrace

SHORTEST_TIMER_S = 0.001
"""uvloop's timers count whole milliseconds and round: a shorter one would ring before its
time, find nothing due, and ring again until the time has come."""


class Batcher:
    """Scores the rows of many callers in common batches. For one event loop.

    Args:
        chains: One chain of engines per instance of the policy.
        policy: When batches leave; the engines' own limits apply as well.
        clock: Must run like the event loop's.
        on_batch: Told of every executed batch, right before its callers go on.
    """

    def __init__(
        self,
        chains: Sequence[EngineChain],
        policy: BatchPolicy,
        clock: Clock,
        *,
        on_batch: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        if len(chains) != policy.instances:
            raise ValueError(f"{policy.instances} instances need as many chains, got {len(chains)}")
        largest = min(policy.max_batch_rows, *(chain.max_batch_rows for chain in chains))
        self._queue = BatchQueue(
            msgspec.structs.replace(
                policy,
                max_batch_rows=largest,
                preferred_batch_rows=min(policy.preferred_batch_rows, largest),
            )
        )
        self._first = chains[0].engines[0].info
        self._clock = clock
        self._on_batch = on_batch
        self._instances = tuple(Instance(chain, policy.execution, clock) for chain in chains)
        self._idle = list(self._instances)
        self._pending: dict[ScoreJob, Pending] = {}
        self._nobody = Context()  # a batch is part of no single request's trace
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stopping = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def waiting_rows(self) -> int:
        return self._queue.waiting_rows

    async def score(
        self,
        rows: FeatureBatch,
        *,
        deadline: float,
        priority: Priority = "normal",
        context: RequestTrace | None = None,
    ) -> ScoredRows:
        """Score the rows of one request, in company where there is any.

        A caller that is cancelled takes its rows out; nobody else notices.

        Args:
            rows: One or more; more than one batch holds are scored in several.
            deadline: Time on the batcher's clock after which no scores are wanted.
            priority: Who goes first when there is a queue.
            context: The request to link the batch with, if it is traced.

        Raises:
            QueueFull: too many rows wait; nothing was queued.
            DeadlineUnreachable: the deadline would most likely pass; nothing was queued.
            DeadlineExpired: the deadline passed; ScoredTooLate if the rows were just being scored.
            EngineFailed: no engine of the chain could score these rows.
            NotReady: the batcher has been stopped.
        """
        if self._stopping:
            raise NotReady("this server is shutting down")
        job = ScoreJob(
            rows=rows.rows, arrived_at=self._clock.now(), deadline=deadline, priority=priority
        )
        self._queue.offer(job)
        pending = self._pending[job] = Pending(job, rows, context)
        self._quiet.clear()
        self._schedule_turn()
        try:
            return await pending.answer
        finally:
            self._give_up(job)

    async def stop(self) -> None:
        """Refuse new work, finish what is queued and under way, and end the threads.

        Every job ends by its deadline at the latest. A batch under way is waited
        for, so a caller that must be gone by some time sets a limit of its own.
        """
        self._stopping = True
        await self._quiet.wait()
        for instance in self._instances:
            instance.close()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule_turn(self) -> None:
        if self._turn_is_due:
            return
        at = self._queue.wake_at()
        if at is None:
            return
        now = self._clock.now()
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
        self._turn_is_due = False
        taken = self._queue.take(self._clock.now())
        for job in taken.expired:
            self._fail(job, DeadlineExpired("the deadline passed before the rows were scored"))
        if taken.batch is not None:
            self._execute(taken.batch)
        self._schedule_turn()

    def _execute(self, batch: Batch) -> None:
        callers = [self._pending[part.job] for part in batch.parts]
        rows = [caller.rows_of(part) for caller, part in zip(callers, batch.parts, strict=True)]
        requests = [caller.request for caller in callers]
        instance = self._idle.pop()
        instance.score(rows, partial(self._finish, batch, instance, requests), self._nobody)

    def _finish(
        self,
        batch: Batch,
        instance: Instance,
        requests: list[RequestTrace | None],
        outcome: Outcome,
    ) -> None:
        loop = asyncio.get_running_loop()
        if self._on_batch is not None:
            record = record_of(batch, requests, self._first, outcome.calls, outcome.ended_at)
            # A call of its own: telemetry that fails must not leave a caller without an answer.
            # It runs before the callers do, so the requests are still there to be linked.
            loop.call_soon(self._on_batch, record, context=self._nobody)
        self._hand_out(batch, outcome)
        report = report_of(batch)
        now, failed = self._clock.now(), isinstance(outcome.scored, EngineFailed)
        for job in self._queue.finished(batch, now, failed=failed):
            self._answer(job, report, outcome)
        self._idle.append(instance)
        self._note_if_quiet()
        self._schedule_turn()

    def _hand_out(self, batch: Batch, outcome: Outcome) -> None:
        """Give every job its rows, or the news that they could not be scored."""
        start = 0
        for part in batch.parts:
            rows, start = slice(start, start + part.rows), start + part.rows
            pending = self._pending.get(part.job)
            if pending is None:
                continue  # withdrawn or expired meanwhile
            try:
                if isinstance(outcome.scored, EngineFailed):
                    raise EngineFailed(str(outcome.scored)) from outcome.scored
                pending.add(part, outcome.scored.part(rows), outcome.started_at)
            except EngineFailed as failure:
                self._fail(part.job, failure)

    def _answer(self, job: ScoreJob, report: BatchReport, outcome: Outcome) -> None:
        scored = self._pending[job].joined(report, outcome.ended_at)
        if job.deadline <= self._clock.now():
            self._fail(job, ScoredTooLate(scored))
        else:
            self._pending.pop(job).succeed(scored)

    def _fail(self, job: ScoreJob, error: Exception) -> None:
        pending = self._pending[job]
        self._give_up(job)
        pending.fail(error)

    def _give_up(self, job: ScoreJob) -> None:
        """Forget a job, if it is still there."""
        if self._pending.pop(job, None) is not None:
            self._queue.withdraw(job)
        self._note_if_quiet()

    def _note_if_quiet(self) -> None:
        if not self._pending and len(self._idle) == len(self._instances):
            self._quiet.set()
