"""``podium serve``: the service, until SIGTERM."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file (TOML). Without it: the demonstration.", metavar="FILE"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 picks a free one.", min=0, max=65_535)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that serve; 0: as suits the machine.", min=0, max=256),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Redis or Valkey in place of the embedded servers.")
    ] = None,
    state_directory: Annotated[
        Path | None, typer.Option(help="Embedded servers, signing key and spool.", metavar="DIR")
    ] = None,
) -> None:
    """Serve rankings over HTTP.

    Example: podium serve --config podium.toml --port 8080
    """
    from service.serving import serve_until_stopped
    from service.settings import demo_settings_file, load_settings

    flags: dict[tuple[str, ...], object] = {
        ("server", "host"): host,
        ("server", "port"): port,
        ("server", "workers"): workers,
        ("redis", "url"): redis_url,
        ("state_directory",): str(state_directory.absolute()) if state_directory else None,
    }
    loaded = load_settings(
        config or demo_settings_file(),
        flags={path: value for path, value in flags.items() if value is not None},
    )
    serve_until_stopped(loaded)
