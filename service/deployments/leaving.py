"""How a version leaves: when nobody holds it any more, its engines are closed."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Iterable

from service.deployments.deployment import Deployment
from service.deployments.loading import Scoring
from service.heap import settle_again

LONGEST_REQUEST_S = 11.0
"""The longest timeout that a request can have, and a second more: whoever still held a deployment
then has been told that he was too late."""
CLOSE_AGAIN_S = 1.0
_log = logging.getLogger(__name__)


class Held:
    """Tells when nobody holds some deployments any more. Holds none itself."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self.released = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._left = 0
        for deployment in deployments:
            self._left += 1
            weakref.finalize(deployment, self._tell, loop).atexit = False

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        # From whatever thread, and maybe after the loop has closed: then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._one_less)

    def _one_less(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.released.set()


async def leave(held: Held, unused: Iterable[Scoring]) -> None:
    """Close engines when the last request that began before the switch has ended."""
    try:
        async with asyncio.timeout(LONGEST_REQUEST_S):
            await held.released.wait()
    except TimeoutError:
        settle_again()  # a failed request and its exception hold each other, and what was asked
        await asyncio.sleep(0)  # those who left say so on the loop's next turn
        if not held.released.is_set():
            _log.warning("somebody holds a deployment for longer than a request can take")
    await closed(unused)


async def closed(unused: Iterable[Scoring]) -> None:
    """Score what is queued, then close the engines."""
    await asyncio.gather(*(_close_one(scoring) for scoring in unused))
    settle_again()


async def _close_one(scoring: Scoring) -> None:
    await scoring.batcher.stop()
    # A call that hangs tells nobody when it comes back.
    while not scoring.loaded.close():  # noqa: ASYNC110
        await asyncio.sleep(CLOSE_AGAIN_S)
