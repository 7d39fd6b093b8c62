"""Runs the app on a socket: bind first, drain on SIGTERM, exit with 0."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop
from litestar.types import ASGIApp

from service.app import Podium, running
from service.errors import StartupError
from service.health import Health
from service.settings import LoadedSettings, ServerSettings

BACKLOG = 2048
LAST_WORDS_S = 1.0
"""For requests that the drain limit cuts off, to say so to their callers."""


def serve_until_stopped(loaded: LoadedSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        StartupError: the address is taken, or a part cannot start as configured.
    """
    # Bind before anything is started: a second `podium serve` must not even
    # touch the state directory of the first.
    listener = bind(loaded.settings.server)
    with contextlib.closing(listener):
        uvloop.run(_serve(loaded, listener))


def bind(settings: ServerSettings) -> socket.socket:
    """A listening socket.

    Raises:
        StartupError: the address is in use or not ours.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartupError(f"cannot listen on {where}: {error.strerror}; see server.host") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"cannot listen on {where}: {error.strerror}; choose another with --port or server.port"
        ) from None
    return listener


async def _serve(loaded: LoadedSettings, listener: socket.socket) -> None:
    async with running(loaded) as podium:
        settings = loaded.settings
        server = _Server(_config(podium.asgi, settings.server), podium.health, settings.server)
        host, port = listener.getsockname()[:2]
        sys.stderr.write(welcome(podium, host, port, needs_key=bool(settings.auth.keys)))
        sys.stderr.flush()
        await server.serve(sockets=[listener])


def _config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Said explicitly: by default an environment variable decides whom to believe.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        backlog=BACKLOG,
        # Declared as whole seconds, and handed to `asyncio.wait_for`, which takes parts as well.
        timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
    )


class _Server(uvicorn.Server):
    """uvicorn, but a signal is a request to drain, not a death: the exit code is 0."""

    def __init__(self, config: uvicorn.Config, health: Health, settings: ServerSettings) -> None:
        super().__init__(config)
        self._health = health
        self._notice_s = settings.drain_notice_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain, self._notice_s)
        loop.add_signal_handler(signal.SIGINT, self._drain, 0.0)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # uvicorn does not wait for the requests that it cancels.
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_S)

    def _drain(self, notice_s: float) -> None:
        """Say so at once, and stop accepting when those who look had time to see it."""
        self._health.drain()
        asyncio.get_running_loop().call_later(notice_s, self._stop_accepting)

    def _stop_accepting(self) -> None:
        self.should_exit = True


def welcome(podium: Podium, host: str, port: int, *, needs_key: bool) -> str:
    """What a person needs first: the addresses, and a request that works as printed.

    Args:
        podium: What is served.
        host: Where.
        port: Where.
        needs_key: Requests need an API key; the printed one takes it from the shell.
    """
    address = f"[{host}]" if ":" in host else host
    base = f"http://{address}:{port}"
    key = ' -H "Authorization: Bearer $PODIUM_API_KEY"' if needs_key else ""
    lines = [
        f"Podium serves {podium.deployments.summary()}",
        f"  dashboard  {base}/dashboard",
        f"  API        {base}/schema",
        f"  stores     {podium.stores_summary}",
        "",
        "Try it:",
        f"  {podium.deployments.example_request(base)}{key}",
        "",
    ]
    return "\n".join(lines)
