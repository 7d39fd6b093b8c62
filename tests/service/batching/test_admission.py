"""What the queue learns of the engine's speed, and whom it refuses for it."""

import pytest

from service.batching.admission import DrainRate
from service.batching.jobs import ScoreJob
from service.batching.lanes import Lanes
from service.batching.queue import BatchQueue
from service.errors import DeadlineUnreachable, QueueFull
from service.settings import BatchPolicy

POLICY = BatchPolicy(max_batch_rows=100, preferred_batch_rows=100, max_waiting_rows=1000)


def job(rows=100, *, at=0.0, left=10.0, priority="normal"):
    return ScoreJob(rows=rows, arrived_at=at, deadline=at + left, priority=priority)


def queue_that_scores(rows_per_s: float, policy: BatchPolicy = POLICY) -> BatchQueue:
    """A queue that has seen full batches at this speed, and is idle at time 0."""
    queue = BatchQueue(policy)
    for n in range(20):
        start = -100.0 + n
        queue.offer(job(100, at=start))
        batch = queue.take(start).batch
        queue.finished(batch, start + 100 / rows_per_s)
    return queue


def test_nothing_is_refused_before_the_rate_is_known():
    queue = BatchQueue(POLICY)

    for _ in range(10):
        queue.offer(job(100, left=0.001))

    assert queue.rows_per_s is None
    assert queue.waiting_rows == 1000


def test_a_job_that_would_be_late_is_refused_at_the_door():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(4):
        queue.offer(job(100, left=10.0))

    # 400 rows ahead take 0.4 s, or a tenth more, and 100 of its own 0.1 s.
    queue.offer(job(100, left=0.55))
    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(100, left=0.4))

    assert refusal.value.predicted_ms == pytest.approx(550 + 100)
    assert refusal.value.left_ms == pytest.approx(400)
    assert queue.waiting_rows == 500, "a refused job leaves nothing behind"


def test_retry_after_is_when_the_same_job_would_be_admitted():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(5):
        queue.offer(job(100))
    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(100, left=0.4))

    now = 0.0
    while now < refusal.value.retry_after_s - 1e-9:
        batch = queue.take(now).batch
        now += 0.1  # at the speed it has learnt
        queue.finished(batch, now)

    queue.offer(job(100, at=now, left=0.4))


def test_retry_after_of_a_full_queue_is_when_enough_has_left():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(10):
        queue.offer(job(100))

    with pytest.raises(QueueFull) as refusal:
        queue.offer(job(50))

    assert (refusal.value.waiting_rows, refusal.value.limit_rows) == (1000, 1000)
    # 50 rows take 0.05 s, and a little more as others keep coming.
    assert 0.05 < refusal.value.retry_after_s < 0.1


def test_a_full_queue_refuses_even_before_the_rate_is_known():
    queue = BatchQueue(POLICY)
    queue.offer(job(1000))

    with pytest.raises(QueueFull) as refusal:
        queue.offer(job(1))

    assert refusal.value.retry_after_s > 0


def test_an_idle_engine_takes_a_job_of_any_size_and_deadline():
    """Else an estimate that is too low could never mend: nothing would run to correct it."""
    queue = queue_that_scores(rows_per_s=1)

    queue.offer(job(5000, left=0.001))

    assert queue.waiting_rows == 5000


def test_an_important_job_is_not_refused_for_work_that_it_overtakes():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(5):
        queue.offer(job(100, priority="low"))

    queue.offer(job(100, left=0.15, priority="high"))
    with pytest.raises(DeadlineUnreachable):
        queue.offer(job(100, left=0.15, priority="low"))


def test_work_that_has_waited_out_its_penalty_counts_for_important_jobs_too():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(5):
        queue.offer(job(100, at=0.0, priority="low"))

    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(100, at=0.041, left=0.15, priority="high"))

    assert refusal.value.predicted_ms > 150


def test_a_batch_under_way_counts_until_it_should_be_done():
    policy = BatchPolicy(max_batch_rows=100, preferred_batch_rows=100, execution="thread")
    queue = queue_that_scores(rows_per_s=1000, policy=policy)
    queue.offer(job(100))
    assert queue.take(0.0).batch is not None  # done at 0.1

    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(100, at=0.04, left=0.16))
    assert refusal.value.predicted_ms == pytest.approx(66 + 100)  # the rest of the other, its own

    queue.offer(job(100, at=0.06, left=0.16))


def test_two_instances_drain_twice_as_fast_but_score_no_batch_faster():
    policy = BatchPolicy(
        max_batch_rows=100, preferred_batch_rows=100, instances=2, execution="thread"
    )
    queue = queue_that_scores(1000, policy)
    assert queue.rows_per_s == pytest.approx(2000)
    for _ in range(4):
        queue.offer(job(100))

    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(100, left=0.25))

    assert refusal.value.predicted_ms == pytest.approx(220 + 100)


def test_those_who_are_refused_one_after_the_other_are_not_all_told_to_come_at_once():
    queue = queue_that_scores(rows_per_s=1000)
    for _ in range(5):
        queue.offer(job(100))

    told = []
    for _ in range(20):
        with pytest.raises(DeadlineUnreachable) as refusal:
            queue.offer(job(100, left=0.4))
        told.append(refusal.value.retry_after_s)

    assert told == sorted(told)
    assert told[-1] - told[0] > 1.9, "20 x 100 rows take 2 s"
    assert told[-1] <= 30.0


def test_a_batch_is_not_done_before_the_rows_behind_a_job_are_scored_too():
    """Under overload a batch is full whoever is first in it."""
    queue = queue_that_scores(rows_per_s=1000)
    for n in range(200):  # 1,000 rows a second come, in small jobs
        queue.offer(job(1, at=n * 0.001))
        if n == 100:
            assert queue.take(0.1).batch.rows == 100

    with pytest.raises(DeadlineUnreachable) as refusal:
        queue.offer(job(1, at=0.2, left=0.15))

    assert refusal.value.predicted_ms > 190


def test_a_failed_batch_says_nothing_about_speed():
    queue = queue_that_scores(rows_per_s=1000)
    queue.offer(job(100))

    queue.finished(queue.take(0.0).batch, now=0.000001, failed=True)

    assert queue.rows_per_s == pytest.approx(1000)


def test_under_a_backlog_the_time_between_batches_counts():
    """On the event loop's thread the loop's other work is half of what a request costs."""
    queue, now = BatchQueue(POLICY), 0.0
    for _ in range(50):
        queue.offer(job(100, at=now))
        queue.offer(job(100, at=now))
        queue.finished(queue.take(now).batch, now + 0.1)
        now += 0.2  # of which the engine was busy for half
        queue.finished(queue.take(now).batch, now + 0.1)
        now += 0.2

    # Each second batch came right after another one: 500 rows/s. Each first one came after
    # a pause of the traffic, which is nobody's cost: 1000 rows/s.
    assert 600 < queue.rows_per_s < 900


def test_a_wait_for_company_is_no_cost_of_the_engine():
    policy = BatchPolicy(mode="fixed", max_batch_rows=100, preferred_batch_rows=100)
    queue = BatchQueue(policy)
    queue.offer(job(100, at=0.0))
    batch = queue.take(0.0).batch
    queue.offer(job(50, at=0.099))
    queue.finished(batch, 0.1)  # the 50 rows wait for more, until 0.104

    queue.offer(job(50, at=0.103))
    queue.finished(queue.take(0.103).batch, 0.203)

    assert queue.rows_per_s == pytest.approx(1000)


def test_a_backlog_that_went_away_is_no_cost_of_those_who_come_later():
    queue = BatchQueue(POLICY)
    queue.offer(job(100, at=0.0))
    batch = queue.take(0.0).batch
    gone = job(100, at=0.05)
    queue.offer(gone)
    queue.finished(batch, 0.1)
    queue.withdraw(gone)

    queue.offer(job(100, at=5.0))
    queue.finished(queue.take(5.0).batch, 5.1)

    assert queue.rows_per_s == pytest.approx(1000)


def test_small_batches_alone_teach_nothing():
    rate = DrainRate()
    rate.learn(10, 0.001, full=False)

    assert rate.rows_per_s is None


def test_small_batches_do_not_make_a_backlog_look_slow():
    rate = DrainRate()
    rate.learn(400, 0.001, full=True)
    for _ in range(100):
        rate.learn(10, 0.001, full=False)

    assert rate.rows_per_s == 400_000


def test_one_pause_of_the_machine_is_nearly_nothing():
    rate = DrainRate()
    for _ in range(20):
        rate.learn(400, 0.001, full=True)
    rate.learn(400, 2.0, full=True)

    assert rate.rows_per_s > 300_000


def test_an_estimate_that_is_far_too_low_mends_without_a_full_batch():
    """One slow start, and everything would be refused for ever: no batch would be full again."""
    rate = DrainRate()
    rate.learn(400, 2.0, full=True)
    for _ in range(30):
        rate.learn(100, 0.001, full=False)

    assert rate.rows_per_s == pytest.approx(100_000, rel=0.01)


def test_a_batch_shorter_than_the_clock_can_tell_is_left_out():
    rate = DrainRate()
    rate.learn(400, 0.0, full=True)

    assert rate.rows_per_s is None


def test_counting_what_is_ahead_stops_when_it_is_enough():
    """A long queue of unimportant work must not make each important job slow to admit."""
    lanes = Lanes()
    for _ in range(1000):
        lanes.append(job(10, at=0.0, priority="low"))

    assert 50 < lanes.rows_ahead(job(at=1.0, priority="high"), enough=50) <= 60
