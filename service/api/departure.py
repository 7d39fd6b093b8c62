"""Whether anybody still waits for a reply."""

from typing import Any

from litestar import Request


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
