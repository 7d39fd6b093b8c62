"""The address, taken before anything else."""

import socket

from service.errors import StartupError
from service.settings import ServerSettings

BACKLOG = 2048


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
