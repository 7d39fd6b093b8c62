"""The service in one process."""

import socket
from collections.abc import Callable

from service.app import running
from service.processes.plan import WorkerPlan
from service.serving.server import Server
from service.serving.welcome import welcome
from service.settings import LoadedSettings


async def serve_alone(
    loaded: LoadedSettings,
    listener: socket.socket,
    plan: WorkerPlan,
    announce: Callable[[str], None],
) -> None:
    """Serve until a signal, then drain.

    Raises:
        StartupError, InputError, ExperimentInvalid: a part cannot start as configured.
    """
    async with running(loaded) as podium:
        settings = loaded.settings
        server = Server(podium, settings.server)
        host, port = listener.getsockname()[:2]
        announce(welcome(podium, settings, plan, host, port))
        await server.serve(sockets=[listener])
