"""Patience: a busy event loop does not make a reply late."""

import asyncio
import time

import pytest

from service.cache.patience import Patience


def occupy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_a_reply_in_the_socket_is_taken_however_busy_the_loop_was():
    """A plain timer of 5 ms would fire before the loop looks at its sockets again."""
    here, there, close = await _pipe()
    here.write(b"reply\n")

    async def lookup():
        async with Patience(0.005):
            return await there.readline()

    waiting = asyncio.create_task(lookup())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(occupy, 0.1)

    assert await waiting == b"reply\n"
    await close()


async def test_a_reply_that_does_not_come_is_given_up_in_time():
    began = time.perf_counter()

    with pytest.raises(TimeoutError):
        async with Patience(0.05):
            await asyncio.Event().wait()

    assert time.perf_counter() - began >= 0.045


async def test_what_is_done_in_time_leaves_no_timer_behind():
    async with Patience(0.01):
        pass

    await asyncio.sleep(0.03)  # a timer left behind would cancel this


async def test_being_cancelled_from_outside_is_no_time_out():
    async def lookup():
        async with Patience(10):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(lookup())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _pipe():
    """Both ends of a loopback connection, and what closes them."""
    accepted: asyncio.Future = asyncio.get_running_loop().create_future()

    async def accept(_, writer):
        accepted.set_result(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    reader, own = await asyncio.open_connection(*server.sockets[0].getsockname())
    other = await accepted

    async def close():
        server.close()
        for writer in (own, other):
            writer.close()
            await writer.wait_closed()

    return other, reader, close
