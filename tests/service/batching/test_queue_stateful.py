"""Whatever happens in whatever order: no job is lost, doubled, late or out of turn."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from service.batching.lanes import ScoreJob
from service.batching.policy import PRIORITY_PENALTY_S
from service.batching.queue import BatchQueue
from service.errors import DeadlineUnreachable, QueueFull
from service.settings import BatchPolicy


def policy_of(rows, **others):
    preferred, largest = sorted(rows)
    return BatchPolicy(preferred_batch_rows=preferred, max_batch_rows=largest, **others)


POLICIES = st.builds(
    policy_of,
    rows=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    mode=st.sampled_from(["adaptive", "fixed"]),
    max_queue_delay_s=st.sampled_from([0.0, 0.005, 0.1]),
    max_waiting_rows=st.integers(5, 60),
    instances=st.integers(1, 3),
    execution=st.just("thread"),
)


class EveryInterleaving(RuleBasedStateMachine):
    executing = Bundle("executing")
    known = Bundle("known")

    @initialize(policy=POLICIES)
    def start(self, policy):
        self.policy = policy
        self.queue = BatchQueue(policy)
        self.now = 1000.0
        self.taken = {}  # live job -> rows that have left
        self.back = {}  # live job -> rows that are scored
        self.ended = {}  # job -> how
        self.running = 0

    def end(self, job, how):
        assert job not in self.ended, f"ended twice: {self.ended[job]}, then {how}"
        self.ended[job] = how
        del self.taken[job], self.back[job]

    def waiting(self):
        return [job for job, rows in self.taken.items() if rows < job.rows]

    @rule(
        target=known,
        rows=st.integers(1, 30),
        timeout=st.floats(-0.01, 0.5),
        p=st.sampled_from(["high", "normal", "low"]),
    )
    def offer(self, rows, timeout, p):
        job = ScoreJob(rows=rows, arrived_at=self.now, deadline=self.now + timeout, priority=p)
        waiting_rows = self.queue.waiting_rows
        try:
            self.queue.offer(job)
        except QueueFull:
            assert waiting_rows
            assert waiting_rows + rows > self.policy.max_waiting_rows
            return multiple()
        except DeadlineUnreachable as refusal:
            self.check_refusal(refusal, waiting_rows)
            return multiple()
        assert waiting_rows == 0 or waiting_rows + rows <= self.policy.max_waiting_rows
        self.taken[job] = self.back[job] = 0
        return job

    def check_refusal(self, refusal, waiting_rows):
        assert waiting_rows or self.running, "an idle engine refuses nobody"
        assert refusal.predicted_ms > refusal.left_ms
        assert 0 <= refusal.retry_after_s < math.inf

    @rule(job=consumes(known))
    def withdraw(self, job):
        self.queue.withdraw(job)
        if job not in self.ended:
            self.end(job, "withdrawn")

    @rule(seconds=st.sampled_from([0.0, 0.0001, 0.001, 0.005, 0.02, 0.3]))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def sleep_until_woken(self):
        wake_at = self.queue.wake_at()
        if wake_at is not None:
            self.now = max(self.now, wake_at)

    @rule(target=executing)
    def take(self):
        wake_at = self.queue.wake_at()
        due = wake_at is not None and wake_at <= self.now
        free = self.running < self.policy.instances
        taken = self.queue.take(self.now)
        assert due == (taken.batch is not None or taken.expired != ()), (
            "woken for nothing" if due else "would have slept through it"
        )
        for job in taken.expired:
            assert job.deadline <= self.now
            self.end(job, "expired")
        if taken.batch is None:
            self.check_that_waiting_is_right(free)
            return multiple()
        assert free
        self.check_batch(taken.batch)
        self.running += 1
        return taken.batch

    def check_that_waiting_is_right(self, free):
        waiting = self.waiting()
        if waiting and free:
            assert self.policy.mode == "fixed" or self.running, "an idle engine waited"
            assert min(job.arrived_at for job in waiting) + self.policy.max_queue_delay_s > self.now
            assert self.queue.waiting_rows < self.policy.max_batch_rows

    def check_batch(self, batch):
        before = self.waiting()
        assert batch.waiting_rows == sum(job.rows - self.taken[job] for job in before)
        assert 1 <= batch.rows <= self.policy.max_batch_rows
        assert batch.rows == sum(part.rows for part in batch.parts)
        assert batch.oldest_wait_s == self.now - min(job.arrived_at for job in before)
        for part in batch.parts:
            assert part.job.deadline > self.now, "scored although nobody waits for it"
            assert part.start == self.taken[part.job]
            self.taken[part.job] = part.stop
            if part.job.rows <= self.policy.max_batch_rows:
                assert part.rows == part.job.rows
        turns = [job.arrived_at + PRIORITY_PENALTY_S[job.priority] for job in batch.jobs]
        assert turns == sorted(turns)
        for job in self.waiting():
            assert job.arrived_at + PRIORITY_PENALTY_S[job.priority] >= turns[-1]

    @rule(batch=consumes(executing), failed=st.booleans())
    def finish(self, batch, failed):
        self.running -= 1
        complete = []
        for part in batch.parts:
            if part.job in self.back:
                self.back[part.job] += part.rows
                if self.back[part.job] == part.job.rows:
                    complete.append(part.job)
        assert self.queue.finished(batch, self.now, failed=failed) == tuple(complete)
        for job in complete:
            self.end(job, "scored")

    @invariant()
    def counts_are_right(self):
        if hasattr(self, "queue"):
            rows = sum(job.rows - self.taken[job] for job in self.waiting())
            assert self.queue.waiting_rows == rows

    def teardown(self):
        if not hasattr(self, "queue"):
            return
        self.now += 1.0  # later than any deadline
        for job in self.queue.take(self.now).expired:
            self.end(job, "expired")
        assert not self.taken, "a job was forgotten"


class TestEveryInterleaving(EveryInterleaving.TestCase):
    settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
