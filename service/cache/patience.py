"""A time-out that does not blame the other side for our own slowness.

A reply that waits in the socket while the event loop is busy with other
requests is not late. A plain timer says it is: under load it would fire first,
every lookup would fail, the failures would make more work, and the cache would
be left alone because *we* are busy. So the time is counted in steps, and a
step counts once however long the loop took to come round: between two steps
the loop has looked at its sockets.
"""

import asyncio
from types import TracebackType
from typing import Self

STEPS = 4
"""A command needs two or three turns of the loop: written, its reply read, its caller resumed."""


class Patience:
    """Raises `TimeoutError` after a time in which the event loop was free to notice a reply.

    On an idle loop that is `seconds`; on a busy one, at least `STEPS` of its turns.
    """

    def __init__(self, seconds: float) -> None:
        self._step_s = seconds / STEPS
        self._steps_left = STEPS
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._step_s, self._step)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left:
            self._timer = self._loop.call_later(self._step_s, self._step)
        else:
            self._timeout.reschedule(self._loop.time())
