"""The fleet of a service that runs in several processes: a worker's side, and the parent's."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from service.fleet import ASK_LIMIT_S, Handler
from service.processes.channel import Answer, Answers, Ask, Channel
from service.processes.figures import FIGURES, Figures

_log = logging.getLogger(__name__)


class Crew:
    """The fleet, seen from one worker: it asks the others through the parent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handlers: dict[str, Handler] = {}
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[tuple[bytes, ...]]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def on(self, command: str, handler: Handler) -> None:
        self._handlers[command] = handler

    async def ask(
        self, command: str, payload: bytes = b"", *, limit_s: float = ASK_LIMIT_S
    ) -> list[bytes]:
        own = await self._handlers[command](payload)
        number = next(self._numbers)
        answers = asyncio.get_running_loop().create_future()
        self._asked[number] = answers
        try:
            self._channel.send(Ask(number, command, payload, own, limit_s))
            return [own, *await answers]
        finally:
            del self._asked[number]

    def asked(self, ask: Ask) -> None:
        """Answer another worker's question."""
        task = asyncio.get_running_loop().create_task(self._answer(ask))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def answered(self, answers: Answers) -> None:
        """Hand the others' answers to whoever asked."""
        future = self._asked.get(answers.number)
        if future is not None and not future.done():
            future.set_result(answers.payloads)

    def alone(self) -> None:
        """The parent is gone: nobody else answers."""
        for future in self._asked.values():
            if not future.done():
                future.set_result(())

    async def _answer(self, ask: Ask) -> None:
        payload = None
        try:
            payload = await self._handlers[ask.command](ask.payload)
        except Exception:
            _log.exception("the command %r of another worker failed here", ask.command)
        self._channel.send(Answer(ask.number, payload))


class Member(Protocol):
    """A worker, as the switchboard knows it."""

    @property
    def channel(self) -> Channel: ...


class Switchboard:
    """The parent's side: passes commands on, and their answers back."""

    def __init__(self, members: Callable[[], Sequence[Member]], figures: Figures) -> None:
        """Prepare.

        Args:
            members: The workers that are up.
            figures: Of all workers; the parent adds them to the answers.
        """
        self._members = members
        self._figures = figures
        self._numbers = itertools.count(1)
        self._awaited: dict[int, tuple[Member, asyncio.Future[bytes | None]]] = {}
        self._passing_on: set[asyncio.Task[None]] = set()

    def asked(self, asker: Member, ask: Ask) -> None:
        """Ask all others, then answer."""
        if ask.command == FIGURES:
            self._figures.told(asker, ask.own)
        task = asyncio.get_running_loop().create_task(self._pass_on(asker, ask))
        self._passing_on.add(task)
        task.add_done_callback(self._passing_on.discard)

    def answered(self, answer: Answer) -> None:
        self._settle(answer.number, answer.payload)

    def gone(self, member: Member) -> None:
        """A worker has ended: it answers no more."""
        for number, (awaited, _) in list(self._awaited.items()):
            if awaited is member:
                self._settle(number, None)

    async def _pass_on(self, asker: Member, ask: Ask) -> None:
        awaited = [self._send(other, ask) for other in self._others(asker)]
        if awaited:
            await asyncio.wait(awaited.copy(), timeout=ask.limit_s)
        for future in awaited:
            if not future.done():
                _log.warning("a worker did not answer %r in %g s", ask.command, ask.limit_s)
                future.set_result(None)
        if ask.command == FIGURES:
            answers = self._all_figures(asker)
        else:
            answers = [answer for future in awaited if (answer := future.result()) is not None]
        asker.channel.send(Answers(ask.number, tuple(answers)))

    def _send(self, other: Member, ask: Ask) -> asyncio.Future[bytes | None]:
        number = next(self._numbers)
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._awaited[number] = other, future
        future.add_done_callback(lambda _: self._awaited.pop(number))
        if ask.command == FIGURES:
            future.add_done_callback(lambda done: self._figures.told(other, done.result()))
        other.channel.send(Ask(number, ask.command, ask.payload))
        return future

    def _settle(self, number: int, payload: bytes | None) -> None:
        awaited = self._awaited.get(number)
        if awaited is not None and not awaited[1].done():
            awaited[1].set_result(payload)

    def _all_figures(self, asker: Member) -> list[bytes]:
        """Of those that are up now, the newest we have, and of all that ended: nothing twice."""
        return [*self._figures.of(self._others(asker)), self._figures.own()]

    def _others(self, asker: Member) -> Iterable[Member]:
        return [member for member in self._members() if member is not asker]
