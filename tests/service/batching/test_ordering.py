"""Answers in the order of arrival, for those who want them so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.jobs import ScoreJob
from service.batching.ordering import ReplyOrder
from service.batching.queue import BatchQueue
from service.settings import BatchPolicy

ORDERED = BatchPolicy(
    max_batch_rows=10,
    preferred_batch_rows=10,
    instances=2,
    execution="thread",
    preserve_ordering=True,
)


def job(of="a", rows=10, left=1.0, priority="normal"):
    return ScoreJob(rows=rows, arrived_at=0.0, deadline=left, deployment=of, priority=priority)


@pytest.fixture
def queue() -> BatchQueue:
    return BatchQueue(ORDERED)


def two_batches(queue, first, second):
    for each in (first, second):
        queue.offer(each)
    return queue.take(0.0).batch, queue.take(0.0).batch


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=12), st.randoms())
def test_each_deployments_answers_come_in_the_order_of_arrival_and_all_of_them(arrivals, dice):
    order = ReplyOrder()
    jobs = [(job(of), is_scored) for of, is_scored in arrivals]
    for each, _ in jobs:
        order.arrived(each)
    ends = list(jobs)
    dice.shuffle(ends)

    answered = []
    for each, is_scored in ends:
        answered += order.scored(each) if is_scored else order.ended(each)

    for of in "ab":
        expected = [each for each, is_scored in jobs if is_scored and each.deployment == of]
        assert [each for each in answered if each.deployment == of] == expected
    assert order._lines == {}, "nothing is kept of those that have ended"


def test_a_later_job_that_is_scored_first_is_held(queue):
    first, second = job(), job()
    one, other = two_batches(queue, first, second)

    assert queue.finished(other, 0.1) == ()
    assert queue.finished(one, 0.2) == (first, second)


def test_a_job_is_not_held_for_another_deployments(queue):
    first, second = job("a"), job("b")
    _, other = two_batches(queue, first, second)

    assert queue.finished(other, 0.1) == (second,)


def test_a_more_important_job_is_scored_first_and_answered_in_its_turn(queue):
    normal, high = job(), job(priority="high")
    one, other = two_batches(queue, normal, high)
    assert one.jobs == (high,)

    assert queue.finished(one, 0.1) == ()
    assert queue.finished(other, 0.2) == (normal, high)


def test_a_job_that_is_withdrawn_or_failed_holds_nobody_up(queue):
    first, second = job(), job()
    _, other = two_batches(queue, first, second)
    queue.finished(other, 0.1)

    assert queue.withdraw(first) == (second,)


def test_a_job_that_expires_holds_nobody_up(queue):
    first, second = job(left=0.5), job()
    _, other = two_batches(queue, first, second)
    queue.finished(other, 0.1)

    assert queue.wake_at() == 0.5
    taken = queue.take(0.5)

    assert taken.expired == (first,)
    assert taken.answerable == (second,)


def test_a_job_that_is_held_until_it_is_late_expires(queue):
    first, second, third = job(), job(left=0.5), job()
    _, other = two_batches(queue, first, second)
    queue.offer(third)
    queue.finished(other, 0.1)

    assert queue.take(0.5).expired == (second,)


def test_two_that_are_late_at_once_both_expire(queue):
    first, second = job(left=0.5), job(left=0.6)
    _, other = two_batches(queue, first, second)
    queue.finished(other, 0.1)

    taken = queue.take(0.7)

    assert taken.expired == (first, second)
    assert taken.answerable == ()
