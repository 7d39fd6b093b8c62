"""A thread that calls engines, and can be replaced while it hangs in a call."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from msgspec import Struct

from service.engines.link import Call

_log = logging.getLogger(__name__)


class Work(Protocol):
    """Something that calls engines and may hang in it."""

    @property
    def call(self) -> Call | None:
        """The call under way."""
        ...

    def proceed(self) -> bool:
        """Do what is left to do; False when the call under way was given up meanwhile."""
        ...

    def give_up(self, call: Call, now: float) -> bool:
        """Declare that a call hangs; False if it came back just now."""
        ...


class _Item(Struct, frozen=True, eq=False):
    work: Work
    then: Callable[[], None]


def proceed(work: Work) -> bool:
    """Let it proceed; an error in our own code must not end the thread that runs it."""
    try:
        return work.proceed()
    except Exception:
        _log.exception("scoring failed in an unexpected way")
        return True


class EngineThread:
    """Runs one thing after the other.

    An executor would do, but the interpreter joins an executor's threads when
    it exits: an engine that hangs would keep the process from ending. And a
    thread that hangs must be replaced, with its work and all that waits behind.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[_Item | None] = SimpleQueue()
        self._current: _Item | None = None
        self._given = self._done = 0
        self._thread = self._start(None)

    @property
    def idle(self) -> bool:
        return self._given == self._done

    @property
    def call(self) -> Call | None:
        """The call of an engine that is under way."""
        current = self._current
        return current.work.call if current is not None else None

    def run(self, work: Work, then: Callable[[], None]) -> None:
        """Let work proceed after all that was given before, then call something on that thread."""
        self._given += 1
        self._waiting.put(_Item(work, then))

    def give_up(self, call: Call, now: float) -> None:
        """Leave the thread to the call that it hangs in; another one takes over, if it does."""
        current = self._current
        if current is not None and current.work.give_up(call, now):
            self._thread = self._start(current)

    def end(self) -> None:
        """Let the thread end when everything has run. A call under way is not waited for."""
        self._waiting.put(None)
        if self.idle:
            self._thread.join()

    def _start(self, first: _Item | None) -> threading.Thread:
        thread = threading.Thread(
            target=self._run, args=(first,), name="podium-engine", daemon=True
        )
        thread.start()
        return thread

    def _run(self, item: _Item | None) -> None:
        while (item := item or self._waiting.get()) is not None:
            self._current = item
            if not proceed(item.work):
                return  # it hung here, and another thread has taken over
            self._current = None
            self._done += 1
            item.then()
            item = None
