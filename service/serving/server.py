"""uvicorn as Podium runs it: a signal is a request to drain, not a death."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvicorn

from service.app import Podium
from service.health import Health
from service.serving.listener import BACKLOG
from service.serving.signals import signals
from service.settings import ServerSettings

LAST_WORDS_S = 1.0
"""For requests that the drain limit cuts off, to say so to their callers."""
CLOSE = (b"connection", b"close")
KEEP_ALIVE_S = 75
"""How long a connection may be quiet: longer than the minute after which load balancers close
theirs, so that it is never we who close one that a request is on its way through."""


class Server(uvicorn.Server):
    """Serves until it is told to stop; then requests under way are finished."""

    def __init__(self, podium: Podium, settings: ServerSettings) -> None:
        super().__init__(_config(podium, settings))
        self._health: Health = podium.health
        self._notice_s = settings.drain_notice_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        notice = partial(self.drain, self._notice_s)
        with signals({signal.SIGTERM: notice, signal.SIGINT: self.drain}):
            yield

    def drain(self, notice_s: float = 0.0) -> None:
        """Say so at once, and stop accepting when those who look had time to see it."""
        self.say_draining()
        asyncio.get_running_loop().call_later(notice_s, self.stop_soon)

    def say_draining(self) -> None:
        """From now on new traffic should go elsewhere.

        Callers that keep their connection leave it with their next reply: one
        that is closed in the end may have a request on its way, which is lost.
        """
        self._health.drain()
        if CLOSE not in self.config.encoded_headers:
            self.config.encoded_headers.append(CLOSE)  # taken over every second
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]

    def stop_soon(self) -> None:
        """Close idle connections, finish what is under way, and return from `serve`."""
        self.should_exit = True

    def connection(self) -> asyncio.Protocol:
        """The protocol of one more connection, for who has accepted it."""
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # uvicorn does not wait for the requests that it cancels.
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_S)


def _config(podium: Podium, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        podium.asgi,
        http=podium.http,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Said explicitly: by default an environment variable decides whom to believe.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        # Declared as whole seconds, and handed to `asyncio.wait_for`, which takes parts as well.
        timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
    )
