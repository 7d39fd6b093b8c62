"""Runs the app on a socket: bind first, drain on SIGTERM, exit with 0."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from service.app import Podium, running
from service.errors import StartupError
from service.settings import LoadedSettings, ServerSettings

BACKLOG = 2048


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
        server = _Server(
            uvicorn.Config(
                podium.asgi,
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=_whole_seconds(loaded.settings.server.drain_timeout_s),
            ),
            podium,
        )
        host, port = listener.getsockname()[:2]
        sys.stderr.write(welcome(podium, host, port))
        sys.stderr.flush()
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, but a signal is a request to drain, not a death: the exit code is 0."""

    def __init__(self, config: uvicorn.Config, podium: Podium) -> None:
        super().__init__(config)
        self._podium = podium

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self._podium.health.drain()
        self.should_exit = True


def welcome(podium: Podium, host: str, port: int) -> str:
    """What a person needs first: the addresses, and a request that works as printed."""
    address = f"[{host}]" if ":" in host else host
    base = f"http://{address}:{port}"
    lines = [
        f"Podium serves {podium.deployments.summary()}",
        f"  dashboard  {base}/dashboard",
        f"  API        {base}/schema",
        f"  stores     {podium.stores_summary}",
        "",
        "Try it:",
        f"  {podium.deployments.example_request(base)}",
        "",
    ]
    return "\n".join(lines)


def _whole_seconds(seconds: float) -> int:
    return max(1, round(seconds))
