"""A coroutine's own CPU time, and nothing else changes for it."""

import asyncio

import pytest

from service.cache.metered import Metered


class Thread:
    """CPU time that passes when it is told."""

    def __init__(self):
        self.cpu_s = 0.0

    def works(self, seconds):
        self.cpu_s += seconds

    def metered(self, coroutine):
        return Metered(coroutine, lambda: self.cpu_s)


async def test_the_steps_count_and_what_others_do_meanwhile_does_not():
    thread = Thread()

    async def own():
        thread.works(1.0)
        await asyncio.sleep(0)
        thread.works(2.0)
        await asyncio.sleep(0)
        return "done"

    async def other():
        for _ in range(5):
            thread.works(100.0)
            await asyncio.sleep(0)

    metered = thread.metered(own())
    beside = asyncio.create_task(other())

    assert await metered == "done"
    await beside
    assert metered.took_s == 3.0


async def test_what_it_raises_comes_through():
    thread = Thread()

    async def fails():
        await asyncio.sleep(0)
        thread.works(1.0)
        raise ValueError("its own")

    metered = thread.metered(fails())
    with pytest.raises(ValueError, match="its own"):
        await metered
    assert metered.took_s == 1.0


async def test_a_cancellation_reaches_it_and_it_may_end_in_order():
    ended = []

    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def asks():
        await Metered(waits())

    task = asyncio.create_task(asks())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_timeout_inside_it_works():
    async def waits():
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await Metered(waits())
