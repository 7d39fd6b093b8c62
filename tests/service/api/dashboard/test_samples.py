"""Slots: what rose in two seconds, of one worker and of all."""

import asyncio

import pytest

from service.api.dashboard import samples
from service.api.dashboard.history import History
from service.api.dashboard.samples import KEPT_SLOTS, SLOT_S, Sampler, told
from service.telemetry.metrics import Metrics
from service.testing import FakeClock

SLOT = 1000


class Worker:
    """A worker's figures, and what it has told of them so far."""

    def __init__(self):
        self.metrics = Metrics(["home"], version="0")
        self.sampler = Sampler(self.metrics.families, FakeClock(wall=SLOT * SLOT_S))

    def ranked(self, times, seconds=0.004):
        for _ in range(times):
            self.metrics.ranking_started()
            self.metrics.ranking_ended(
                surface="home",
                variant="exp:a",
                reply=None,
                outcome="ok",
                seconds=seconds,
                exemplar=None,
            )

    def look(self, number):
        asyncio.run(self.sampler.look(number))


def history_of(*workers):
    async def ask(after):
        return [await worker.sampler.answer(str(after).encode()) for worker in workers]

    return History(ask)


def ended(points):
    return {at: sum(point.outcomes.values()) for at, point in points.items()}


def test_a_slot_holds_what_rose_in_it_and_an_idle_one_is_not_kept():
    worker = Worker()
    for number, times in ((SLOT, 3), (SLOT + 1, 0), (SLOT + 2, 5)):
        worker.ranked(times)
        worker.look(number)

    answer = told(asyncio.run(worker.sampler.answer(b"0")))

    counted = {s.number: s.counts["podium_requests_total"][("exp:a", "ok")] for s in answer.slots}
    assert counted == {SLOT: 3, SLOT + 2: 5}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(samples, "KEPT_SLOTS", 5)
    worker = Worker()
    for number in range(SLOT, SLOT + 8):
        worker.ranked(1)
        worker.look(number)

    kept = [slot.number for slot in told(asyncio.run(worker.sampler.answer(b"0"))).slots]
    assert kept == list(range(SLOT + 3, SLOT + 8))


def test_points_are_sums_over_workers():
    one, other = Worker(), Worker()
    one.ranked(6)
    other.ranked(4, seconds=0.2)
    one.look(SLOT)
    other.look(SLOT)

    points = asyncio.run(history_of(one, other).read(SLOT))

    assert ended(points) == {SLOT: 10}
    assert points[SLOT].variants["exp:a"].ms.p50 < 5 < 150 < points[SLOT].variants["exp:a"].ms.p95


def test_a_slot_that_a_busy_worker_told_late_still_counts():
    one, busy = Worker(), Worker()
    history = history_of(one, busy)
    one.ranked(2)
    one.look(SLOT)
    asyncio.run(history.read(SLOT))
    busy.ranked(6)
    busy.look(SLOT)

    assert ended(asyncio.run(history.read(SLOT + 1))) == {SLOT: 8, SLOT + 1: 0}


def test_a_worker_that_ended_leaves_what_it_had_told():
    workers = [Worker(), Worker()]
    for worker in workers:
        worker.ranked(5)
        worker.look(SLOT)

    async def ask(after):
        return [await worker.sampler.answer(str(after).encode()) for worker in workers]

    history = History(ask)
    asyncio.run(history.read(SLOT))
    workers.pop()
    asyncio.run(history.read(SLOT + 1))

    assert ended(history.after(None))[SLOT] == 10


def test_who_knows_a_slot_is_told_what_came_after_it():
    worker = Worker()
    worker.ranked(1)
    worker.look(SLOT)
    history = history_of(worker)
    asyncio.run(history.read(SLOT + 3))

    assert list(history.after(None)) == [SLOT, SLOT + 1, SLOT + 2, SLOT + 3]
    assert list(history.after(SLOT + 2)) == [SLOT + 3]


def test_a_point_is_forgotten_when_it_is_too_old():
    worker = Worker()
    worker.ranked(1)
    worker.look(SLOT)
    history = history_of(worker)
    asyncio.run(history.read(SLOT))
    asyncio.run(history.read(SLOT + KEPT_SLOTS))

    assert SLOT not in history.after(None)
    assert max(history.after(None)) == SLOT + KEPT_SLOTS


@pytest.mark.parametrize("workers", [1, 3])
def test_nobody_loses_the_time_before_the_first_ranking(workers):
    """A slot without counts is a point of zeros, and not a gap."""
    points = asyncio.run(history_of(*(Worker() for _ in range(workers))).read(SLOT + 4))

    assert ended(points) == dict.fromkeys(range(SLOT, SLOT + 5), 0)
