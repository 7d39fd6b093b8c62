"""The lean client alone: one write per turn, replies in order, nobody's reply to somebody else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from service.cache.lean_connection import LeanAddress, LeanConnection
from service.cache.lean_store import LeanLine
from service.cache.link import PROOFS, NoTurn, ProtocolDoubt
from tests.support.huge_replies import HEADS, huge_reply
from tests.support.valkey import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(path: str, serve: Serve) -> AsyncIterator[LeanAddress]:
    """A server that says what a test wants."""

    async def and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(and_close, path)
    yield LeanAddress(path=path, connect_timeout_s=5.0)
    server.close()
    await server.wait_closed()


async def test_commands_of_one_turn_are_one_write(tmp_path):
    read: list[bytes] = []

    async def serve(reader, writer):
        for _ in range(2):
            read.append(await reader.read(65_536))
            writer.write(b"$-1\r\n" * read[-1].count(b"*2\r\n"))
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as address:
        line = LeanLine(address, patience_s=5.0)
        await line.run([("GET", "first")], 5.0)
        await asyncio.gather(*(line.run([("GET", f"k{i}")], 5.0) for i in range(20)))
        await line.close()

    assert [written.count(b"GET") for written in read] == [1, 20]


async def test_nothing_goes_out_before_the_password_is_accepted(tmp_path):
    """Behind a refused AUTH it would be done as the default user, if there is one."""
    read: list[bytes] = []

    async def serve(reader, writer):
        read.append(await reader.read(65_536))
        writer.write(b"-WRONGPASS invalid username-password pair\r\n")
        read.append(await reader.read())

    async with scripted(str(tmp_path / "s"), serve) as plain:
        address = LeanAddress(
            path=plain.path, username="u", password="geheim", database=3, connect_timeout_s=5.0
        )
        line = LeanLine(address, patience_s=5.0)
        with pytest.raises(ConnectionError, match="AUTH is refused: WRONGPASS") as refused:
            await line.run([("GET", "a")], 5.0)
        await line.close()

    assert b"GET" not in b"".join(read)
    assert "geheim" not in str(refused.value) + repr(address)


async def test_a_look_finds_connections_out_of_step_and_the_next_call_has_new_ones(tmp_path):
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader, writer):
        connections.append(writer)
        out_of_step = len(connections) <= 2
        while received := await reader.read(65_536):
            nonce = b"strange" if out_of_step else received.split(b"\r\n")[4]
            writer.write(b"$%d\r\n%s\r\n" % (len(nonce), nonce))
            writer.write(b"$1\r\n7\r\n" * received.count(b"GET"))

    async with scripted(str(tmp_path / "s"), serve) as address:
        line = LeanLine(address, patience_s=5.0)
        with pytest.raises(ProtocolDoubt, match="out of step"):
            await line.look(5.0)
        assert line.lost == 2

        assert await line.look(5.0) == b"7"
        assert len(connections) == 4
        assert line.lost == 2
        await line.close()


async def test_who_refuses_a_look_or_takes_no_writes_is_looked_for_anew(tmp_path):
    """The name may lead to another master by now; the old one goes on refusing."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader, writer):
        connections.append(writer)
        demoted = len(connections) <= 3
        while received := await reader.read(65_536):
            for word in received.split(b"\r\n"):
                if word == b"PING":
                    nonce = received.split(b"\r\n")[4]
                    writer.write(b"$%d\r\n%s\r\n" % (len(nonce), nonce))
                elif word == b"GET":
                    writer.write(b"-MASTERDOWN Link\r\n" if demoted else b"$1\r\n7\r\n")
                elif word == b"SET":
                    writer.write(b"-READONLY You\r\n" if demoted else b"+OK\r\n")

    async with scripted(str(tmp_path / "s"), serve) as address:
        line = LeanLine(address, patience_s=5.0)
        (refused,) = await line.run([("SET", "a", b"b")], 5.0)
        assert isinstance(refused, ResponseError)
        assert line.lost == 1
        with pytest.raises(ResponseError, match="MASTERDOWN"):
            await line.look(5.0)
        assert line.lost == len(connections) == 3

        assert await line.run([("SET", "a", b"b")], 5.0) == [b"OK"]
        assert await line.look(5.0) == b"7"
        await line.close()


async def test_lookups_and_writes_have_connections_of_their_own(tmp_path):
    """A server may hold up writes and answer lookups: CLIENT PAUSE WRITE."""

    async def serve(reader, writer):
        while received := await reader.read(65_536):
            if b"GET" in received:
                writer.write(b"$1\r\na\r\n")

    async with scripted(str(tmp_path / "s"), serve) as address:
        line = LeanLine(address, patience_s=5.0)
        write = asyncio.create_task(line.run([("SET", "a", b"b")], 5.0))
        await eventually(lambda: line.under_way == 1)

        assert await line.run([("GET", "a")], 5.0) == [b"a"]
        assert not write.done()

        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        await line.close()


async def test_a_proof_is_many_replies_of_which_most_are_no_refusals(tmp_path):
    refused = 0

    async def serve(reader, writer):
        while received := await reader.read(65_536):
            words = received.split(b"\r\n")[4::5]
            for place, word in enumerate(words):
                echo = b"$%d\r\n%s\r\n" % (len(word), word)
                writer.write(b"-ERR no\r\n" if place < refused else echo)

    async with scripted(str(tmp_path / "s"), serve) as address:
        line = LeanLine(address, patience_s=5.0)
        await line.prove(5.0)
        refused = PROOFS // 2
        await line.prove(5.0)
        refused += 1
        with pytest.raises(ResponseError, match="no"):
            await line.prove(5.0)
        assert line.lost == 0
        await line.close()


async def test_a_reply_that_nobody_waits_for_ends_the_connection(tmp_path):
    async def serve(reader, writer):
        await reader.read(65_536)
        writer.write(b"$1\r\na\r\n$1\r\nb\r\n")
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as address:
        connection = LeanConnection(address, patience_s=5.0)
        assert await connection.run([("GET", "a")], 5.0) == [b"a"]

        await eventually(lambda: not connection.is_usable)
        with pytest.raises(ProtocolDoubt):
            await connection.run([("GET", "b")], 5.0)
        await connection.wait_closed()


async def test_the_reply_to_a_cancelled_call_is_thrown_away_and_the_next_one_is_right(tmp_path):
    may_answer = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(65_536)
        await may_answer.wait()
        writer.write(b"$1\r\na\r\n$1\r\nb\r\n")
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as address:
        connection = LeanConnection(address, patience_s=5.0)
        first = asyncio.create_task(connection.run([("GET", "a")], 5.0))
        second = asyncio.create_task(connection.run([("GET", "b")], 5.0))
        await eventually(lambda: connection.waiting == 2)
        await asyncio.sleep(0.01)
        first.cancel()
        may_answer.set()

        assert await second == [b"b"]
        assert (connection.waiting, connection.is_usable) == (0, True)
        connection.close()
        await connection.wait_closed()


async def test_a_call_without_an_answer_ends_the_connection_unless_it_was_in_a_hurry(tmp_path):
    async def serve(reader, writer):
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as address:
        connection = LeanConnection(address, patience_s=0.04)
        with pytest.raises(TimeoutError):
            await connection.run([("GET", "a")], 0.01)
        assert connection.is_usable
        with pytest.raises(TimeoutError):
            await connection.run([("GET", "a")], 0.05)
        assert not connection.is_usable
        assert connection.waiting == 0
        await connection.wait_closed()


async def test_a_greeting_that_takes_longer_than_a_lookup_may_is_waited_for(tmp_path):
    """Else no lookup would ever meet a connection that is ready."""
    greeted = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(65_536)
        await greeted.wait()
        writer.write(b"+OK\r\n")
        await reader.read(65_536)
        writer.write(b"$1\r\na\r\n")
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as plain:
        address = LeanAddress(path=plain.path, database=1, connect_timeout_s=5.0)
        line = LeanLine(address, patience_s=0.01)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await line.run([("GET", "a")], 0.02)
        greeted.set()

        assert await line.run([("GET", "a")], 5.0) == [b"a"]
        assert line.lost == 0
        await line.close()


async def test_a_greeting_without_an_answer_ends_with_the_connect_timeout(tmp_path):
    async def serve(reader, writer):
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as plain:
        address = LeanAddress(path=plain.path, database=1, connect_timeout_s=0.05)
        line = LeanLine(address, patience_s=0.01)
        with pytest.raises(ConnectionError, match="connect timeout"):
            await line.run([("GET", "a")], 5.0)
        await line.close()


async def test_calls_beyond_the_limit_get_no_turn(tmp_path):
    async def serve(reader, writer):
        await reader.read()

    async with scripted(str(tmp_path / "s"), serve) as address:
        connection = LeanConnection(address, patience_s=60)
        calls = [asyncio.create_task(connection.run([("GET", "a")], 60)) for _ in range(1024)]
        await asyncio.sleep(0)
        with pytest.raises(NoTurn):
            await connection.run([("GET", "b")], 60)

        connection.close()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, ConnectionError) for end in ended)
        await connection.wait_closed()


async def test_a_connection_that_cannot_be_made_in_time_fails_the_calls_that_wait(tmp_path):
    """The socket is there and nobody accepts: its queue is full."""
    import socket

    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        fillers = []
        try:
            for _ in range(2):
                filler = socket.socket(socket.AF_UNIX)
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(path)
            address = LeanAddress(path=path, connect_timeout_s=0.05)
            line = LeanLine(address, patience_s=5.0)
            with pytest.raises((ConnectionError, TimeoutError)):
                await line.run([("GET", "a")], 1.0)
            await line.close()
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("head", HEADS)
async def test_a_reply_that_would_fill_the_memory_ends_the_connection(tmp_path, head):
    async with scripted(str(tmp_path / "s"), huge_reply(head)) as address:
        line = LeanLine(address, patience_s=5.0)
        with pytest.raises(ProtocolDoubt):
            await line.run([("GET", "a")], 5.0)
        await line.close()
