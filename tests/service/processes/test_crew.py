"""What one worker asks reaches all others, and their answers come back; figures included."""

import asyncio
import logging
import socket

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.fleet import Alone
from service.processes.channel import Answer, Answers, Ask, Channel, Snapshot
from service.processes.crew import Crew, Switchboard
from service.processes.figures import FIGURES, Figures, Reporter
from service.telemetry.merging import family_snapshot, merged_page


class Member:
    """A worker in this process, with its channel to the switchboard."""

    def __init__(self, channel: Channel, remote: Channel) -> None:
        self.channel = channel
        self.crew = Crew(remote)
        self._remote = remote
        registry = CollectorRegistry()
        self.asked = Counter("asked", "Asked", registry=registry)
        self.reporter = Reporter(lambda: map(family_snapshot, registry.collect()))
        self.crew.on(FIGURES, self.reporter.answer)
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (message := await self._remote.receive()) is not None:
            if isinstance(message, Ask):
                self.crew.asked(message)
            if isinstance(message, Answers):
                self.crew.answered(message)

    def tell(self, figures: bytes) -> None:
        self._remote.send(Snapshot(figures))

    async def die(self) -> None:
        self.listening.cancel()
        await self._remote.close()


class Fleet:
    """Three workers and their parent."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.members: list[Member] = []
        self.switchboard = Switchboard(lambda: self.members, self.figures)
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self) -> Member:
        ours, theirs = socket.socketpair()
        member = Member(await Channel.open(ours), await Channel.open(theirs))
        self.members.append(member)
        self.figures.begun(member)
        self.tasks.append(asyncio.create_task(self._listen(member)))
        return member

    async def _listen(self, member: Member) -> None:
        while (message := await member.channel.receive()) is not None:
            if isinstance(message, Ask):
                self.switchboard.asked(member, message)
            if isinstance(message, Answer):
                self.switchboard.answered(message)
            if isinstance(message, Snapshot):
                self.figures.told(member, message.figures)
        await member.channel.close()
        self.members.remove(member)
        self.switchboard.gone(member)
        self.figures.ended(member)

    async def close(self) -> None:
        for member in list(self.members):
            await member.die()
        await asyncio.gather(*self.tasks)


@pytest.fixture
async def fleet():
    made = Fleet()
    for _ in range(3):
        await made.add()
    yield made
    await made.close()


def asked_total(figures: list[bytes]) -> float:
    page = merged_page(figures, "")[0].decode()
    (line,) = [line for line in page.splitlines() if line.startswith("asked_total ")]
    return float(line.split()[1])


def answering(text: str):
    async def answer(payload: bytes) -> bytes:
        return payload + text.encode()

    return answer


async def test_everybody_answers_and_the_asker_first(fleet):
    for name, member in zip("abc", fleet.members, strict=True):
        member.crew.on("name", answering(name))

    answers = await fleet.members[1].crew.ask("name", b"-")

    assert answers[0] == b"-b"
    assert sorted(answers) == [b"-a", b"-b", b"-c"]


async def test_a_fleet_of_one_answers_itself():
    alone = Alone()
    alone.on("name", answering("only"))

    assert await alone.ask("name", b"the ") == [b"the only"]


async def test_our_own_failure_is_raised_and_another_workers_left_out(fleet, caplog):
    caplog.set_level(logging.ERROR)

    async def fail(_: bytes) -> bytes:
        raise LookupError("no such model")

    fleet.members[0].crew.on("load", fail)
    fleet.members[1].crew.on("load", answering("loaded"))
    fleet.members[2].crew.on("load", answering("loaded"))

    with pytest.raises(LookupError):
        await fleet.members[0].crew.ask("load")
    assert await fleet.members[1].crew.ask("load") == [b"loaded", b"loaded"]
    assert "'load'" in caplog.text


async def test_a_worker_that_dies_while_it_is_asked_has_no_answer(fleet):
    reached = asyncio.Event()

    async def never(_: bytes) -> bytes:
        reached.set()
        await asyncio.Event().wait()
        return b""

    asker, dying, other = fleet.members
    asker.crew.on("slow", answering("asker"))
    dying.crew.on("slow", never)
    other.crew.on("slow", answering("other"))
    asking = asyncio.create_task(asker.crew.ask("slow"))
    await reached.wait()

    await dying.die()

    assert await asking == [b"asker", b"other"]


async def test_a_worker_that_takes_too_long_has_no_answer(fleet):
    async def never(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    asker, slow, other = fleet.members
    asker.crew.on("slow", answering("asker"))
    slow.crew.on("slow", never)
    other.crew.on("slow", answering("other"))

    assert await asker.crew.ask("slow", limit_s=0.02) == [b"asker", b"other"]


async def test_without_the_parent_only_our_own_answer_is_left(fleet):
    member = fleet.members[0]
    member.crew.on("name", answering("own"))
    member.listening.cancel()

    asking = asyncio.create_task(member.crew.ask("name"))
    await asyncio.sleep(0)
    member.crew.alone()

    assert await asking == [b"own"]


async def test_figures_of_all_add_up_whoever_is_asked(fleet):
    for n, member in enumerate(fleet.members, 1):
        member.asked.inc(n)

    for member in fleet.members:
        assert asked_total(await member.crew.ask(FIGURES)) == 6


async def test_what_a_page_showed_never_falls_when_a_worker_dies(fleet):
    asker, dying, _ = fleet.members
    dying.asked.inc(5)
    assert asked_total(await asker.crew.ask(FIGURES)) == 5
    dying.asked.inc(2)  # told to nobody: that is what a kill takes

    await dying.die()
    await fleet.tasks[1]

    assert asked_total(await asker.crew.ask(FIGURES)) == 5
    late = await fleet.add()
    late.asked.inc()
    assert asked_total(await asker.crew.ask(FIGURES)) == 6


async def test_what_the_asker_showed_is_kept_when_it_dies(fleet):
    asker, other, _ = fleet.members
    asker.asked.inc(5)
    assert asked_total(await asker.crew.ask(FIGURES)) == 5

    await asker.die()
    await fleet.tasks[0]

    assert asked_total(await other.crew.ask(FIGURES)) == 5


async def test_what_a_worker_told_unasked_is_kept_when_it_dies(fleet):
    dying, other, _ = fleet.members
    dying.asked.inc(3)
    told = asyncio.Event()

    def tell(figures):
        dying.tell(figures)
        told.set()

    telling = asyncio.create_task(dying.reporter.keep_telling(tell))
    await told.wait()
    telling.cancel()

    await dying.die()
    await fleet.tasks[0]

    assert asked_total(await other.crew.ask(FIGURES)) == 3


async def test_the_parents_own_process_counts_as_well(fleet):
    page = merged_page(await fleet.members[0].crew.ask(FIGURES), "")[0].decode()

    assert "process_cpu_seconds_total" in page
    assert "podium_worker_restarts_total 0.0" in page
