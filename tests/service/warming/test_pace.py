"""When warming goes on: no faster than asked, and after whoever waits for an answer."""

import asyncio

import pytest

from service.clock import SystemClock
from service.testing import FakeClock
from service.warming.pace import Pace


class _MovingClock(FakeClock):
    """Moves while others sleep: `asyncio.sleep` is replaced by it."""

    async def sleep(self, seconds):
        self.advance(seconds)


@pytest.fixture
def clock(monkeypatch):
    clock = _MovingClock(now=0.0)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    return clock


async def test_a_rate_is_kept_over_groups_of_any_size(clock):
    pace = Pace(100.0, lambda: 0, clock, ends_at=1.0)

    done = 0
    while await pace.turn(4):
        done += 4

    assert done == 100


async def test_a_pause_is_not_made_up_for_at_once(clock):
    pace = Pace(100.0, lambda: 0, clock, ends_at=10.0)
    await pace.turn(1)
    clock.advance(5.0)

    began, done = clock.now(), 0
    while clock.now() < began + 1.0 and await pace.turn(1):
        done += 1

    assert done < 110  # and not the 500 of the pause as well


async def test_whoever_waits_for_an_engine_goes_first(clock):
    waiting = [300, 300, 200, 0, 0]
    pace = Pace(None, lambda: waiting.pop(0), clock, ends_at=1.0)

    assert await pace.turn(4)

    assert waiting == []
    assert pace.waited_s > 0


async def test_while_others_keep_the_engines_busy_nothing_is_done_until_the_call_ends(clock):
    pace = Pace(None, lambda: 1, clock, ends_at=1.0)

    assert not await pace.turn(4)

    assert 1.0 <= clock.now() < 1.1
    assert pace.waited_s == pytest.approx(1.0, abs=0.1)


async def test_a_turn_of_the_loop_that_is_long_is_the_work_of_others():
    """Real time: two busy turns are waited out, the quiet one after them is ours."""
    clock, busy = SystemClock(), 2
    loop = asyncio.get_running_loop()

    def work():
        nonlocal busy
        if busy:
            busy -= 1
            until = clock.now() + 0.02
            while clock.now() < until:
                pass
            loop.call_soon(work)

    loop.call_soon(work)
    pace = Pace(None, lambda: 0, clock, ends_at=clock.now() + 5.0)

    assert await pace.turn(1)

    assert busy == 0
    assert pace.waited_s >= 0.02
