"""Connections go to the worker that has fewest, and none is lost when a worker cannot take it."""

import asyncio
import os
import socket

import pytest

from service.processes.board import Board, Slot
from service.processes.connections import (
    Acceptor,
    Incoming,
    connection_pair,
    introduce,
    take_connections,
    take_next,
)


class Echo(asyncio.Protocol):
    """Sends back what comes; keeps itself in uvicorn's way in a set."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker

    def connection_made(self, transport):
        self.transport = transport
        self.worker.incoming.open.add(self)

    def data_received(self, data):
        self.transport.write(self.worker.name + data)

    def connection_lost(self, _):
        self.worker.incoming.open.discard(self)


class Worker:
    """Both ends of a worker, in this process."""

    def __init__(self, name: bytes, slot: Slot) -> None:
        self.name, self.slot, self.given = name, slot, 0
        self.connections, self.end = connection_pair()
        self.incoming = Incoming(self.end, slot, lambda: Echo(self), self.meet)
        self.met: dict[int, socket.socket] = {}
        slot.beat()
        slot.serving(True)

    async def meet(self, number: int, end: socket.socket) -> None:
        self.met[number] = end

    def close(self) -> None:
        self.connections.close()
        self.end.close()


@pytest.fixture
async def service():
    made = Service()
    yield made
    await made.close()


class Service:
    """Two workers behind an acceptor."""

    def __init__(self) -> None:
        self.board = Board.create(2)
        self.workers = [Worker(b"a", self.board.slots[0]), Worker(b"b", self.board.slots[1])]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.acceptor = Acceptor(self.listener, self.serving)
        self.acceptor.start()

    def serving(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.slot.is_serving]

    def start(self, *workers: Worker) -> None:
        for worker in workers or self.workers:
            worker.incoming.start()

    async def close(self) -> None:
        self.acceptor.stop()
        for worker in self.workers:
            await worker.incoming.stop()
            for protocol in list(worker.incoming.open):
                protocol.transport.abort()
            await asyncio.sleep(0)
            worker.close()
        os.close(self.board.descriptor)


async def connect(service):
    """A connection, and which worker answers on it."""
    reader, writer = await asyncio.open_connection(*service.address)
    writer.write(b"!")
    answer = await asyncio.wait_for(reader.readexactly(2), 10)
    return answer[:1], writer


async def test_connections_alternate_and_a_closed_one_makes_room(service):
    service.start()
    a_name, a_writer = await connect(service)
    names = [a_name]
    writers = [a_writer]
    for _ in range(5):
        name, writer = await connect(service)
        names.append(name)
        writers.append(writer)
    assert sorted(names) == [b"a"] * 3 + [b"b"] * 3

    of_a = [writer for name, writer in zip(names, writers, strict=True) if name == b"a"]
    for writer in of_a[:2]:
        writer.close()
        await writer.wait_closed()
    slot = service.board.slots[0]
    async with asyncio.timeout(10):
        while slot.open != 1:  # noqa: ASYNC110 - it changes with the loop, nobody tells
            await asyncio.sleep(0.001)

    again = [(await connect(service)) for _ in range(2)]
    assert [name for name, _ in again] == [b"a", b"a"]
    for writer in [*writers, *(w for _, w in again)]:
        writer.close()


async def test_a_worker_whose_event_loop_stands_gets_nothing(service, monkeypatch):
    service.start()
    monkeypatch.setattr(
        type(service.board.slots[0]),
        "silent_s",
        property(lambda slot: 5.0 if slot is service.board.slots[0] else 0.0),
    )

    connected = [await connect(service) for _ in range(4)]

    assert {name for name, _ in connected} == {b"b"}
    for _, writer in connected:
        writer.close()


async def test_a_worker_that_is_leaving_gets_nothing(service):
    service.start()
    service.board.slots[1].serving(False)

    connected = [await connect(service) for _ in range(3)]

    assert {name for name, _ in connected} == {b"a"}
    for _, writer in connected:
        writer.close()


async def test_what_a_dead_worker_never_took_is_served_by_another(service):
    dead, other = service.workers
    service.start(other)
    other.slot.serving(False)
    caller = socket.create_connection(service.address, timeout=10)
    async with asyncio.timeout(10):
        while dead.given == 0:  # noqa: ASYNC110 - it changes with the loop, nobody tells
            await asyncio.sleep(0.001)

    dead.slot.serving(False)
    other.slot.serving(True)
    service.acceptor.give_again(take_connections(dead.end))

    caller.sendall(b"!")
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, caller.recv, 2) == b"b!"
    caller.close()


async def test_without_a_worker_callers_wait_until_there_is_one(service):
    service.start()
    for slot in service.board.slots:
        slot.serving(False)
    connecting = asyncio.create_task(connect(service))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(connecting), 0.05)

    service.board.slots[1].serving(True)

    name, writer = await connecting
    assert name == b"b"
    writer.close()


def test_nothing_to_take_is_no_connection():
    ours, theirs = connection_pair()
    with ours, theirs:
        assert take_next(theirs) is None
        assert take_connections(theirs) == []


async def test_workers_are_given_a_way_to_each_other(service):
    service.start()
    one, other = service.workers

    introduce(one.connections, 0, other.connections, 1)
    async with asyncio.timeout(10):
        while not (one.met and other.met):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)

    with one.met[1] as ours, other.met[0] as theirs:
        ours.send(b"hello")
        assert theirs.recv(5) == b"hello"
    assert take_connections(one.end) == []
