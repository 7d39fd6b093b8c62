"""Waiting slots are scored in order, together where that is good for the engine, each once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.engines.host.schedule import Call, Model, Schedule
from service.testing import FakeEngine


class Caller:
    def __init__(self, model):
        self.model = model


def model(*, engines=1, best=100):
    return Model(tuple(FakeEngine(best_batch_rows=best) for _ in range(engines)))


def schedule_of(*models):
    schedule = Schedule()
    for one in models:
        schedule.add(one)
    return schedule


def call(of, rows=10, number=1):
    return Call(Caller(of), number, rows, 10.0)


def test_what_waits_for_one_model_is_scored_together_up_to_its_best_batch():
    ranker = model()
    schedule = schedule_of(ranker)
    calls = [call(ranker, rows) for rows in (40, 60, 1, 30)]
    for one in calls:
        schedule.offer(one)

    first = schedule.take(0.0)
    assert first.calls == tuple(calls[:2])
    assert schedule.take(0.0) is None  # no engine is free
    schedule.done(first)
    assert schedule.take(0.0).calls == tuple(calls[2:])


def test_a_call_above_the_best_batch_is_scored_alone():
    ranker = model()
    schedule = schedule_of(ranker)
    large, small = call(ranker, 150), call(ranker, 1)
    schedule.offer(large)
    schedule.offer(small)

    first = schedule.take(0.0)
    schedule.done(first)

    assert first.calls == (large,)
    assert schedule.take(0.0).calls == (small,)


def test_an_engine_without_a_best_batch_takes_as_much_as_it_can():
    assert Model((FakeEngine(max_batch_rows=77),)).best_batch_rows == 77


def test_a_busy_model_does_not_hold_up_another():
    busy, other = model(), model()
    schedule = schedule_of(busy, other)
    for one in (call(busy), call(busy), call(other)):
        schedule.offer(one)

    assert [schedule.take(0.0).model, schedule.take(0.0).model] == [busy, other]


def test_models_take_turns():
    a, b = model(engines=3, best=1), model(engines=3, best=1)
    schedule = schedule_of(a, b)
    for one in [call(a) for _ in range(3)] + [call(b) for _ in range(3)]:
        schedule.offer(one)

    assert [schedule.take(0.0).model for _ in range(6)] == [a, b] * 3


def test_a_caller_that_is_gone_is_not_scored():
    ranker = model()
    schedule = schedule_of(ranker)
    gone, there = call(ranker), call(ranker)
    schedule.offer(gone)
    schedule.offer(there)

    assert schedule.withdraw(gone.caller) is False
    assert schedule.take(0.0).calls == (there,)


def test_a_caller_that_goes_while_it_is_scored_is_said_to_be():
    ranker = model()
    schedule = schedule_of(ranker)
    gone = call(ranker)
    schedule.offer(gone)
    batch = schedule.take(0.0)

    assert schedule.withdraw(gone.caller) is True
    schedule.done(batch)
    assert schedule.withdraw(gone.caller) is False


@given(data=st.data())
def test_every_call_is_scored_once_in_order_by_an_engine_that_is_free(data):
    models = [
        model(engines=data.draw(st.integers(1, 3)), best=data.draw(st.integers(1, 30)))
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    schedule = schedule_of(*models)
    offered, taken, under_way = [], [], []
    for number in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["offer", "offer", "take", "done"]))
        if step == "offer":
            one = call(data.draw(st.sampled_from(models)), data.draw(st.integers(1, 40)), number)
            schedule.offer(one)
            offered.append(one)
        elif step == "take" and (batch := schedule.take(0.0)) is not None:
            under_way.append(batch)
            taken.extend(batch.calls)
        elif step == "done" and under_way:
            schedule.done(under_way.pop(data.draw(st.integers(0, len(under_way) - 1))))
        busy = Counter(batch.engine for batch in under_way)
        assert all(count == 1 for count in busy.values())
    while True:
        for batch in under_way:
            schedule.done(batch)
        batch = schedule.take(0.0)
        under_way = [] if batch is None else [batch]
        if batch is None:
            break
        taken.extend(batch.calls)

    for one in models:  # in order, none left, none twice
        assert [c for c in taken if c.caller.model is one] == [
            c for c in offered if c.caller.model is one
        ]
