"""``/dashboard/events``: what the page shows, as server-sent events."""

from typing import Any

from litestar import Request, get
from litestar.response import ServerSentEvent

from service.api.access import Access
from service.api.dashboard.watching import Watching
from service.api.given import Given

_LONGEST_NUMBER = 18


@get("/dashboard/events", include_in_schema=False)
async def stream(
    request: Request[Any, Any, Any], watching: Given[Watching], access: Given[Access]
) -> ServerSentEvent:
    """The last ten minutes, or what came after ``Last-Event-ID``; then all that happens."""
    access.require(request, "read")
    watching.admit()
    told = ServerSentEvent(watching.watch(_last(request)))
    told.headers["Cache-Control"] = "no-store"
    told.headers["X-Accel-Buffering"] = "no"  # nginx would keep events until it has a page full
    return told


def _last(request: Request[Any, Any, Any]) -> int | None:
    """The last slot that the page knows; anything that is no number asks for everything."""
    text: str = request.headers.get("last-event-id", "")
    known = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    return int(text) if known else None
