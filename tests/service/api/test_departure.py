"""Whether anybody still waits, asked of the server without waiting for the answer."""

import asyncio
from types import SimpleNamespace

import pytest

from service.api.departure import has_hung_up, unless_hung_up
from service.errors import ClientGone, QueueFull


class Connection:
    """A connection as uvicorn keeps it: `receive` waits until the caller is gone."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        if not self.gone.is_set():
            await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_a_caller_that_waits_is_there_and_one_that_hung_up_is_not():
    connection = Connection()
    request = SimpleNamespace(receive=connection.receive)

    assert not has_hung_up(request)
    connection.gone.set()
    assert has_hung_up(request)


async def test_asking_leaves_nothing_behind():
    connection = Connection()
    for _ in range(3):
        assert not has_hung_up(SimpleNamespace(receive=connection.receive))

    assert not connection.gone._waiters


@pytest.mark.parametrize("type_", ["http.request", "http.disconnect"])
async def test_a_body_that_nobody_read_is_no_departure(type_):
    async def receive() -> dict[str, str]:
        return {"type": type_}

    assert has_hung_up(SimpleNamespace(receive=receive)) == (type_ == "http.disconnect")


async def test_work_is_done_for_a_caller_that_stays():
    connection = Connection()

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await unless_hung_up(SimpleNamespace(receive=connection.receive), work()) == 7
    await asyncio.sleep(0)
    assert not connection.gone._waiters


async def test_work_is_given_up_when_its_caller_leaves():
    connection, ended = Connection(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    asyncio.get_running_loop().call_soon(connection.gone.set)
    with pytest.raises(ClientGone):
        await unless_hung_up(SimpleNamespace(receive=connection.receive), work())

    await asyncio.sleep(0)
    assert ended == [True]


async def test_work_that_fails_says_why():
    async def work() -> None:
        raise QueueFull(1, 1, 1.0)

    with pytest.raises(QueueFull):
        await unless_hung_up(SimpleNamespace(receive=Connection().receive), work())
