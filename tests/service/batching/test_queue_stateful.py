"""Whatever happens in whatever order: no job is lost, doubled, late or out of turn.

And what a batch says of itself is true.
"""

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

from service.batching.jobs import ScoreJob
from service.batching.policy import PRIORITY_PENALTY_S
from service.batching.queue import BatchQueue
from service.errors import DeadlineUnreachable, QueueFull
from service.settings import BatchPolicy


def policy_of(rows, **others):
    preferred, largest = rows
    return BatchPolicy(preferred_batch_rows=preferred, max_batch_rows=largest, **others)


POLICIES = st.builds(
    policy_of,
    rows=st.sampled_from([(1, 1), (2, 5), (5, 12), (12, 12), (30, 40), (60, 60), (200, 200)]),
    mode=st.sampled_from(["adaptive", "fixed"]),
    max_queue_delay_s=st.sampled_from([0.0, 0.005, 0.1]),
    max_waiting_rows=st.sampled_from([10, 60, 500]),
    instances=st.integers(1, 3),
    preserve_ordering=st.booleans(),
    execution=st.just("thread"),
)


class EveryInterleaving(RuleBasedStateMachine):
    executing = Bundle("executing")
    known = Bundle("known")

    @initialize(policy=POLICIES, deployments=st.integers(1, 3), taught=st.booleans())
    def start(self, policy, deployments, taught):
        self.policy = policy
        self.deployments = deployments
        self.queue = BatchQueue(policy)
        self.now = 1000.0
        self.free_since = -math.inf
        self.taken = {}  # live job -> rows that have left, in the order of arrival
        self.back = {}  # live job -> rows that are scored
        self.ended = {}  # job -> how
        self.running = 0
        if taught:
            self.teach()

    def teach(self):
        """Let the queue learn that jobs come often, and that a batch has a high fixed cost."""
        for number in range(40):
            rows = 1 + number % self.policy.max_batch_rows
            self.queue.offer(ScoreJob(rows=rows, arrived_at=self.now, deadline=self.now + 1))
            self.now = max(self.now, self.queue.wake_at())
            batch = self.queue.take(self.now).batch
            self.now += 0.02 + 0.0001 * batch.rows
            self.queue.finished(batch, self.now)
            if self.policy.instances == 1:
                self.free_since = self.now
        for _ in range(100):
            self.now += 0.00001
            job = ScoreJob(rows=1, arrived_at=self.now, deadline=self.now + 1)
            self.queue.offer(job)
            self.queue.withdraw(job)

    def end(self, job, how):
        assert job not in self.ended, f"ended twice: {self.ended[job]}, then {how}"
        self.ended[job] = how
        del self.taken[job], self.back[job]

    def waiting(self):
        return [job for job, rows in self.taken.items() if rows < job.rows]

    def end_answerable(self):
        """End every job that is scored and held for nobody any more; in what order?"""
        answerable, held_up = [], set()
        for job in self.taken:
            if self.back[job] < job.rows:
                held_up.add(job.deployment)
            elif not self.policy.preserve_ordering or job.deployment not in held_up:
                answerable.append(job)
        for job in answerable:
            self.end(job, "answered")
        return answerable

    @rule(
        target=known,
        rows=st.integers(1, 30),
        timeout=st.floats(-0.01, 0.5),
        p=st.sampled_from(["high", "normal", "low"]),
        of=st.integers(0, 2),
    )
    def offer(self, rows, timeout, p, of):
        job = ScoreJob(
            rows=rows,
            arrived_at=self.now,
            deadline=self.now + timeout,
            priority=p,
            deployment=f"d{of % self.deployments}",
        )
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
        released = self.queue.withdraw(job)
        if job not in self.ended:
            self.end(job, "withdrawn")
        assert sorted(released, key=id) == sorted(self.end_answerable(), key=id)

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
        batch = self.take_next()
        return multiple() if batch is None else batch

    def take_next(self):
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
        self.check_answers(taken.answerable)
        if taken.batch is None:
            self.check_that_waiting_is_right(free)
            return None
        assert free
        self.check_batch(taken.batch)
        self.running += 1
        return taken.batch

    def check_answers(self, answered):
        """Those who can be answered are, and each deployment's in the order of arrival."""
        expected = self.end_answerable()
        assert sorted(answered, key=id) == sorted(expected, key=id)
        if self.policy.preserve_ordering:
            for name in {job.deployment for job in answered}:
                mine = [job for job in answered if job.deployment == name]
                assert mine == [job for job in expected if job.deployment == name]

    def check_that_waiting_is_right(self, free):
        waiting = self.waiting()
        if waiting and free:
            learnt = self.queue._batch_time.known is not None
            assert self.policy.mode == "fixed" or learnt, "waited without knowing for what"
            assert min(job.arrived_at for job in waiting) + self.policy.max_queue_delay_s > self.now
            assert self.queue.waiting_rows < self.policy.preferred_batch_rows

    def check_batch(self, batch):
        before = self.waiting()
        self.check_explanation(batch, before)
        assert 1 <= batch.rows <= self.policy.max_batch_rows
        assert batch.rows == sum(part.rows for part in batch.parts)
        for part in batch.parts:
            assert part.job.deadline > self.now, "scored although nobody waits for it"
            assert part.start == self.taken[part.job]
            self.taken[part.job] = part.stop
            if part.rows < part.job.rows:
                is_full = batch.rows == self.policy.max_batch_rows
                assert is_full or part.stop == part.job.rows, "cut without need"
        self.check_turns(batch)

    def check_turns(self, batch):
        """Nobody is overtaken by its like; with one deployment, by nobody of a later turn."""
        last = {}
        for job in batch.jobs:
            mine = (job.deployment, job.priority)
            assert last.get(mine, -math.inf) <= job.arrived_at
            last[mine] = job.arrived_at
        for job in self.waiting():
            assert last.get((job.deployment, job.priority), -math.inf) <= job.arrived_at
        if self.deployments == 1:
            turns = [job.arrived_at + PRIORITY_PENALTY_S[job.priority] for job in batch.jobs]
            assert turns == sorted(turns)
            for job in self.waiting():
                assert job.arrived_at + PRIORITY_PENALTY_S[job.priority] >= turns[-1]

    def check_explanation(self, batch, before):
        oldest = min(job.arrived_at for job in before)
        assert batch.waiting_rows == sum(job.rows - self.taken[job] for job in before)
        assert batch.oldest_wait_s == self.now - oldest
        assert batch.executing == self.running
        largest, preferred = self.policy.max_batch_rows, self.policy.preferred_batch_rows
        adaptive = self.policy.mode == "adaptive"
        assert {
            "full": batch.waiting_rows >= largest,
            "preferred": preferred <= batch.waiting_rows < largest,
            "idle": adaptive and self.running == 0,
            "no_company": adaptive and self.running == 0,
            "no_gain": adaptive and self.running > 0,
            "delay": self.now >= oldest + self.policy.max_queue_delay_s,
        }[batch.reason]
        for job in batch.jobs:
            free_for = self.now - max(job.arrived_at, self.free_since)
            assert batch.company_wait_s(job) == free_for
            assert 0 <= free_for <= self.now - job.arrived_at

    @rule(seconds=st.sampled_from([0.0001, 0.002, 0.03]))
    def score_next(self, seconds):
        """What happens most: a batch leaves, and comes back some time later."""
        batch = self.take_next()
        if batch is not None:
            self.now += seconds
            self.end_batch(batch, failed=False)

    @rule(batch=consumes(executing), failed=st.booleans())
    def finish(self, batch, failed):
        self.end_batch(batch, failed)

    def end_batch(self, batch, failed):
        if self.running == self.policy.instances:
            self.free_since = self.now
        self.running -= 1
        for part in batch.parts:
            if part.job in self.back:
                self.back[part.job] += part.rows
        self.check_answers(self.queue.finished(batch, self.now, failed=failed))

    @invariant()
    def counts_are_right(self):
        if hasattr(self, "queue"):
            rows = sum(job.rows - self.taken[job] for job in self.waiting())
            assert self.queue.waiting_rows == rows

    def teardown(self):
        if not hasattr(self, "queue"):
            return
        self.now += 1.0  # later than any deadline
        taken = self.queue.take(self.now)
        for job in taken.expired:
            self.end(job, "expired")
        assert taken.answerable == ()
        assert not self.taken, "a job was forgotten"


class TestEveryInterleaving(EveryInterleaving.TestCase):
    settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
