"""Whether anybody still waits, asked of the server without waiting for the answer."""

import asyncio
from types import SimpleNamespace

import pytest

from service.api.departure import has_hung_up


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
