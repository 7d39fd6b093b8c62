"""The parent: what its workers' starts and ends make it do. The workers here are real processes."""

import asyncio
import logging
import socket
import textwrap

import msgspec
import pytest

from ranking_models.errors import InputError
from service.errors import StartupError
from service.processes import supervisor
from service.processes.channel import Begin
from service.processes.plan import WorkerPlan
from service.processes.supervisor import Supervisor
from service.settings import Settings

HEAD = """
import os, signal, socket, struct, sys, time
import msgspec
from service.processes.board import Board
from service.processes.channel import Failed, Ready, Stop

def main(control, lifeline, connections, board, workers, number):
    channel = socket.socket(fileno=control)
    slot = Board(board, workers).slots[number]
    def send(message):
        frame = msgspec.msgpack.encode(message)
        channel.sendall(struct.pack("<I", len(frame)) + frame)
    def serve():
        slot.beat()
        slot.serving(True)
        send(Ready(f"welcome from {number}"))
    def until_stopped():
        while True:
            (length,) = struct.unpack("<I", channel.recv(4, socket.MSG_WAITALL))
            if msgspec.msgpack.decode(channel.recv(length, socket.MSG_WAITALL))["type"] == "Stop":
                return
"""


@pytest.fixture
def of_workers(tmp_path, monkeypatch):
    """Makes a supervisor whose workers do as told in a few lines of Python."""
    monkeypatch.setattr(supervisor, "WORKER_MODULE", "worker_of_a_test")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    begin = Begin(
        settings=msgspec.convert({"deployments": {"d": {"model": "m"}}}, Settings),
        directory="/",
        host="127.0.0.1",
        port=1,
        plan=WorkerPlan(workers=2, why="a test"),
        service="a-test",
    )
    listeners = []

    def make(body, *, workers=2, stop_limit_s=20.0):
        program = HEAD + textwrap.indent(textwrap.dedent(body), "    ")
        (tmp_path / "worker_of_a_test.py").write_text(program)
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        return Supervisor(
            begin,
            listeners[-1],
            workers=workers,
            stores_down=lambda: 0,
            stop_limit_s=stop_limit_s,
        )

    yield make
    for listener in listeners:
        listener.close()


async def test_it_announces_once_all_serve_and_ends_when_it_is_drained(of_workers):
    parent = of_workers("serve(); until_stopped()")
    announced = []

    def announce(welcome):
        announced.append(welcome)
        parent.drain(0.0)

    async with asyncio.timeout(30):
        await parent.run(announce)

    assert len(announced) == 1
    assert announced[0].startswith("welcome from")


@pytest.mark.parametrize(("kind", "error"), [("startup", StartupError), ("input", InputError)])
async def test_a_worker_that_cannot_start_as_configured_ends_it_at_once(of_workers, kind, error):
    parent = of_workers(f'send(Failed("{kind}", "no such model"))')

    with pytest.raises(error, match=r"^no such model$"):
        async with asyncio.timeout(30):
            await parent.run(pytest.fail)


async def test_three_ends_in_a_row_before_a_worker_could_serve_end_it(of_workers, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    parent = of_workers(
        f'open("{tmp_path}/starts", "a").write("x")\nos.kill(os.getpid(), signal.SIGKILL)',
        workers=1,
    )

    with pytest.raises(StartupError, match=r"3 times in a row .* signal 9"):
        async with asyncio.timeout(30):
            await parent.run(pytest.fail)

    assert (tmp_path / "starts").read_text() == "xxx"


async def test_while_another_serves_a_worker_that_keeps_dying_does_not_end_it(of_workers, tmp_path):
    # Worker 1 serves until the start is complete, and then never again.
    starts, announced = tmp_path / "starts", tmp_path / "announced"
    parent = of_workers(
        f"""
        if number == 0:
            serve(); until_stopped()
        elif not os.path.exists("{announced}"):
            serve()
            while not os.path.exists("{announced}"):
                time.sleep(0.001)
        else:
            open("{starts}", "a").write("x")
        sys.exit(3)
        """
    )
    running = asyncio.create_task(parent.run(lambda _: announced.touch()))
    async with asyncio.timeout(30):
        while not starts.exists() or len(starts.read_text()) < 4:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)

    assert not running.done()
    parent.drain(0.0)
    async with asyncio.timeout(30):
        await running


async def test_a_worker_that_does_not_end_is_killed(of_workers, caplog):
    caplog.set_level(logging.ERROR)
    parent = of_workers("serve(); time.sleep(600)", stop_limit_s=0.2)

    async with asyncio.timeout(30):
        await parent.run(lambda _: parent.drain(0.0))

    assert "killed after 0.2 s" in caplog.text


async def test_a_worker_whose_event_loop_stands_is_killed(of_workers, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(supervisor, "HUNG_S", 0.2)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)
    parent = of_workers("serve(); until_stopped()", workers=1)
    running = asyncio.create_task(parent.run(lambda _: None))

    async with asyncio.timeout(30):
        while "killed by signal 9" not in caplog.text:  # noqa: ASYNC110 - a log line
            await asyncio.sleep(0.01)

    assert "a worker hangs" in caplog.text
    parent.drain(0.0)
    async with asyncio.timeout(30):
        await running


async def test_a_machine_without_room_for_a_worker_is_told_in_one_line(of_workers, monkeypatch):
    async def no_room(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "launch", no_room)
    parent = of_workers("serve()")

    with pytest.raises(StartupError, match=r"cannot be started: Resource temporarily unavailable"):
        async with asyncio.timeout(30):
            await parent.run(pytest.fail)
