"""Whether a running service takes traffic: for health checks of containers, so with few imports."""

import http.client
from urllib.parse import urlsplit

import msgspec

from service.addresses import address_problem
from service.health import Readiness

PATIENCE_S = 5.0


class Unready(Exception):
    """The service takes no traffic, or nothing answers."""

    def __init__(self, reason: str, *, is_podium: bool) -> None:
        self.is_podium = is_podium
        super().__init__(reason)


def ask_ready(url: str) -> Readiness:
    """Ask a service once.

    Raises:
        Unready: it takes no traffic, with the reason in a line.
    """
    if problem := address_problem(url):
        raise Unready(problem, is_podium=False)
    try:
        body = _body(url)
        reply = msgspec.json.decode(body, type=Readiness)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, (msgspec.MsgspecError, UnicodeDecodeError)):
            raise Unready(f"{url}: the answer is not Podium's", is_podium=False) from None
        raise Unready(
            f"no answer from {url} ({type(error).__name__}: {error})", is_podium=False
        ) from None
    if not reply.takes_traffic:
        raise Unready(f"{url}: {reply.status}{_why(reply)}", is_podium=True)
    return reply


def _body(url: str) -> bytes:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health/ready")
        return connection.getresponse().read(1_000_000)
    finally:
        connection.close()


def _why(reply: Readiness) -> str:
    ill = [
        f"{name} is {part.status}{f' ({part.detail})' if part.detail else ''}"
        for name, part in reply.components.items()
        if part.status != "ok"
    ]
    return f": {', '.join(ill)}" if ill else ""
