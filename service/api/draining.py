"""What the end of a drain cuts off still gets an answer."""

import asyncio
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service.api.open_inference import is_open_inference, refusal
from service.api.problems import from_ranking_error
from service.errors import NotReady
from service.health import Health


class Draining:
    """Wraps an application: requests that a drain cancels are answered with 503.

    The server would answer 500 in plain text and log a stack for each. A reply
    that had begun cannot be taken back: there the connection is closed.
    """

    def __init__(self, app: ASGIApp, health: Health) -> None:
        self._app = app
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except asyncio.CancelledError:
            if not self._health.is_draining or scope["type"] != ScopeType.HTTP:
                raise
            if not has_begun:
                await _refuse(scope, receive, send)


def shutting_down() -> NotReady:
    """What those are told whom the end of a drain cuts off."""
    return NotReady("this server is shutting down")


async def _refuse(scope: HTTPScope, receive: Receive, send: Send) -> None:
    request: Request[Any, Any, Any] = Request(scope, receive, send)
    in_words_of = refusal if is_open_inference(scope["path"]) else from_ranking_error
    answer = in_words_of(request, shutting_down())
    await answer.to_asgi_response(None, request)(scope, receive, send)
