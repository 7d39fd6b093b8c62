"""Which connections of redis-py are given up although the server answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import MasterDownError, ReadOnlyError

from service.cache.link import NoTurn
from service.cache.redis_store import RedisLine
from service.settings import RedisSettings
from service.stores import cache_client
from tests.support.valkey import eventually


@asynccontextmanager
async def line_to(path: str, first: bytes, later: bytes) -> AsyncIterator[RedisLine]:
    """To a server whose first connection leads to another one than the later ones."""
    made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        reply = first if made == 1 else later
        while await reader.read(65_536):
            writer.write(reply)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        client = cache_client(f"unix://{path}", RedisSettings(connect_timeout_s=5.0))
        line = RedisLine(client, pool_size=4)
        yield line
        await line.close()


async def test_who_refuses_a_look_is_looked_for_anew(tmp_path):
    """A name or sentinels may lead to another master by now; the old one goes on refusing."""
    async with line_to(str(tmp_path / "s"), b"-MASTERDOWN Link\r\n", b"$1\r\n7\r\n") as line:
        with pytest.raises(MasterDownError):
            await line.look(5.0)

        assert await line.look(5.0) == b"7"


async def test_who_takes_no_writes_is_looked_for_anew(tmp_path):
    async with line_to(str(tmp_path / "s"), b"-READONLY You\r\n", b"+OK\r\n") as line:
        (refusal,) = await line.run([("SET", "a", b"b")], 5.0)
        assert isinstance(refusal, ReadOnlyError)

        assert await line.run([("SET", "a", b"b")], 5.0) == [b"OK"]


async def test_a_caller_that_goes_away_costs_no_connection(tmp_path):
    """Clients disconnect by the thousand; a new connection costs more than a reply."""
    path, made, may_answer = str(tmp_path / "s"), 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        while await reader.read(65_536):
            await may_answer.wait()
            writer.write(b"$1\r\na\r\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        client = cache_client(f"unix://{path}", RedisSettings(connect_timeout_s=5.0))
        line = RedisLine(client, pool_size=4)
        gone = asyncio.create_task(line.run([("GET", "a")], 5.0))
        await eventually(lambda: made == 1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert line.under_way == 1
        may_answer.set()
        await eventually(lambda: line.under_way == 0)

        assert await line.run([("GET", "b")], 5.0) == [b"a"]
        assert (made, line.lost) == (1, 0)
        await line.close()


async def test_a_call_that_could_only_wait_in_vain_gets_no_turn(tmp_path):
    """Of five hundred at once, most would have none in time and still take time from the rest."""
    async with line_to(str(tmp_path / "s"), b"", b"") as line:
        calls = [asyncio.create_task(line.run([("GET", "a")], 5.0)) for _ in range(100)]
        await eventually(lambda: line.under_way == 100)

        with pytest.raises(NoTurn, match="100 calls are under way"):
            await line.run([("GET", "b")], 0.02)
        patient = asyncio.create_task(line.run([("GET", "b")], 5.0))
        await eventually(lambda: line.under_way == 101)

        for call in (calls := [*calls, patient]):
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
