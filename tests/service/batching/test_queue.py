"""What the batch queue promises. Time is a number in the test."""

import pytest

from service.batching.jobs import Part, ScoreJob
from service.batching.queue import BatchQueue
from service.settings import BatchPolicy

FIXED = BatchPolicy(mode="fixed", max_batch_rows=10, preferred_batch_rows=8)
ADAPTIVE = BatchPolicy(max_batch_rows=10, preferred_batch_rows=8)
TWO = BatchPolicy(max_batch_rows=10, preferred_batch_rows=8, instances=2, execution="thread")


def job(rows=1, *, at=10.0, left=1.0, priority="normal"):
    return ScoreJob(rows=rows, arrived_at=at, deadline=at + left, priority=priority)


def offered(queue, *jobs):
    for each in jobs:
        queue.offer(each)
    return jobs


def jobs_of(taken):
    return () if taken.batch is None else taken.batch.jobs


def drained(queue, now=10.0):
    """The jobs of every batch, each finished at once."""
    batches = []
    while (batch := queue.take(now).batch) is not None:
        queue.finished(batch, now)
        batches.append(batch.jobs)
    return batches


# --- when a batch leaves ---


def test_a_lone_job_leaves_an_idle_queue_at_once():
    queue = BatchQueue(ADAPTIVE)
    (lone,) = offered(queue, job(rows=3, at=10.0))

    assert queue.wake_at() <= 10.0
    batch = queue.take(now=10.0).batch

    assert batch.jobs == (lone,)
    assert batch.reason == "idle"
    assert batch.oldest_wait_s == 0.0


def test_in_fixed_mode_a_lone_job_waits_for_company_until_the_queue_delay():
    queue = BatchQueue(FIXED)
    (lone,) = offered(queue, job(rows=3, at=10.0))

    assert queue.take(now=10.004).batch is None
    assert queue.wake_at() == 10.005
    batch = queue.take(now=10.005).batch

    assert batch.jobs == (lone,)
    assert batch.reason == "delay"
    assert batch.oldest_wait_s == pytest.approx(0.005)


def test_a_timer_set_to_wake_at_always_finds_something_to_do():
    """0.1 + 0.005 is not representable; a second way to compute it may round differently."""
    for n in range(1000):
        at = 0.1 * n
        queue = BatchQueue(FIXED)
        offered(queue, job(at=at))

        assert queue.take(queue.wake_at()).batch is not None


def test_enough_company_ends_the_wait():
    queue = BatchQueue(FIXED)
    offered(queue, job(rows=7, at=10.0))
    assert queue.take(now=10.001).batch is None

    offered(queue, job(rows=1, at=10.001))
    batch = queue.take(now=10.001).batch

    assert batch.reason == "preferred"
    assert batch.rows == 8


def test_a_batch_that_cannot_grow_leaves_as_soon_as_an_engine_is_free():
    queue = BatchQueue(ADAPTIVE)
    (first,) = offered(queue, job(at=10.0))
    running = queue.take(now=10.0).batch
    offered(queue, *[job(rows=5, at=10.001) for _ in range(3)])

    assert queue.take(now=10.002).batch is None, "no engine is free"
    assert queue.finished(running, now=10.003) == (first,)
    batch = queue.take(now=10.003).batch

    assert batch.reason == "full"
    assert (batch.rows, batch.waiting_rows) == (10, 15)


def test_while_another_batch_runs_a_free_instance_scores_beside_it():
    """Before the queue has learnt that this gains nothing."""
    queue = BatchQueue(TWO)
    offered(queue, job(at=10.0))
    assert queue.take(now=10.0).batch.reason == "idle"
    (second,) = offered(queue, job(at=10.001))

    batch = queue.take(now=10.001).batch

    assert batch.jobs == (second,)
    assert (batch.reason, batch.executing) == ("no_gain", 1)


def test_the_delay_counts_from_arrival_even_if_no_engine_was_free():
    queue = BatchQueue(FIXED)
    offered(queue, job(at=10.0))
    running = queue.take(now=10.005).batch
    offered(queue, job(at=10.006))

    queue.finished(running, now=10.1)

    assert queue.take(now=10.1).batch.reason == "delay"


def test_a_batch_says_why_it_left_and_what_the_queue_looked_like():
    queue = BatchQueue(ADAPTIVE)
    offered(queue, job(rows=8, at=10.0), job(rows=6, at=10.002))

    batch = queue.take(now=10.003).batch

    assert batch.reason == "full"
    assert batch.waiting_rows == 14
    assert batch.rows == 8
    assert batch.oldest_wait_s == pytest.approx(0.003)


# --- who is in it ---


def test_jobs_leave_in_the_order_of_arrival():
    queue = BatchQueue(ADAPTIVE)
    a, b, c, d = offered(queue, job(4), job(4), job(4), job(1))

    # d would still fit beside a and b, but must not overtake c.
    assert drained(queue) == [(a, b), (c, d)]


def test_a_job_waits_whole_for_the_next_batch_if_little_of_this_one_stays_empty():
    queue = BatchQueue(ADAPTIVE)
    first, second = offered(queue, job(8), job(10))

    assert drained(queue) == [(first,), (second,)]


def test_a_job_is_cut_if_much_of_a_batch_would_stay_empty_else():
    """It is complete with the same batch as if it had waited whole."""
    queue = BatchQueue(ADAPTIVE)
    small, large = offered(queue, job(4), job(10))

    batch = queue.take(10.0).batch
    assert batch.parts == (Part(small, 0, 4), Part(large, 0, 6))
    assert queue.finished(batch, 10.0) == (small,)
    rest = queue.take(10.0).batch
    assert rest.parts == (Part(large, 6, 10),)
    assert queue.finished(rest, 10.0) == (large,)


def test_a_job_larger_than_a_batch_is_cut_and_its_rows_stay_in_order():
    queue = BatchQueue(ADAPTIVE)
    small, large, last = offered(queue, job(4), job(23), job(3))

    parts = []
    finished = []
    while (batch := queue.take(10.0).batch) is not None:
        parts.append(batch.parts)
        finished.append(queue.finished(batch, 10.0))

    assert parts == [
        (Part(small, 0, 4), Part(large, 0, 6)),
        (Part(large, 6, 16),),
        (Part(large, 16, 23), Part(last, 0, 3)),
    ]
    assert finished == [(small,), (), (large, last)]


def test_more_important_jobs_overtake():
    queue = BatchQueue(ADAPTIVE)
    low, normal, high = offered(queue, job(10, priority="low"), job(10), job(10, priority="high"))

    assert drained(queue) == [(high,), (normal,), (low,)]


@pytest.mark.parametrize(("priority", "bound_s"), [("normal", 0.010), ("low", 0.040)])
def test_nobody_is_overtaken_by_who_comes_later_than_its_penalty(priority, bound_s):
    queue = BatchQueue(ADAPTIVE)
    patient = job(10, at=10.0, priority=priority)
    before = job(10, at=10.0 + bound_s - 0.001, priority="high")
    after = job(10, at=10.0 + bound_s + 0.001, priority="high")
    offered(queue, patient, before, after)

    assert drained(queue, now=10.05) == [(before,), (patient,), (after,)]


# --- who leaves without being scored ---


def test_an_expired_job_leaves_before_it_is_scored():
    queue = BatchQueue(ADAPTIVE)
    late, fine = offered(queue, job(left=0.01), job(left=1.0))

    taken = queue.take(now=10.01)

    assert taken.expired == (late,)
    assert jobs_of(taken) == (fine,)
    assert queue.waiting_rows == 0


def test_the_queue_wakes_up_to_expire_a_job_that_nothing_else_would_move():
    queue = BatchQueue(ADAPTIVE)
    offered(queue, job(at=10.0))
    queue.take(now=10.0)
    (stuck,) = offered(queue, job(at=10.001, left=0.02))

    assert queue.wake_at() == 10.001 + 0.02
    taken = queue.take(queue.wake_at())

    assert taken.expired == (stuck,)
    assert taken.batch is None


def test_a_job_expires_while_it_is_scored_and_is_not_reported_again():
    queue = BatchQueue(ADAPTIVE)
    (late,) = offered(queue, job(left=0.01))
    batch = queue.take(now=10.0).batch

    assert queue.take(now=10.02).expired == (late,)
    assert queue.finished(batch, now=10.03) == ()
    assert queue.take(now=10.03).expired == ()


def test_expired_rows_do_not_make_a_batch_look_full():
    queue = BatchQueue(FIXED)
    offered(queue, job(rows=9, at=10.0, left=0.001), job(rows=1, at=10.002))

    taken = queue.take(now=10.003)

    assert taken.batch is None, "one row waits, and it has not waited for long"


def test_a_withdrawn_job_leaves_no_trace():
    queue = BatchQueue(ADAPTIVE)
    gone, stays = offered(queue, job(4), job(4))

    queue.withdraw(gone)
    queue.withdraw(gone)  # a second time changes nothing

    assert queue.waiting_rows == 4
    assert drained(queue) == [(stays,)]
    assert queue.take(now=20.0).expired == ()
    assert queue.wake_at() is None


def test_what_is_left_of_a_withdrawn_job_is_not_scored():
    queue = BatchQueue(ADAPTIVE)
    large, other = offered(queue, job(25), job(2))
    first = queue.take(now=10.0).batch
    queue.withdraw(large)

    assert queue.finished(first, now=10.0) == ()
    assert drained(queue) == [(other,)]


def test_jobs_that_ended_early_do_not_pile_up_until_their_deadline():
    queue = BatchQueue(ADAPTIVE)
    for _ in range(10_000):
        offered(queue, job(left=3600.0))
        drained(queue)

    assert len(queue._deadlines) < 200


def test_a_job_without_rows_is_a_mistake():
    with pytest.raises(ValueError, match="at least one row"):
        BatchQueue(BatchPolicy()).offer(job(rows=0))
