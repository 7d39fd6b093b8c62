"""Where the running service is that a verb talks to."""

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.settings import LoadedSettings

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the service listens; http://127.0.0.1:8080 without it.", metavar="URL"
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="The service's settings file, for host and port, instead of --url."),
]
Admin = Annotated[
    str | None,
    typer.Option(
        envvar="PODIUM_API_KEY",
        help="API key with the scope `admin`; none is needed on loopback without keys.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The service's JSON answer as it is.")]

_HERE = "http://127.0.0.1:8080"


def address(url: str | None, config: Path | None) -> str:
    """The service's base URL.

    Raises:
        BadParameter: two were given.
        StartupError: the settings cannot be read.
    """
    if url is not None and config is not None:
        raise typer.BadParameter("--url and --config exclude each other")
    if config is None:
        return url or _HERE
    from service.settings import load_settings

    return address_of(load_settings(config))


def address_of(loaded: "LoadedSettings") -> str:
    """Where a service with these settings can be reached from this machine."""
    server = loaded.settings.server
    return f"http://{_reachable(server.host)}:{server.port}"


def _reachable(host: str) -> str:
    """A name that a URL takes for where a server listens; for all of its addresses, loopback."""
    try:
        listens = ip_address(host)
    except ValueError:
        return host
    at = str(listens)
    if listens.is_unspecified:
        at = "127.0.0.1" if listens.version == 4 else "::1"
    return f"[{at}]" if listens.version == 6 else at
