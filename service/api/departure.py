"""Whether anybody still waits for a reply."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from service.errors import ClientGone

T = TypeVar("T")


async def unless_hung_up(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is given up when its caller leaves.

    The body of the request must have been read.

    Raises:
        ClientGone: the caller left first.
        Whatever the work raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _departure(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def has_hung_up(request: Request[Any, Any, Any]) -> bool:
    """Whether the caller is gone, as far as is known now; its body must have been read.

    ASGI tells it to whoever waits for the next message. So the wait is begun, and given up at
    its first step: a server that knows of a disconnect gives it without one.
    """
    waiting: Any = request.receive()
    try:
        waiting.send(None)
    except StopIteration as told:
        return bool(told.value["type"] == "http.disconnect")
    finally:
        waiting.close()
    return False
