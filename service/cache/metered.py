"""The CPU time of one coroutine among others that take turns on a thread."""

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

Result = TypeVar("Result")

SAMPLED: Final = 8
"""To ask for the thread's time at every step costs a microsecond or two: one in so many is
metered."""


class Metered(Generic[Result]):
    """Awaits a coroutine, and adds up what its own steps take; not what others do meanwhile.

    Args:
        coroutine: To be awaited once.
        cpu_s: CPU time that this thread has taken.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Result],
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._coroutine, self._cpu_s = coroutine, cpu_s
        self.took_s = 0.0

    def __await__(self) -> Generator[Any, Any, Result]:
        send, throw, error = self._coroutine.send, self._coroutine.throw, None
        while True:
            began_s = self._cpu_s()
            try:
                waits_for = send(None) if error is None else throw(error)
            except StopIteration as end:
                result: Result = end.value
                return result
            finally:
                self.took_s += self._cpu_s() - began_s
            error = None
            try:
                yield waits_for
            except BaseException as thrown:  # a cancellation is the coroutine's affair
                error = thrown
