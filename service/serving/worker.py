"""One of several processes that serve: everything but the address and the embedded stores."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from experiments.source import ExperimentInvalid
from ranking_models.errors import InputError
from service.app import Podium, Surroundings, running
from service.errors import StartupError
from service.probes import workers_health
from service.processes.board import Board, Slot
from service.processes.channel import (
    Answers,
    Ask,
    Begin,
    Channel,
    Drain,
    Failed,
    Ready,
    Snapshot,
    Stop,
)
from service.processes.child import end_with_parent
from service.processes.connections import Incoming
from service.processes.crew import Crew
from service.processes.handover import Handover
from service.serving.server import Server
from service.serving.several import longest_end_s
from service.serving.welcome import welcome
from service.settings import LoadedSettings, ServerSettings
from service.stores import AttachedStores, embedded_stores
from service.telemetry.logs import log_what_nobody_catches

BEAT_S = 0.25


def main(
    control: int, lifeline: int, connections: int, board: int, workers: int, number: int
) -> None:
    """Serve what the parent hands over, until it says stop or is gone.

    Args:
        control: Descriptor of the channel to the parent.
        lifeline: Descriptor whose end is the parent's.
        connections: Descriptor of the socket that connections come through.
        board: Descriptor of the shared memory.
        workers: How many there are.
        number: Which one this is, from 0.
    """
    log_what_nobody_catches()
    place = Place(Board(board, workers), number, socket.socket(fileno=connections))
    uvloop.run(_work(socket.socket(fileno=control), lifeline, place))


class Place(NamedTuple):
    """What the parent set up for a worker."""

    board: Board
    number: int
    connections: socket.socket

    @property
    def slot(self) -> Slot:
        return self.board.slots[self.number]


async def _work(control: socket.socket, lifeline: int, place: Place) -> None:
    channel = await Channel.open(control)
    begin = await channel.receive()
    if not isinstance(begin, Begin):  # the parent is gone already
        return
    _name_log_lines(place.number)
    end_with_parent(lifeline, longest_end_s(begin.settings.server))
    crew, orders = Crew(channel), Orders()
    listening = asyncio.create_task(_listen(channel, crew, orders), name="channel")
    try:
        await _serve(begin, place, channel, crew, orders)
    except (StartupError, ExperimentInvalid) as problem:
        channel.send(Failed("startup", str(problem)))
    except InputError as problem:
        channel.send(Failed("input", str(problem)))
    finally:
        listening.cancel()
        await channel.flush()


class Orders:
    """What the parent wants by now; it may want it before the worker can serve."""

    def __init__(self) -> None:
        self.drain, self.stop = asyncio.Event(), asyncio.Event()

    async def obey(self, server: Server) -> None:
        """Carry them out as they come, until cancelled."""
        drain = asyncio.create_task(self.drain.wait())
        stop = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((drain, stop), return_when=asyncio.FIRST_COMPLETED)
            server.say_draining()
            await stop
            server.stop_soon()
        finally:
            drain.cancel()
            stop.cancel()


async def _listen(channel: Channel, crew: Crew, orders: Orders) -> None:
    while (message := await channel.receive()) is not None:
        match message:
            case Ask():
                crew.asked(message)
            case Answers():
                crew.answered(message)
            case Drain():
                orders.drain.set()
            case Stop():
                orders.stop.set()
    crew.alone()
    orders.stop.set()  # the parent is gone, and with it the address


async def _serve(begin: Begin, place: Place, channel: Channel, crew: Crew, orders: Orders) -> None:
    loaded = LoadedSettings(settings=begin.settings, directory=Path(begin.directory))
    handover = Handover(place.board, place.number)
    around = _surroundings(begin, loaded, place, crew, handover)
    async with running(loaded, around) as podium:
        text = welcome(podium, begin.settings, begin.plan, begin.host, begin.port)
        ready = partial(channel.send, Ready(text))
        server = _Server(podium, begin.settings.server, place, handover, ready)
        tell = podium.reporter.keep_telling(lambda figures: channel.send(Snapshot(figures)))
        beside = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("beat", _beat(place.slot)),
                ("figures", tell),
                ("orders", orders.obey(server)),
            )
        ]
        try:
            await server.serve(sockets=[])
            await handover.finish()
        finally:
            for task in beside:
                task.cancel()
        channel.send(Snapshot(await podium.reporter.figures()))


def _surroundings(
    begin: Begin, loaded: LoadedSettings, place: Place, crew: Crew, handover: Handover
) -> Surroundings:
    board, engines = place.board, begin.engines
    return Surroundings(
        fleet=crew,
        stores=AttachedStores(embedded_stores(loaded), lambda: board.stores_down),
        probes={"workers": partial(workers_health, board)},
        handover=handover,
        service=begin.service,
        # The next process in our place adds up at once what we were about to.
        consumer=f"{begin.service}-{place.number}",
        engines=None if engines is None else socket.socket(fileno=engines),
        number=place.number,
    )


class _Server(Server):
    """uvicorn with connections that the parent accepts."""

    def __init__(
        self,
        podium: Podium,
        settings: ServerSettings,
        place: Place,
        handover: Handover,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(podium, settings)
        self._slot, self._ready = place.slot, ready
        self._incoming = Incoming(place.connections, place.slot, self.connection, handover.link)
        # uvicorn keeps the open connections in this set.
        self.server_state.connections = self._incoming.open  # type: ignore[assignment]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._incoming.start()
        self._slot.beat()
        self._slot.serving(True)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._slot.serving(False)
        await self._incoming.stop()
        await super().shutdown(sockets)


async def _beat(slot: Slot) -> None:
    while True:
        slot.beat()
        await asyncio.sleep(BEAT_S)


def _name_log_lines(number: int) -> None:
    """Say in every log line which worker wrote it."""
    make = logging.getLogRecordFactory()

    def named(*facts: Any, **more: Any) -> logging.LogRecord:
        record = make(*facts, **more)
        record.worker = number
        return record

    logging.setLogRecordFactory(named)
