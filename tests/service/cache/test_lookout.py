"""The look-out: silence is noticed while calls wait, and only then."""

import asyncio
import time

from service.cache.lookout import SILENT, STEPS, Lookout
from tests.support.valkey import eventually


class Told:
    """How often silence was told of."""

    def __init__(self, timeout_s: float) -> None:
        self.times = 0
        self.lookout = Lookout(timeout_s, self._hear)

    def _hear(self) -> None:
        self.times += 1


async def test_who_answers_nobody_for_half_of_the_timeout_is_silent_once():
    told, began = Told(0.1), time.monotonic()
    told.lookout.begins()

    await eventually(lambda: told.times > 0)

    assert time.monotonic() - began >= (SILENT - 1) / STEPS * 0.1
    await asyncio.sleep(0.2)
    assert told.times == 1


async def test_an_answer_to_anybody_breaks_the_silence_and_the_next_one_is_told_of_anew():
    told = Told(0.2)
    told.lookout.begins()
    for _ in range(20):
        told.lookout.begins()
        await asyncio.sleep(0.015)
        told.lookout.ends(answered=True)
    assert told.times == 0

    await eventually(lambda: told.times == 1)
    told.lookout.begins()
    told.lookout.ends(answered=True)
    await eventually(lambda: told.times == 2)


async def test_nobody_waits_and_nothing_is_silent():
    told = Told(0.02)
    told.lookout.begins()
    told.lookout.ends(answered=False)

    await asyncio.sleep(0.1)

    assert told.times == 0


async def test_a_busy_loop_is_not_the_servers_silence():
    """The reply is there: it is read before the time that the loop was busy counts."""
    told = Told(0.08)
    told.lookout.begins()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)  # as a batch scored on the loop's thread
    await asyncio.sleep(0)
    told.lookout.ends(answered=True)
    await asyncio.sleep(0.02)

    assert told.times == 0
